import { describe, expect, it } from "vitest";
import { decideReservation, type Reservation, type ReservationFacts } from "./reservation.js";
import { noUsage, type SessionRow } from "./session.js";

const key = { scope: "acme", externalId: "chat", provider: "claude" };
const now = 1_000_000;

const request: Reservation = {
  key,
  aliases: [],
  internal: false,
  scopeResetPolicy: { idleMs: 1000 },
  workspace: "",
  labels: {},
};

const fresh: SessionRow = {
  recordNo: 1,
  key,
  sessionId: "old",
  nativeId: "native",
  nativeState: "bound",
  generation: 3,
  createdAtMs: 0,
  startedAtMs: 0,
  lastActivityMs: now,
  turnCount: 7,
  usage: noUsage,
  agentTotal: { costUsd: 1 },
  workspace: "",
  pinned: false,
  aliases: [
    { id: "mine", kind: "platform" },
    { id: "resp_1", kind: "response" },
  ],
  labels: {},
  revision: 9,
};
const stale: SessionRow = { ...fresh, lastActivityMs: 1 };
const pruned: SessionRow = { ...fresh, archived: "pruned" };
const owed: SessionRow = { ...fresh, owedRotation: "DAILY", previousSessionId: "older" };

function decide(more: Partial<Reservation>, facts: Partial<ReservationFacts>) {
  return decideReservation(
    { ...request, ...more },
    { clockBelieved: true, nowMs: now, newSessionId: "new", newRecordNo: 2, ...facts },
  );
}

describe("a reservation", () => {
  it.each<[string, Partial<Reservation>, Partial<ReservationFacts>, object]>([
    ["no row", {}, {}, { kind: "created", row: { sessionId: "new", generation: 1, recordNo: 2 } }],
    ["a purged key", {}, { purgedGeneration: 4 }, { kind: "created", reason: "PURGED" }],
    [
      "a purged key, bound to an id",
      { sessionId: "mine" },
      { purgedGeneration: 4 },
      { kind: "explicit", reason: "PURGED" },
    ],
    [
      "the key of a session that followed a purged one",
      {},
      { row: { ...fresh, owedRotation: "PURGED" } },
      { kind: "existing", write: false, reason: "PURGED" },
    ],
    ["a fresh row", {}, { row: fresh }, { kind: "existing", row: fresh, write: false }],
    [
      "a stale row",
      {},
      { row: stale },
      { kind: "rotated", reason: "IDLE", row: { sessionId: "new", generation: 4 } },
    ],
    ["a stale row whose turn runs", {}, { row: stale, busyTurnId: "t" }, { kind: "existing", write: false }],
    [
      "a stale row that was used since",
      {},
      { row: stale, pendingActivityMs: now },
      { kind: "existing", write: false },
    ],
    [
      "a stale row under a clock that jumped",
      {},
      { row: stale, clockBelieved: false },
      { kind: "existing", write: false },
    ],
    ["a policy of the request", { resetPolicy: {} }, { row: stale }, { kind: "existing" }],
    [
      "a pruned row",
      {},
      { row: pruned },
      { kind: "rotated", reason: "PRUNED", replaced: { sessionId: "old" } },
    ],
    [
      "a rotation that was not told to a turn yet",
      {},
      { row: owed },
      { kind: "rotated", reason: "DAILY", row: owed },
    ],
    [
      "aliases and labels are merged",
      { aliases: ["more"], labels: { a: "b" } },
      { row: fresh },
      { kind: "existing", write: true, row: { labels: { a: "b" } } },
    ],
    ["an alias it has", { aliases: ["mine"] }, { row: fresh }, { kind: "existing", write: false }],
    [
      "another workspace",
      { workspace: "other" },
      { row: fresh },
      { kind: "refused", reason: "WORKSPACE_MISMATCH" },
    ],
    [
      "a stale row, for another workspace",
      { workspace: "other" },
      { row: stale },
      { kind: "rotated", row: { workspace: "other" }, replaced: { workspace: "" } },
    ],
    [
      "another generation",
      { expectedGeneration: 2 },
      { row: fresh },
      { kind: "refused", reason: "STALE_GENERATION" },
    ],
    [
      "an explicit id on no row",
      { sessionId: "mine" },
      {},
      { kind: "explicit", row: { sessionId: "mine", generation: 1 } },
    ],
    [
      "the explicit id it has",
      { sessionId: "old" },
      { row: fresh },
      { kind: "explicit", row: fresh, write: false },
    ],
    [
      "another explicit id",
      { sessionId: "mine" },
      { row: fresh },
      { kind: "refused", reason: "STALE_GENERATION" },
    ],
    [
      "another explicit id at the expected generation",
      { sessionId: "mine", expectedGeneration: 3 },
      { row: fresh },
      {
        kind: "explicit",
        row: { sessionId: "mine", generation: 4 },
        replaced: { sessionId: "old", archived: "rotated" },
      },
    ],
    [
      "the same while a turn runs",
      { sessionId: "mine", expectedGeneration: 3 },
      { row: fresh, busyTurnId: "t" },
      { kind: "refused", reason: "SESSION_BUSY" },
    ],
    [
      "the explicit id of the pruned row revives it",
      { sessionId: "old" },
      { row: pruned },
      { kind: "explicit", row: { sessionId: "old", nativeId: "native", generation: 3 } },
    ],
    ["internal on no row", { internal: true }, {}, { kind: "ephemeral", sessionId: "new" }],
    ["internal on a stale row", { internal: true }, { row: stale }, { kind: "ephemeral" }],
    ["internal on a fresh row", { internal: true }, { row: fresh }, { kind: "existing", write: false }],
  ])("%s", (_, more, facts, expected) => {
    expect(decide(more, facts)).toMatchObject(expected);
  });

  it("clears what belongs to the agent's conversation when it rotates, and keeps the old row's answers with it", () => {
    const decision = decide({}, { row: stale });
    if (decision.kind !== "rotated") throw new Error(decision.kind);
    expect(decision.row).toMatchObject({
      nativeState: "unbound",
      turnCount: 0,
      agentTotal: {},
      previousSessionId: "old",
      aliases: [{ id: "mine", kind: "platform" }],
    });
    expect(decision.row).not.toHaveProperty("nativeId");
    expect(decision.replaced).toMatchObject({
      archived: "rotated",
      nativeId: "native",
      aliases: [{ id: "resp_1", kind: "response" }],
    });
  });
});
