/**
 * What a reservation does to the row of its key. Every store asks this function
 * inside the transaction that writes the answer.
 */
import { judgeFreshness } from "./freshness.js";
import type { SessionKey } from "./key.js";
import { type Refusal, refuse } from "./refusal.js";
import { type Alias, noUsage, type ResetPolicy, type RotationReason, type SessionRow } from "./session.js";

export interface Reservation {
  readonly key: SessionKey;
  /** Asked for by the caller. */
  readonly sessionId?: string | undefined;
  readonly expectedGeneration?: number | undefined;
  /** Platform aliases. */
  readonly aliases: readonly string[];
  readonly internal: boolean;
  /** Overrides the scope's, and is kept with the row. */
  readonly resetPolicy?: ResetPolicy | undefined;
  /** In force unless the row or the request has one. */
  readonly scopeResetPolicy: ResetPolicy;
  readonly workspace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly importedKey?: string | undefined;
}

export interface ReservationFacts {
  /** The row that the key points to. */
  readonly row?: SessionRow | undefined;
  /** An archived row of this key with the asked session id. */
  readonly archivedMatch?: SessionRow | undefined;
  /** Generation that a purged row of this key had. */
  readonly purgedGeneration?: number | undefined;
  /** Another live session has the native id of the archived one that would be revived. */
  readonly nativeIdTaken?: boolean;
  /** Activity that is not in the row yet. */
  readonly pendingActivityMs?: number | undefined;
  /** A turn that runs or waits in the key's lane. */
  readonly busyTurnId?: string | undefined;
  /** False while the wall clock cannot be believed: then no age makes a session stale. */
  readonly clockBelieved: boolean;
  readonly nowMs: number;
  readonly newSessionId: string;
  readonly newRecordNo: number;
}

/** A row to write carries revision 0: the store numbers it. */
export type ReservationDecision =
  | {
      readonly kind: "existing";
      readonly row: SessionRow;
      readonly write: boolean;
      readonly reason?: RotationReason;
    }
  | { readonly kind: "created"; readonly row: SessionRow; readonly reason?: RotationReason }
  /** `replaced`, if present, is to be archived; absent, the rotation happened before and is still owed. */
  | {
      readonly kind: "rotated";
      readonly row: SessionRow;
      readonly reason: RotationReason;
      readonly replaced?: SessionRow;
    }
  | {
      readonly kind: "explicit";
      readonly row: SessionRow;
      readonly replaced?: SessionRow;
      readonly revived?: SessionRow;
      readonly write: boolean;
      readonly reason?: RotationReason;
    }
  | { readonly kind: "ephemeral"; readonly sessionId: string }
  | Refusal;

export function decideReservation(request: Reservation, facts: ReservationFacts): ReservationDecision {
  if (request.internal) return decideInternal(request, facts);
  if (request.sessionId !== undefined) return decideExplicit(request, request.sessionId, facts);
  const { row } = facts;
  if (row === undefined) return create(request, facts);
  const stale = staleReason(row, request, facts);
  if (request.expectedGeneration !== undefined && request.expectedGeneration !== row.generation) {
    return staleGeneration(row);
  }
  if (stale !== undefined) return rotate(row, stale, request, facts);
  return keep(row, request);
}

/** The new generation of a row, and the old one as it is archived. */
export function rotateRow(
  row: SessionRow,
  reason: RotationReason,
  next: { readonly sessionId: string; readonly recordNo: number; readonly nowMs: number },
): { readonly row: SessionRow; readonly replaced: SessionRow } {
  const platform = row.aliases.filter((alias) => alias.kind === "platform");
  const { nativeId: _native, archived: _archived, systemDigest: _system, chainHead: _head, ...kept } = row;
  return {
    row: {
      ...kept,
      recordNo: next.recordNo,
      sessionId: next.sessionId,
      nativeState: "unbound",
      generation: row.generation + 1,
      startedAtMs: next.nowMs,
      lastActivityMs: next.nowMs,
      turnCount: 0,
      usage: noUsage,
      agentTotal: {},
      previousSessionId: row.sessionId,
      owedRotation: reason,
      aliases: platform,
      revision: 0,
    },
    replaced: {
      ...row,
      archived: "rotated",
      aliases: row.aliases.filter((alias) => alias.kind !== "platform"),
      revision: 0,
    },
  };
}

function decideInternal(request: Reservation, facts: ReservationFacts): ReservationDecision {
  const { row } = facts;
  if (row !== undefined && staleReason(row, request, facts) === undefined) {
    return otherWorkspace(row, request) ?? { kind: "existing", row, write: false };
  }
  return { kind: "ephemeral", sessionId: facts.newSessionId };
}

function decideExplicit(
  request: Reservation,
  sessionId: string,
  facts: ReservationFacts,
): ReservationDecision {
  const { row } = facts;
  const { archivedMatch } = facts;
  if (row === undefined) {
    if (archivedMatch !== undefined) {
      const generation = (facts.purgedGeneration ?? archivedMatch.generation) + 1;
      return revive(archivedMatch, { generation }, request, facts);
    }
    const { row: created, reason } = create(request, { ...facts, newSessionId: sessionId });
    return { kind: "explicit", row: created, write: true, ...(reason === undefined ? {} : { reason }) };
  }
  if (row.sessionId === sessionId) {
    if (request.expectedGeneration !== undefined && request.expectedGeneration !== row.generation) {
      return staleGeneration(row);
    }
    if (row.archived !== undefined) return revive(row, {}, request, facts);
    const kept = keep(row, request);
    return kept.kind === "existing" ? { ...kept, kind: "explicit" } : kept;
  }
  if (row.archived === undefined) {
    if (request.expectedGeneration !== row.generation) return staleGeneration(row);
    if (facts.busyTurnId !== undefined) return busy(facts.busyTurnId);
  }
  const next = rotateRow(row, "EXPLICIT_RESET", {
    sessionId,
    recordNo: facts.newRecordNo,
    nowMs: facts.nowMs,
  });
  // An explicit binding is announced by its own outcome.
  const { owedRotation: _owed, ...fresh } = inWorkspace(next.row, request);
  if (archivedMatch === undefined) {
    return { kind: "explicit", row: merge(fresh, request) ?? fresh, replaced: next.replaced, write: true };
  }
  const { generation, aliases } = fresh;
  const change = {
    generation,
    previousSessionId: row.sessionId,
    aliases: [...archivedMatch.aliases, ...aliases],
  };
  return revive(archivedMatch, change, request, facts, next.replaced);
}

/** An archived session becomes the key's again, under the rules of Reserve. */
function revive(
  archived: SessionRow,
  change: Partial<Pick<SessionRow, "generation" | "previousSessionId" | "aliases">>,
  request: Reservation,
  facts: ReservationFacts,
  replaced?: SessionRow,
): ReservationDecision {
  if (facts.nativeIdTaken) {
    return refuse("NATIVE_ID_IN_USE", "session_id: another live session has its native id");
  }
  const elsewhere = otherWorkspace(archived, request);
  if (elsewhere !== undefined) return elsewhere;
  const { archived: state, owedRotation, ...kept } = archived;
  const begins = change.generation === undefined ? {} : { startedAtMs: facts.nowMs };
  // A rotation that was owed before has been overtaken; a pruned session goes on as it was.
  const owed = state === "pruned" && owedRotation !== undefined ? { owedRotation } : {};
  const row: SessionRow = {
    ...kept,
    ...owed,
    ...change,
    ...begins,
    lastActivityMs: facts.nowMs,
    revision: 0,
  };
  return {
    kind: "explicit",
    row: merge(row, request) ?? row,
    ...(replaced === undefined ? {} : { replaced }),
    revived: archived,
    write: true,
  };
}

function create(
  request: Reservation,
  facts: ReservationFacts,
): Extract<ReservationDecision, { kind: "created" }> {
  const row: SessionRow = {
    recordNo: facts.newRecordNo,
    key: request.key,
    sessionId: facts.newSessionId,
    nativeState: "unbound",
    generation: 1,
    createdAtMs: facts.nowMs,
    startedAtMs: facts.nowMs,
    lastActivityMs: facts.nowMs,
    turnCount: 0,
    usage: noUsage,
    agentTotal: {},
    resetPolicy: request.resetPolicy,
    workspace: request.workspace,
    pinned: false,
    importedKey: request.importedKey,
    aliases: unique(request.aliases).map((id) => ({ id, kind: "platform" })),
    labels: request.labels,
    revision: 0,
  };
  if (facts.purgedGeneration === undefined) return { kind: "created", row };
  return { kind: "created", row: { ...row, owedRotation: "PURGED" }, reason: "PURGED" };
}

function rotate(
  row: SessionRow,
  reason: RotationReason,
  request: Reservation,
  facts: ReservationFacts,
): ReservationDecision {
  const next = rotateRow(row, reason, {
    sessionId: facts.newSessionId,
    recordNo: facts.newRecordNo,
    nowMs: facts.nowMs,
  });
  const fresh = inWorkspace(next.row, request);
  return { kind: "rotated", row: merge(fresh, request) ?? fresh, reason, replaced: next.replaced };
}

/** A new generation may work elsewhere. */
function inWorkspace(row: SessionRow, { workspace }: Reservation): SessionRow {
  return workspace === "" ? row : { ...row, workspace };
}

function otherWorkspace({ workspace }: SessionRow, request: Reservation): Refusal | undefined {
  if (request.workspace === "" || request.workspace === workspace) return undefined;
  return refuse("WORKSPACE_MISMATCH", `workspace: the session has ${describeWorkspace(workspace)}`, {
    workspace,
  });
}

function keep(row: SessionRow, request: Reservation): ReservationDecision {
  const elsewhere = otherWorkspace(row, request);
  if (elsewhere !== undefined) return elsewhere;
  const merged = merge(row, request);
  const write = merged !== undefined;
  switch (row.owedRotation) {
    case undefined:
      return { kind: "existing", row: merged ?? row, write };
    case "PURGED":
      // The key had a session before, of which nothing is left: CREATED was told to one caller alone.
      return { kind: "existing", row: merged ?? row, write, reason: "PURGED" };
    default:
      return { kind: "rotated", row: merged ?? row, reason: row.owedRotation };
  }
}

/** The row with the request's aliases and labels; undefined if it has them all. */
function merge(row: SessionRow, request: Reservation): SessionRow | undefined {
  if (request.aliases.length === 0 && Object.keys(request.labels).length === 0) return undefined;
  const known = new Set(row.aliases.map((alias) => alias.id));
  const added = unique(request.aliases).filter((id) => !known.has(id));
  const labelled = Object.entries(request.labels).some(([name, value]) => row.labels[name] !== value);
  if (added.length === 0 && !labelled) return undefined;
  return {
    ...row,
    aliases: [...row.aliases, ...added.map((id): Alias => ({ id, kind: "platform" }))],
    labels: { ...row.labels, ...request.labels },
    revision: 0,
  };
}

/** Why the row may not go on; never for its age while a turn runs or waits in it. */
function staleReason(
  row: SessionRow,
  request: Reservation,
  facts: ReservationFacts,
): RotationReason | undefined {
  if (row.archived !== undefined) return "PRUNED";
  if (facts.busyTurnId !== undefined || !facts.clockBelieved) return undefined;
  const policy = request.resetPolicy ?? row.resetPolicy ?? request.scopeResetPolicy;
  const lastActivityMs = Math.max(row.lastActivityMs, facts.pendingActivityMs ?? 0);
  const freshness = judgeFreshness({ startedAtMs: row.startedAtMs, lastActivityMs }, policy, facts.nowMs);
  return freshness.fresh ? undefined : freshness.reason;
}

function staleGeneration(row: SessionRow): Refusal {
  return refuse("STALE_GENERATION", `expected_generation: the session's generation is ${row.generation}`, {
    generation: String(row.generation),
    session_id: row.sessionId,
  });
}

export function busy(turnId: string): Refusal {
  return refuse("SESSION_BUSY", `turn ${turnId} runs or waits in the session`, { turn_id: turnId });
}

function describeWorkspace(name: string): string {
  return name === "" ? "a directory of its own" : `the workspace ${name}`;
}

function unique(ids: readonly string[]): readonly string[] {
  return [...new Set(ids)];
}
