/** Going on from a turn: in its session while that stands there, else in another one. */
import { type Refusal, refuse } from "../../sessions/refusal.js";
import type { SessionRow } from "../../sessions/session.js";
import { hasEnded, type TurnRow } from "../../turns/turn.js";
import type { AfterTurn } from "../../turns/turn-store.js";
import type { Tables } from "./tables.js";

/** Whether the key's session is live and nothing was said in it since the turn. */
export function standsAt(
  tables: Tables,
  current: SessionRow | undefined,
  { recordNo, turnNo }: AfterTurn,
): boolean {
  if (current?.recordNo !== recordNo || current.archived !== undefined) return false;
  for (const [, later] of tables.keysDown("sessionTurns", [recordNo, Number.MAX_SAFE_INTEGER], [recordNo])) {
    if (Number(later) <= turnNo) return true;
    if (isSaid(tables.turn(Number(later)))) return false;
  }
  return true;
}

/** Nobody can be told yet what a turn answers that waits or runs. */
export function unfinishedTurn(tables: Tables, { turnNo }: AfterTurn): Refusal | undefined {
  const turn = tables.turn(turnNo);
  if (turn === undefined || hasEnded(turn.state)) return undefined;
  const { turnId } = turn;
  const message = `turn ${turnId} has not ended, and others go on from it already`;
  return refuse("SESSION_BUSY", message, { turn_id: turnId });
}

/** Turns that failed or were cancelled may be passed over: their callers try again from where they were. */
function isSaid(turn: TurnRow | undefined): boolean {
  return turn?.state === "COMPLETED" || turn?.state === "RUNNING" || turn?.state === "QUEUED";
}
