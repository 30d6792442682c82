/** The writes of the session port, each inside one transaction. */
import { create } from "@bufbuild/protobuf";
import {
  ReplayRecordSchema,
  TombstoneRecordSchema,
} from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { type Binding, decideBinding } from "../../sessions/binding.js";
import type { SessionKey } from "../../sessions/key.js";
import { decidePrune } from "../../sessions/prune.js";
import { type Refusal, refuse } from "../../sessions/refusal.js";
import { busy, decideReservation, type ReservationDecision } from "../../sessions/reservation.js";
import type { SessionRow } from "../../sessions/session.js";
import type {
  Activity,
  PruneCall,
  PruneRow,
  PruneSkip,
  ReserveCall,
  Reserved,
  SessionSelector,
  SessionView,
} from "../../sessions/session-store.js";
import { sealJson, sealMessage, unsealJson, unsealMessage } from "./codec.js";
import { afterAll } from "./schema.js";
import { encodeNumber, type Key, sessionKey } from "./tables.js";
import type { Transaction } from "./transaction.js";

const replayLifeMs = 24 * 3_600_000;

export function reserve(tx: Transaction, call: ReserveCall): Reserved {
  const replay = findReplay(tx, call);
  if (replay !== undefined) return replay;
  const reserved = applyReservation(tx, call);
  if (call.idempotency !== undefined && reserved.kind !== "refused") keepReplay(tx, call, reserved);
  return reserved;
}

/** Decides about the key and writes the answer; the part that Reserve and Dispatch share. */
export function applyReservation(tx: Transaction, call: ReserveCall): Reserved {
  const { key, sessionId } = call.reservation;
  const row = tx.tables.current(key);
  const archivedMatch =
    sessionId === undefined || row?.sessionId === sessionId ? undefined : findArchived(tx, key, sessionId);
  const tombstone = row === undefined ? tx.tables.get("tombstones", sessionKey(key)) : undefined;
  const busyTurnId = tx.tables.busyTurnId(key);
  const decision = decideReservation(call.reservation, {
    ...(row === undefined ? {} : { row }),
    ...(archivedMatch === undefined ? {} : { archivedMatch }),
    ...(tombstone === undefined
      ? {}
      : { purgedGeneration: unsealMessage(TombstoneRecordSchema, tombstone, "tombstones").generation }),
    ...(call.pendingActivityMs === undefined ? {} : { pendingActivityMs: call.pendingActivityMs }),
    ...(busyTurnId === undefined ? {} : { busyTurnId }),
    nowMs: call.nowMs,
    newSessionId: call.newSessionId,
    newRecordNo: tx.next("recordNo"),
  });
  return write(tx, row, decision);
}

export function bind(
  tx: Transaction,
  call: { selector: SessionSelector; binding: Binding },
): SessionView | Refusal {
  const row = resolve(tx, call.selector);
  if ("kind" in row) return row;
  const lane = tx.tables.lane(row.key);
  const busyTurnId = tx.tables.busyTurnId(row.key);
  const owner =
    call.binding.nativeId === undefined ? undefined : nativeIdOwner(tx, row, call.binding.nativeId);
  const decision = decideBinding(row, call.binding, {
    ...(lane.fence === undefined ? {} : { liveFence: lane.fence }),
    ...(busyTurnId === undefined ? {} : { busyTurnId }),
    ...(owner === undefined ? {} : { nativeIdOwner: owner }),
  });
  if (decision.kind === "refused") return decision;
  if (!decision.write) return tx.tables.view(row);
  const taken = findTakenAlias(tx, decision.row, row);
  return taken ?? tx.tables.view(tx.putSession(decision.row, row));
}

export function remove(
  tx: Transaction,
  call: { selector: SessionSelector; expectedGeneration?: number; nowMs: number },
): { kind: "removed"; row: SessionRow; turns: number } | Refusal {
  const row = resolve(tx, call.selector);
  if ("kind" in row) return row;
  if (call.expectedGeneration !== undefined && call.expectedGeneration !== row.generation) {
    return refuse("STALE_GENERATION", `expected_generation: the session's generation is ${row.generation}`, {
      generation: String(row.generation),
    });
  }
  const busyTurnId = row.archived === "rotated" ? undefined : tx.tables.busyTurnId(row.key);
  if (busyTurnId !== undefined) return busy(busyTurnId);
  return { kind: "removed", row, turns: purge(tx, row) };
}

/** One bounded step of a prune: looks at keys of the activity index after a place. */
export interface PruneStep {
  readonly call: PruneCall;
  readonly scope: string;
  readonly provider: string;
  readonly state: "l" | "a";
  readonly after?: Key;
  /** Rows over the cap of the scope that are still to go. */
  readonly overCap: number;
  readonly limit: number;
}

export interface PruneStepResult {
  readonly rows: readonly PruneRow[];
  readonly skipped: readonly PruneSkip[];
  readonly after?: Key;
  readonly done: boolean;
}

const pruneBatch = 200;

export function pruneStep(tx: Transaction, step: PruneStep): PruneStepResult {
  const { call, scope, provider, state } = step;
  const prefix = [scope, provider, state];
  const rows: PruneRow[] = [];
  const skipped: PruneSkip[] = [];
  let after = step.after;
  let seen = 0;
  const entries = [
    ...tx.tables.keysBetween("activity", after ?? prefix, [...prefix, afterAll], pruneBatch + 1),
  ];
  for (const entry of entries) {
    if (after !== undefined && entry.join("\n") === after.join("\n")) continue;
    if (seen >= pruneBatch || rows.length >= step.limit)
      return { rows, skipped, ...place(after), done: false };
    const row = tx.tables.row({ scope, provider, externalId: String(entry[4]) }, Number(entry[5]));
    after = entry;
    seen += 1;
    if (row === undefined) continue;
    const overCap = rows.length + skipped.length < step.overCap;
    const decision = decidePrune(row, laneOf(tx, row), overCap, call);
    if (decision.kind === "keep") return { rows, skipped, ...place(after), done: true };
    if (decision.kind === "skip") skipped.push({ row, reason: decision.reason });
    else {
      rows.push({ row, reason: decision.reason });
      if (!call.dryRun) pruneRow(tx, row, call);
    }
  }
  return { rows, skipped, ...place(after), done: entries.length <= pruneBatch };
}

export function touch(tx: Transaction, activities: readonly Activity[]): void {
  for (const { key, atMs } of activities) {
    const row = tx.tables.current(key);
    if (row === undefined || row.archived !== undefined || row.lastActivityMs >= atMs) continue;
    tx.putSession({ ...row, lastActivityMs: atMs }, row);
  }
}

/** Deletes what hangs on deleted rows, at most `limit` entries; true if nothing is left. */
export function sweepGarbage(tx: Transaction, limit: number): boolean {
  let left = limit;
  for (const { key } of [...tx.tables.all("garbage")]) {
    const recordNo = Number(key);
    for (const entry of [...tx.tables.keysBelow("sessionTurns", [recordNo], left)]) {
      const turnNo = Number(entry[1]);
      for (const event of [...tx.tables.keysBelow("events", [turnNo], left)]) {
        tx.tables.delete("events", event);
        if (--left <= 0) return false;
      }
      const turn = tx.tables.turn(turnNo);
      if (turn !== undefined) tx.tables.delete("turnIds", [turn.key.scope, turn.turnId]);
      tx.tables.delete("turns", turnNo);
      tx.tables.delete("requests", turnNo);
      tx.tables.delete("history", [recordNo, turnNo]);
      tx.tables.delete("sessionTurns", entry);
      if (--left <= 0) return false;
    }
    tx.tables.delete("garbage", recordNo);
  }
  return true;
}

function write(tx: Transaction, before: SessionRow | undefined, decision: ReservationDecision): Reserved {
  switch (decision.kind) {
    case "refused":
      return decision;
    case "ephemeral":
      return { kind: "ephemeral", sessionId: decision.sessionId };
    case "existing": {
      if (!decision.write) return reserved(tx, "EXISTING", decision.row);
      const taken = findTakenAlias(tx, decision.row, before);
      return taken ?? reserved(tx, "EXISTING", tx.putSession(decision.row, before));
    }
    case "created": {
      const taken = findTakenAlias(tx, decision.row, before);
      if (taken !== undefined) return taken;
      tx.tables.delete("tombstones", sessionKey(decision.row.key));
      return reserved(tx, "CREATED", tx.putSession(decision.row, undefined), decision.reason);
    }
    case "rotated": {
      const taken = findTakenAlias(tx, decision.row, before);
      if (taken !== undefined) return taken;
      if (decision.replaced === undefined) {
        const row = decision.row.revision === 0 ? tx.putSession(decision.row, before) : decision.row;
        return reserved(tx, "ROTATED", row, decision.reason);
      }
      tx.putSession(decision.replaced, before);
      return reserved(tx, "ROTATED", tx.putSession(decision.row, undefined), decision.reason);
    }
    case "explicit": {
      if (!decision.write) return reserved(tx, "EXPLICIT", decision.row);
      const taken = findTakenAlias(tx, decision.row, before);
      if (taken !== undefined) return taken;
      tx.tables.delete("tombstones", sessionKey(decision.row.key));
      if (decision.replaced !== undefined) tx.putSession(decision.replaced, before);
      const rival = decision.revived ?? (decision.replaced === undefined ? before : undefined);
      return reserved(tx, "EXPLICIT", tx.putSession(decision.row, rival));
    }
  }
}

function reserved(
  tx: Transaction,
  outcome: "CREATED" | "EXISTING" | "ROTATED" | "EXPLICIT",
  row: SessionRow,
  reason?: SessionRow["owedRotation"],
): Reserved {
  return {
    kind: "reserved",
    outcome,
    ...(reason === undefined ? {} : { reason }),
    view: tx.tables.view(row),
  };
}

/** A platform alias of the row that another live session of the scope and provider has. */
function findTakenAlias(
  tx: Transaction,
  row: SessionRow,
  before: SessionRow | undefined,
): Refusal | undefined {
  const { scope, provider } = row.key;
  const had = new Set(before?.aliases.map((alias) => alias.id));
  for (const alias of row.aliases) {
    if (alias.kind !== "platform" || had.has(alias.id)) continue;
    const owners = tx.tables.byId({ kind: "alias", id: alias.id }, { scopes: [scope], provider }, 16);
    const rival = owners.find((owner) => !sameConversation(owner, row) && hasPlatformAlias(owner, alias.id));
    if (rival !== undefined) {
      return refuse("ALIAS_TAKEN", `aliases: ${JSON.stringify(alias.id)} names another session`, {
        alias: alias.id,
      });
    }
  }
  return undefined;
}

function sameConversation(a: SessionRow, b: SessionRow): boolean {
  return (
    a.key.externalId === b.key.externalId && a.key.provider === b.key.provider && a.key.scope === b.key.scope
  );
}

function hasPlatformAlias(row: SessionRow, id: string): boolean {
  return row.aliases.some((alias) => alias.id === id && alias.kind === "platform");
}

function nativeIdOwner(tx: Transaction, row: SessionRow, nativeId: string): SessionRow | undefined {
  const where = { scopes: ["*"], provider: row.key.provider };
  const owners = tx.tables.byId({ kind: "native-id", id: nativeId }, where, 16);
  return owners.find(
    (owner) =>
      owner.recordNo !== row.recordNo && owner.archived === undefined && owner.workspace === row.workspace,
  );
}

function findArchived(tx: Transaction, key: SessionKey, sessionId: string): SessionRow | undefined {
  const where = { scopes: [key.scope], provider: key.provider };
  return tx.tables
    .byId({ kind: "session-id", id: sessionId }, where, 64)
    .find((row) => row.archived === "rotated" && row.key.externalId === key.externalId);
}

/** The one row a selector names. */
export function resolve(tx: Transaction, selector: SessionSelector): SessionRow | Refusal {
  if (selector.kind === "key") {
    const row = tx.tables.current(selector.key);
    return row ?? refuse("SESSION_NOT_FOUND", "no session has this key");
  }
  const rows = tx.tables.byId({ kind: "session-id", id: selector.sessionId }, selector.where, 2);
  const [row] = rows;
  if (row === undefined) return refuse("SESSION_NOT_FOUND", `no session has the id ${selector.sessionId}`);
  if (rows.length > 1)
    return refuse("AMBIGUOUS_ID", "session_id: it names several sessions; name one by its key");
  return row;
}

function laneOf(tx: Transaction, row: SessionRow): "RUNNING" | "QUEUED" | undefined {
  if (row.archived === "rotated") return undefined;
  const lane = tx.tables.lane(row.key);
  if (lane.runningTurnId !== undefined) return "RUNNING";
  return lane.queuedTurns > 0 ? "QUEUED" : undefined;
}

function pruneRow(tx: Transaction, row: SessionRow, call: PruneCall): void {
  if (call.purge) {
    purge(tx, row);
    return;
  }
  if (row.archived === undefined) tx.putSession({ ...row, archived: "pruned", revision: 0 }, row);
}

/** Deletes a row with its indexes at once, and marks the rest for the sweep. */
function purge(tx: Transaction, row: SessionRow): number {
  tx.deleteSession(row);
  tx.tables.put("garbage", row.recordNo, encodeNumber(row.recordNo));
  if (row.archived !== "rotated") {
    const tombstone = create(TombstoneRecordSchema, { generation: row.generation });
    tx.tables.put("tombstones", sessionKey(row.key), sealMessage(TombstoneRecordSchema, tombstone));
  }
  let turns = 0;
  for (const _ of tx.tables.keysBelow("sessionTurns", [row.recordNo])) turns += 1;
  return turns;
}

function findReplay(tx: Transaction, call: ReserveCall): Reserved | undefined {
  const { idempotency, nowMs } = call;
  if (idempotency === undefined) return undefined;
  const sealed = tx.tables.get("replays", [call.reservation.key.scope, idempotency.key]);
  if (sealed === undefined) return undefined;
  const record = unsealMessage(ReplayRecordSchema, sealed, "replays");
  if (record.expiresAtMs < nowMs) return undefined;
  if (Buffer.compare(record.requestHash, idempotency.requestHash) !== 0) {
    return refuse("IDEMPOTENCY_KEY_REUSED", "idempotency_key: it was used with another request");
  }
  return unsealJson(Buffer.from(record.response), "replays") as Reserved;
}

function keepReplay(tx: Transaction, call: ReserveCall, answer: Reserved): void {
  if (call.idempotency === undefined) return;
  const record = create(ReplayRecordSchema, {
    requestHash: call.idempotency.requestHash,
    response: sealJson(answer),
    expiresAtMs: call.nowMs + replayLifeMs,
    method: "Reserve",
  });
  const place = [call.reservation.key.scope, call.idempotency.key];
  tx.tables.put("replays", place, sealMessage(ReplayRecordSchema, record));
}

function place(after: Key | undefined): { after?: Key } {
  return after === undefined ? {} : { after };
}
