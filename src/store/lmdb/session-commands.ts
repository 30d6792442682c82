/** What callers do to sessions that exist, each inside one transaction. */
import { create } from "@bufbuild/protobuf";
import { TombstoneRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { type Binding, decideBinding } from "../../sessions/binding.js";
import { type Refusal, refuse } from "../../sessions/refusal.js";
import { busy, rotateRow } from "../../sessions/reservation.js";
import type { SessionRow } from "../../sessions/session.js";
import type {
  Activity,
  Removed,
  Reset,
  ScopePattern,
  SessionCall,
  SessionSelector,
  SessionView,
} from "../../sessions/session-store.js";
import { sealMessage } from "./codec.js";
import { findTakenAlias, isForeignNativeId, nativeIdOwner } from "./owners.js";
import { replayed } from "./replays.js";
import { scopeFull } from "./scope-bound.js";
import { encodeNumber, sessionKey } from "./tables.js";
import type { Transaction } from "./transaction.js";

export function bind(
  tx: Transaction,
  call: SessionCall & { readonly binding: Binding; readonly callerScopes: readonly ScopePattern[] },
): SessionView | Refusal {
  return onSession(tx, call, (row) => {
    const lane = tx.tables.lane(row.key);
    const busyTurnId = tx.tables.busyTurnId(row.key);
    const { nativeId } = call.binding;
    const isNew = nativeId !== undefined && nativeId !== row.nativeId;
    if (isNew && isForeignNativeId(tx, row.key.provider, nativeId, call.callerScopes)) {
      // Somebody else's conversation must not be resumed, and who has it is not told.
      return refuse("SESSION_NOT_FOUND", "native_id: it cannot be bound");
    }
    const owner = nativeId === undefined ? undefined : nativeIdOwner(tx, row, nativeId);
    const decision = decideBinding(row, call.binding, {
      ...(lane.fence === undefined ? {} : { liveFence: lane.fence }),
      ...(busyTurnId === undefined ? {} : { busyTurnId }),
      ...(owner === undefined ? {} : { nativeIdOwner: owner }),
    });
    if (decision.kind === "refused") return decision;
    if (!decision.write) return tx.tables.view(row);
    return findTakenAlias(tx, decision.row, row) ?? tx.tables.view(tx.putSession(decision.row, row));
  });
}

export function reset(
  tx: Transaction,
  call: SessionCall & { readonly newSessionId: string; readonly sessionsPerScope?: number },
): Reset | Refusal {
  return onSession(tx, call, (row) => {
    if (row.archived === "rotated") {
      return refuse("ARCHIVED", `session_id: ${row.sessionId} was replaced and cannot be reset`);
    }
    const refused =
      staleGeneration(call, row) ?? notFree(tx, row) ?? scopeFull(tx, row.key.scope, call.sessionsPerScope);
    if (refused !== undefined) return refused;
    const next = rotateRow(row, "EXPLICIT_RESET", {
      sessionId: call.newSessionId,
      recordNo: tx.next("recordNo"),
      nowMs: call.nowMs,
    });
    tx.putSession(next.replaced, row);
    return {
      kind: "reset",
      view: tx.tables.view(tx.putSession(next.row, undefined)),
      previousSessionId: row.sessionId,
    };
  });
}

export function pin(
  tx: Transaction,
  call: SessionCall & { readonly pinned: boolean },
): SessionView | Refusal {
  return onSession(tx, call, (row) => {
    const refused = staleGeneration(call, row);
    if (refused !== undefined) return refused;
    if (row.pinned === call.pinned) return tx.tables.view(row);
    return tx.tables.view(tx.putSession({ ...row, pinned: call.pinned, revision: 0 }, row));
  });
}

export function remove(tx: Transaction, call: SessionCall): Removed | Refusal {
  return replayed<Removed | Refusal>(tx, call.idempotency, call.nowMs, () => {
    const row = resolve(tx, call.selector);
    if ("kind" in row) return row;
    const refused = staleGeneration(call, row) ?? (row.archived === "rotated" ? undefined : notFree(tx, row));
    return refused ?? { kind: "removed", row, turns: purge(tx, row) };
  });
}

export function touch(tx: Transaction, activities: readonly Activity[]): void {
  for (const { key, atMs } of activities) {
    const row = tx.tables.current(key);
    if (row === undefined || row.archived !== undefined || row.lastActivityMs >= atMs) continue;
    tx.putSession({ ...row, lastActivityMs: atMs }, row);
  }
}

/** The one row a selector names. */
export function resolve(tx: Transaction, selector: SessionSelector): SessionRow | Refusal {
  if (selector.kind === "key") {
    const row = tx.tables.current(selector.key);
    // A pruned session is found by its ids alone.
    if (row !== undefined && row.archived === undefined) return row;
    return refuse("SESSION_NOT_FOUND", "no session has this key");
  }
  const rows = tx.tables.byId({ kind: "session-id", id: selector.sessionId }, selector.where, 2);
  const [row] = rows;
  if (row === undefined) return refuse("SESSION_NOT_FOUND", `no session has the id ${selector.sessionId}`);
  if (rows.length > 1)
    return refuse("AMBIGUOUS_ID", "session_id: it names several sessions; name one by its key");
  return row;
}

/** Deletes a row with its indexes at once, and marks the rest for the sweep. */
export function purge(tx: Transaction, row: SessionRow): number {
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

/** Acts on the row once for an idempotency key; the answer must still be current when it is asked for again. */
function onSession<T extends SessionView | Reset>(
  tx: Transaction,
  call: SessionCall,
  act: (row: SessionRow) => T | Refusal,
): T | Refusal {
  let ran = false;
  const answer = replayed<T | Refusal>(tx, call.idempotency, call.nowMs, () => {
    ran = true;
    const row = resolve(tx, call.selector);
    return "kind" in row ? row : act(row);
  });
  if (ran || isRefusal(answer)) return answer;
  const told = "view" in answer ? answer.view.row : answer.row;
  const current = tx.tables.current(told.key);
  if (current?.generation === told.generation && current.sessionId === told.sessionId) return answer;
  return refuse("REPLAY_OUTDATED", "idempotency_key: the session has another generation since", {
    generation: String(current?.generation ?? 0),
  });
}

function isRefusal(answer: SessionView | Reset | Refusal): answer is Refusal {
  return "kind" in answer && answer.kind === "refused";
}

function staleGeneration(call: SessionCall, row: SessionRow): Refusal | undefined {
  if (call.expectedGeneration === undefined || call.expectedGeneration === row.generation) return undefined;
  return refuse("STALE_GENERATION", `expected_generation: the session's generation is ${row.generation}`, {
    generation: String(row.generation),
  });
}

function notFree(tx: Transaction, row: SessionRow): Refusal | undefined {
  const busyTurnId = tx.tables.busyTurnId(row.key);
  return busyTurnId === undefined ? undefined : busy(busyTurnId);
}
