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

/** After this long, a repeat without a turn id is a new turn. */
const retryWindowMs = 10 * 60_000;
/** How many of a session's newest turns are looked at for one. */
export const mostRetried = 10;

/** What makes a repeat the same. */
export type Attempt = Pick<TurnRow, "credential" | "payloadHash">;

/**
 * The turn that a client's repeat without a turn id is about: one that waits or
 * runs, or the session's last if it was answered. One that failed is to be run
 * again (ruling 39).
 *
 * @param turns of the session, newest first
 */
export function earlierTry(turns: readonly TurnRow[], attempt: Attempt, nowMs: number): TurnRow | undefined {
  return turns.find(({ state, credential, payloadHash, createdAtMs }, index) => {
    const counts = state === "QUEUED" || state === "RUNNING" || (index === 0 && state === "COMPLETED");
    return (
      counts &&
      credential === attempt.credential &&
      nowMs - createdAtMs <= retryWindowMs &&
      Buffer.compare(payloadHash, attempt.payloadHash) === 0
    );
  });
}
