/** What the caller that waits for a lane, or holds it, is told. */
import { BrokerError } from "../errors.js";
import type { SessionView } from "../sessions/session-store.js";
import type { ActiveTurn } from "./active-turn.js";
import type { TurnRow } from "./turn.js";
import type { TurnStore } from "./turn-store.js";

export type LaneEvent =
  | { readonly kind: "reserved"; readonly accepted: Uint8Array }
  | { readonly kind: "waiting"; readonly position: number }
  | {
      readonly kind: "granted";
      readonly turn: TurnRow;
      readonly view: SessionView;
      readonly renewBeforeMs: number;
      readonly previousHolderLost: boolean;
    }
  | { readonly kind: "revoked"; readonly deadlineMs: number }
  | { readonly kind: "heartbeat" };

const heartbeatMs = 15_000;

/** Ends when the turn's ending is recorded. @throws BrokerError LANE_TAKEN_OVER, LANE_LOST, LANE_NOT_GRANTED */
export async function* followLane(
  store: TurnStore,
  turn: ActiveTurn,
  signal: AbortSignal,
): AsyncGenerator<LaneEvent> {
  const stream = turn.openLaneStream();
  yield { kind: "reserved", accepted: turn.row.accepted };
  let toldPosition = 0;
  let toldFence = 0;
  let toldRevoked = false;
  while (!signal.aborted) {
    const { granted, heldLane, log } = turn;
    const revokedUntilMs = heldLane?.revokedUntilMs;
    if (turn.laneStream !== stream) {
      throw new BrokerError(
        "LANE_TAKEN_OVER",
        "the same turn was asked for again; that stream has the lane now",
      );
    }
    if (log.ended) {
      await throwUnlessRecorded(store, turn);
      return;
    }
    if (granted !== undefined && heldLane !== undefined && (granted.fence ?? 0) > toldFence) {
      toldFence = granted.fence ?? 0;
      const view = await store.session(granted);
      if (view === undefined) continue;
      const { renewBeforeMs } = heldLane;
      yield {
        kind: "granted",
        turn: granted,
        view,
        renewBeforeMs,
        previousHolderLost: turn.previousHolderLost,
      };
    } else if (toldFence > 0 && revokedUntilMs !== undefined && !toldRevoked) {
      toldRevoked = true;
      yield { kind: "revoked", deadlineMs: revokedUntilMs };
    } else if (toldFence === 0 && log.position > 0 && log.position !== toldPosition) {
      toldPosition = log.position;
      yield { kind: "waiting", position: toldPosition };
    } else if ((await log.changed(signal, heartbeatMs)) === "silent") {
      yield { kind: "heartbeat" };
    }
  }
}

async function throwUnlessRecorded(store: TurnStore, turn: ActiveTurn): Promise<void> {
  const state = (await store.byTurnNo(turn.turnNo))?.state ?? "CANCELLED";
  const metadata = { turn_id: turn.row.turnId, state };
  if (turn.granted === undefined) {
    throw new BrokerError("LANE_NOT_GRANTED", `the turn ended as ${state} before it had the lane`, metadata);
  }
  if (state === "INTERRUPTED") {
    throw new BrokerError("LANE_LOST", "the lane was not renewed in time; end the agent", metadata);
  }
}
