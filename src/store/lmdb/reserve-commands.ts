/** Reservations, each inside one transaction. */
import { TombstoneRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import type { SessionKey } from "../../sessions/key.js";
import { decideReservation, type ReservationDecision } from "../../sessions/reservation.js";
import type { RotationReason, SessionRow } from "../../sessions/session.js";
import type { ReserveCall, Reserved, SessionView } from "../../sessions/session-store.js";
import { unsealMessage } from "./codec.js";
import { findTakenAlias, nativeIdOwner } from "./owners.js";
import { replayed } from "./replays.js";
import { scopeFull } from "./scope-bound.js";
import { sessionKey } from "./tables.js";
import type { Transaction } from "./transaction.js";

export function reserve(tx: Transaction, call: ReserveCall): Reserved {
  return replayed<Reserved>(tx, call.idempotency, call.nowMs, () => applyReservation(tx, call));
}

/** The answer to a reservation that made a session and has nothing to tell besides, as `reserve` gave it. */
export function newSession(
  { reservation, clockBelieved, nowMs, newSessionId }: ReserveCall,
  { recordNo, revision }: { readonly recordNo: number; readonly revision: number },
): Reserved {
  const facts = { clockBelieved, nowMs, newSessionId, newRecordNo: recordNo };
  const decision = decideReservation(reservation, facts);
  if (decision.kind !== "created") throw new TypeError("the reservation made no session");
  return told("CREATED", { row: { ...decision.row, revision }, lane: { queuedTurns: 0 } });
}

/** Decides about the key and writes the answer; the part that Reserve and Dispatch share. */
export function applyReservation(tx: Transaction, call: ReserveCall): Reserved {
  const { key, sessionId } = call.reservation;
  const row = tx.tables.current(key);
  const archivedMatch =
    sessionId === undefined || row?.sessionId === sessionId ? undefined : findArchived(tx, key, sessionId);
  const revivable =
    archivedMatch ?? (row?.archived !== undefined && row.sessionId === sessionId ? row : undefined);
  const nativeIdTaken =
    revivable?.nativeId !== undefined && nativeIdOwner(tx, revivable, revivable.nativeId) !== undefined;
  const tombstone = row === undefined ? tx.tables.get("tombstones", sessionKey(key)) : undefined;
  // No turn outlives its session.
  const busyTurnId = row === undefined ? undefined : tx.tables.busyTurnId(key);
  const newRecordNo = tx.next("recordNo");
  const decision = decideReservation(call.reservation, {
    row,
    archivedMatch,
    purgedGeneration:
      tombstone === undefined
        ? undefined
        : unsealMessage(TombstoneRecordSchema, tombstone, "tombstones").generation,
    nativeIdTaken,
    pendingActivityMs: call.pendingActivityMs,
    busyTurnId,
    clockBelieved: call.clockBelieved,
    nowMs: call.nowMs,
    newSessionId: call.newSessionId,
    newRecordNo,
  });
  // Whatever is decided, only a row that is new has the new number.
  const isNew = "row" in decision && decision.row.recordNo === newRecordNo;
  const full = isNew ? scopeFull(tx, key.scope, call.sessionsPerScope) : undefined;
  return full ?? write(tx, row, decision, call.newSessionId);
}

function write(
  tx: Transaction,
  before: SessionRow | undefined,
  decision: ReservationDecision,
  newSessionId: string,
): Reserved {
  switch (decision.kind) {
    case "refused":
      return decision;
    case "ephemeral":
      return { kind: "ephemeral", sessionId: decision.sessionId };
    case "existing": {
      if (!decision.write) return reserved(tx, "EXISTING", decision.row, decision.reason);
      const taken = findTakenAlias(tx, decision.row, before);
      return taken ?? reserved(tx, "EXISTING", tx.putSession(decision.row, before), decision.reason);
    }
    case "created": {
      const taken = findTakenAlias(tx, decision.row, before);
      if (taken !== undefined) return taken;
      if (decision.reason === "PURGED") tx.tables.delete("tombstones", sessionKey(decision.row.key));
      const row = tx.putSession(decision.row, undefined);
      return told("CREATED", { row, lane: { queuedTurns: 0 } }, decision.reason);
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
      if (!decision.write) return reserved(tx, "EXPLICIT", decision.row, decision.reason);
      const taken = findTakenAlias(tx, decision.row, before);
      if (taken !== undefined) return taken;
      tx.tables.delete("tombstones", sessionKey(decision.row.key));
      if (decision.replaced !== undefined) tx.putSession(decision.replaced, before);
      const rival = decision.revived ?? (decision.replaced === undefined ? before : undefined);
      const answer = reserved(tx, "EXPLICIT", tx.putSession(decision.row, rival), decision.reason);
      return decision.replaced === undefined ? answer : { ...answer, replacedBy: newSessionId };
    }
  }
}

type Existing = Extract<Reserved, { kind: "reserved" }>;

function reserved(
  tx: Transaction,
  outcome: Existing["outcome"],
  row: SessionRow,
  reason?: RotationReason,
): Existing {
  return told(outcome, tx.tables.view(row), reason);
}

function told(outcome: Existing["outcome"], view: SessionView, reason?: RotationReason): Existing {
  return { kind: "reserved", outcome, reason, view };
}

function findArchived(tx: Transaction, key: SessionKey, sessionId: string): SessionRow | undefined {
  const where = { scopes: [key.scope], provider: key.provider };
  let found: SessionRow | undefined;
  // An explicit id may name any number of keys.
  tx.tables.visitOwners({ kind: "session-id", id: sessionId }, where, (row) => {
    if (row.archived === "rotated" && row.key.externalId === key.externalId) found = row;
    return found === undefined;
  });
  return found;
}
