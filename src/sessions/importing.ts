import { withNativeId } from "./binding.js";
import { noUsage, type SessionRow } from "./session.js";
import type { ImportResult, ImportRow } from "./session-store.js";

export interface ImportFacts {
  readonly row?: SessionRow;
  readonly busyTurnId?: string;
  /** A platform alias of the row that names another session. */
  readonly takenAlias?: string;
  /** Another live session, in whatever scope, has the native id. */
  readonly nativeIdTaken: boolean;
  readonly newRecordNo: number;
}

export interface ImportDecision extends ImportResult {
  /** To be written in the place of the row that is there. */
  readonly row?: SessionRow;
}

/**
 * Repeating an import changes nothing. A key that has another session is listed
 * and left alone, unless that one came from another spelling of the same key in
 * the same kind of source and is older: then the freshest spelling stays.
 */
export function decideImport(row: ImportRow, facts: ImportFacts): ImportDecision {
  const { row: present } = facts;
  if (present !== undefined) {
    if (present.sessionId === row.sessionId) return keep(present, row);
    if (!isOlderSpelling(present, row)) {
      return { result: "CONFLICTING", message: `the key has the session ${present.sessionId}` };
    }
  }
  if (facts.busyTurnId !== undefined) {
    return { result: "CONFLICTING", message: `turn ${facts.busyTurnId} runs or waits in the session` };
  }
  if (facts.takenAlias !== undefined) {
    return {
      result: "CONFLICTING",
      message: `the alias ${JSON.stringify(facts.takenAlias)} names another session`,
    };
  }
  const made = make(row, facts);
  const isBound = row.nativeId !== undefined && !facts.nativeIdTaken;
  const notes = [
    ...(present === undefined ? [] : [displaced(present)]),
    ...(row.nativeId === undefined || isBound ? [] : ["without its native id, which cannot be bound"]),
  ];
  return {
    result: "CREATED",
    message: notes.join("; "),
    row: withNativeId(made, isBound ? row.nativeId : undefined),
  };
}

function displaced({ sessionId, importedKey }: SessionRow): string {
  return `in the place of the session ${sessionId} of the older spelling ${JSON.stringify(importedKey)}`;
}

function keep(present: SessionRow, row: ImportRow): ImportDecision {
  if (present.lastActivityMs >= row.lastActivityMs || present.archived !== undefined) {
    return { result: "KEPT", message: "" };
  }
  return { result: "KEPT", message: "", row: { ...present, lastActivityMs: row.lastActivityMs } };
}

function isOlderSpelling(present: SessionRow, row: ImportRow): boolean {
  return (
    present.importedKey !== undefined &&
    present.turnCount === 0 &&
    present.importedKey !== (row.importedKey ?? row.key.externalId) &&
    present.lastActivityMs < row.lastActivityMs
  );
}

function make(row: ImportRow, facts: ImportFacts): SessionRow {
  return {
    recordNo: facts.newRecordNo,
    key: row.key,
    sessionId: row.sessionId,
    nativeState: "unbound",
    generation: (facts.row?.generation ?? 0) + 1,
    createdAtMs: row.createdAtMs,
    startedAtMs: row.startedAtMs,
    lastActivityMs: row.lastActivityMs,
    turnCount: 0,
    usage: noUsage,
    agentTotal: {},
    ...(row.resetPolicy === undefined ? {} : { resetPolicy: row.resetPolicy }),
    workspace: row.workspace,
    pinned: false,
    importedKey: row.importedKey ?? row.key.externalId,
    aliases: [...new Set(row.aliases)].map((id) => ({ id, kind: "platform" })),
    labels: row.labels,
    revision: 0,
  };
}
