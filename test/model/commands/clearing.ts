/** Prune, purge and import. */
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect } from "vitest";
import { PruneResponse_Reason, PruneResponse_SkipReason } from "../../../gen/sessionbroker/v1/admin_pb.js";
import { SessionState } from "../../../gen/sessionbroker/v1/session_pb.js";
import type { IdentityModel } from "../identity/model.js";
import { type KeyShape, keyText, type Row, sameKey } from "../identity/rows.js";
import {
  at,
  type Command,
  command,
  foreignPattern,
  inScope,
  key,
  keyMessage,
  name,
  pick,
  type Real,
  refusedBy,
  rowName,
  type State,
  settle,
  stateOf,
} from "./command.js";
import { chats, hourMs, nativeIds, openclaw } from "./setting.js";

export const providers = fc.constantFrom("", "", "", "echo", "slow", "codex");

export const clearing: fc.Arbitrary<Command>[] = [
  command(
    "Prune",
    {
      scope: fc.constantFrom("", chats, openclaw, "acme/*"),
      provider: providers,
      olderThanMs: fc.option(fc.constantFrom(1, hourMs, 24 * hourMs), { nil: undefined }),
      maxSessions: fc.option(fc.constantFrom(1, 2), { nil: undefined }),
      states: fc.constantFrom<State[]>([], [], [], ["RESERVED"], ["ACTIVE"]),
      dryRun: fc.boolean(),
      purge: fc.boolean(),
      limit: fc.constantFrom(0, 0, 1, 2),
    },
    prune,
  ),
  command("Purge", { olderThanMs: fc.constantFrom(1, hourMs) }, (c, m, r) =>
    prune(
      {
        ...c,
        scope: "",
        provider: "",
        maxSessions: undefined,
        states: [],
        dryRun: false,
        purge: true,
        limit: 0,
      },
      m,
      r,
    ),
  ),
  command(
    "Import",
    {
      keys: fc.uniqueArray(key, { minLength: 1, maxLength: 3, selector: keyText }),
      id: pick,
      nativeId: fc.option(pick, { nil: undefined }),
    },
    importRows,
  ),
];

async function prune(
  c: {
    readonly scope: string;
    readonly provider: string;
    readonly olderThanMs: number | undefined;
    readonly maxSessions: number | undefined;
    readonly states: readonly State[];
    readonly dryRun: boolean;
    readonly purge: boolean;
    readonly limit: number;
  },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  await settle(m, r);
  const states = new Set<State>(
    c.states.length > 0 ? c.states : c.purge ? ["ARCHIVED"] : ["RESERVED", "ACTIVE"],
  );
  // What a cap counts when only some states are looked at is not said.
  const maxSessions = c.states.length > 0 ? undefined : c.maxSessions;
  const olderThanMs = c.olderThanMs ?? (maxSessions === undefined ? hourMs : undefined);
  const call = r.client.prune({
    scope: c.scope,
    provider: c.provider,
    ...(olderThanMs === undefined ? {} : { olderThan: durationFromMs(olderThanMs) }),
    ...(maxSessions === undefined ? {} : { maxSessions }),
    states: c.states.map((state) => SessionState[state]),
    dryRun: c.dryRun,
    purge: c.purge,
    limit: c.limit,
  });
  const foreign = foreignPattern(r, c.scope);
  if (foreign !== undefined) return refusedBy(foreign, call);
  const candidates = m.rows.filter(
    (row) =>
      inScope(c.scope, r, row) &&
      states.has(stateOf(row)) &&
      (c.provider === "" || c.provider === row.key.provider),
  );
  const { due, skipped } = m.prunable(candidates, {
    ...(olderThanMs === undefined ? {} : { olderThanMs }),
    ...(maxSessions === undefined ? {} : { maxSessions }),
  });
  const report = await call;
  const names = new Map([...due].map(([row, reason]) => [rowName(row), reason]));
  const told = report.rows.map((row) => [name(row), PruneResponse_Reason[row.reason]] as const);
  for (const [row, reason] of told) expect([row, reason]).toEqual([row, names.get(row)]);
  const most = c.limit === 0 ? due.size : Math.min(c.limit, due.size);
  expect([new Set(told.map(([row]) => row)).size, told.length]).toEqual([most, most]);
  expect(c.purge ? [report.archived, report.purged] : [report.purged, report.archived]).toEqual([0, most]);
  if (most < due.size) expect(report.more).toBe(true);
  const passed = [...skipped].map(([row, reason]) => `${rowName(row)} ${reason}`);
  const toldPassed = report.skipped.map((row) => `${name(row)} ${PruneResponse_SkipReason[row.reason]}`);
  if (most === due.size && !report.more) {
    expect([...toldPassed].sort()).toEqual([...passed].sort());
    expect(report.skippedTotal).toBe(passed.length);
  }
  for (const skip of toldPassed) expect(passed).toContain(skip);
  if (c.dryRun) return;
  const taken = new Set(told.map(([row]) => row));
  m.together(() => {
    for (const row of [...due.keys()].filter((each) => taken.has(rowName(each)))) {
      if (c.purge) m.purge(row);
      else m.archive(row);
    }
  });
}

async function importRows(
  c: { readonly keys: readonly KeyShape[]; readonly id: number; readonly nativeId: number | undefined },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  await settle(m, r);
  const sessionId = at(["imported-1", "room"], c.id);
  const nativeId = c.nativeId === undefined ? "" : at([...nativeIds, ...m.nativeIds], c.nativeId);
  const chosen = c.keys.filter(
    (key) =>
      !m.rows.some((row) => row.state === "rotated" && row.sessionId === sessionId && sameKey(row.key, key)),
  );
  // No two of them were used at the same time.
  const importedMs = Date.UTC(2025, 0, 1) + m.changes.length * 1000;
  const usedAtMs = (key: KeyShape) => importedMs + chosen.indexOf(key);
  const sessions = chosen.map((key) => ({
    key: { ...keyMessage(key), externalId: key.storeKey },
    sessionId,
    nativeId,
    lastActivityAt: timestampFromMs(usedAtMs(key)),
  }));
  const report = await r.client.importSessions(
    (async function* () {
      for (const session of sessions) yield { session };
    })(),
  );
  const count = { created: 0, kept: 0, conflicting: 0, rejected: 0 };
  m.together(() => {
    for (const key of chosen) count[importRow(m, r, key, { sessionId, nativeId, atMs: usedAtMs(key) })] += 1;
  });
  expect(report).toMatchObject(count);
}

function importRow(
  m: IdentityModel,
  r: Real,
  key: KeyShape,
  {
    sessionId,
    nativeId,
    atMs,
  }: { readonly sessionId: string; readonly nativeId: string; readonly atMs: number },
): "created" | "kept" | "conflicting" | "rejected" {
  if (!r.sees(key.scope)) return "rejected";
  const present = m.current(key);
  if (present !== undefined) {
    if (present.sessionId !== sessionId) return "conflicting";
    if (present.state === "live" && present.activeAtMs < atMs) {
      present.activeAtMs = atMs;
      present.writtenAtMs = atMs;
    }
    return "kept";
  }
  m.sessionIds.add(sessionId);
  const row: Row = {
    key,
    sessionId,
    generation: 1,
    state: "live",
    nativeId: "",
    native: "UNBOUND",
    platform: [],
    former: [],
    labels: {},
    workspace: "",
    startedAtMs: atMs,
    activeAtMs: atMs,
    writtenAtMs: atMs,
    turns: 0,
    pinned: false,
    previous: "",
    imported: true,
    changed: 0,
  };
  m.imported(row, nativeId, r.sees);
  return "created";
}
