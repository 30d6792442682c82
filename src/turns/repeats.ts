/** Turn ids that are asked for again. */
import { type Refusal, refuse } from "../sessions/refusal.js";
import type { TurnRow } from "./turn.js";
import type { Admission, AdmitCall } from "./turn-store.js";

/** What a turn id that is known means to another admission with it. */
export function meetKnown(known: TurnRow, { turnId, payloadHash }: AdmitCall): Admission {
  if (Buffer.compare(known.payloadHash, payloadHash) === 0) return { kind: "repeated", turn: known };
  return idReused(turnId);
}

export function idReused(turnId: string): Refusal {
  return refuse("TURN_ID_REUSED", `turn_id: ${turnId} was used with another target or input`, {
    turn_id: turnId,
  });
}
