/** Turns whose text goes into another turn of their session. */
import { type Refusal, refuse } from "../../sessions/refusal.js";
import type { TurnRow } from "../../turns/turn.js";
import { endedTurn } from "../../turns/turn-rows.js";
import type { AdmitCall, TurnEndCall } from "../../turns/turn-store.js";
import { seal } from "./codec.js";
import { afterAll } from "./schema.js";
import { encodeNumber, sessionKey } from "./tables.js";
import type { Transaction } from "./transaction.js";

/** Bytes of request that one turn may gather. */
const mostBytes = 4 * 1024 * 1024;
/** Turns whose text one turn may take. */
const mostMerges = 64;

/** The turn that takes the call's text; undefined if it is to be a turn of its own. */
export function findMergeTarget(tx: Transaction, call: AdmitCall): TurnRow | Refusal | undefined {
  if (call.onConflict === "COLLECT") return collector(tx, call);
  if (call.onConflict !== "STEER") return undefined;
  const running = laneTurns(tx, call).find((turn) => turn.state === "RUNNING");
  if (running === undefined) return undefined;
  if (!call.canSteer || running.external) {
    return refuse(
      "UNSUPPORTED_BY_PROVIDER",
      `on_conflict: ${running.key.provider} takes no text while it answers; use another policy`,
      { turn_id: running.turnId },
    );
  }
  if (running.mergeKey !== call.mergeKey) {
    return refuse(
      "MERGE_MISMATCH",
      `on_conflict: turn ${running.turnId} runs with another credential, model, system prompt or on_disconnect`,
      { turn_id: running.turnId },
    );
  }
  return running;
}

/** A merged turn waits on its own from now on. Its request may be gone with the turn that took it. */
export function unmerge(
  tx: Transaction,
  { turnNo, request }: { readonly turnNo: number; readonly request: Uint8Array },
): TurnRow | undefined {
  const turn = tx.tables.turn(turnNo);
  if (turn?.state === "QUEUED") return turn;
  if (turn?.state !== "MERGED") return undefined;
  tx.tables.put("requests", turnNo, seal(request));
  return waitAlone(tx, turn);
}

function waitAlone(tx: Transaction, merged: TurnRow): TurnRow {
  const { mergedInto, ...own } = merged;
  const waiting: TurnRow = { ...own, state: "QUEUED" };
  tx.putTurn(waiting, merged);
  if (mergedInto !== undefined) tx.tables.delete("merges", [mergedInto.turnNo, own.turnNo]);
  tx.enterLane(own, 0);
  return waiting;
}

/** Takes a merged turn's text back, while the turn that would have been given it waits. */
export function cancelMerged(tx: Transaction, call: TurnEndCall): boolean {
  const turn = tx.tables.turn(call.turnNo);
  const terminal = call.entries.at(-1);
  if (turn?.state !== "MERGED" || turn.mergedInto === undefined || terminal === undefined) return false;
  if (tx.tables.turn(turn.mergedInto.turnNo)?.state !== "QUEUED") return false;
  const { mergedInto, ...own } = turn;
  tx.putTurn(endedTurn(own, call, terminal), turn);
  tx.tables.delete("merges", [mergedInto.turnNo, turn.turnNo]);
  tx.tables.delete("requests", turn.turnNo);
  return true;
}

export function putMerge(tx: Transaction, into: TurnRow, turnNo: number): void {
  tx.tables.put("merges", [into.turnNo, turnNo], encodeNumber(turnNo));
}

/** The turn needs the requests of merged turns no more; those that it did not take wait on their own. */
export function settleMerges(tx: Transaction, turnNo: number, taken: readonly number[] | undefined): void {
  for (const entry of [...tx.tables.keysBelow("merges", [turnNo])]) {
    const merged = tx.tables.turn(Number(entry[1]));
    const isLeftOver = merged?.onConflict === "STEER" && taken?.includes(merged.turnNo) === false;
    if (isLeftOver) {
      waitAlone(tx, merged);
    } else {
      tx.tables.delete("requests", Number(entry[1]));
      tx.tables.delete("merges", entry);
    }
  }
}

function collector(tx: Transaction, call: AdmitCall): TurnRow | undefined {
  const waiting = laneTurns(tx, call).findLast(
    (turn) =>
      turn.state === "QUEUED" &&
      turn.onConflict === "COLLECT" &&
      turn.mergeKey === call.mergeKey &&
      // A restart drops turns whose id nobody can ask for, and with them what they took.
      (turn.clientChoseId || !call.clientChoseId),
  );
  if (waiting === undefined) return undefined;
  const parts = [
    waiting.turnNo,
    ...[...tx.tables.keysBelow("merges", [waiting.turnNo])].map(([, no]) => Number(no)),
  ];
  const bytes = parts.reduce((sum, turnNo) => sum + (tx.tables.get("requests", turnNo)?.length ?? 0), 0);
  return parts.length < mostMerges && bytes + call.request.length <= mostBytes ? waiting : undefined;
}

/** Turns that wait or run in the session, first come first. */
function laneTurns(tx: Transaction, call: AdmitCall): TurnRow[] {
  const prefix = sessionKey(call.reserve.reservation.key);
  const numbers = [...tx.tables.keysBetween("lanes", prefix, [...prefix, afterAll])].map((key) =>
    Number(key[3]),
  );
  return numbers.map((turnNo) => tx.tables.turn(turnNo)).filter((turn) => turn !== undefined);
}
