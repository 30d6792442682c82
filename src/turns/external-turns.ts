/** Turns whose callers run the agent themselves: what they ask while they wait for the lane and hold it. */
import type { Clock } from "../clock.js";
import { BrokerError } from "../errors.js";
import type { ActiveTurn } from "./active-turn.js";
import { followLane, type LaneEvent } from "./follow-lane.js";
import { HeldLane, letGoWithinMs, type RecordedTurn, turnEnded } from "./held-lane.js";
import { hasEnded, type TurnRow } from "./turn.js";
import type { TurnStore } from "./turn-store.js";

export interface ExternalTurnsDeps {
  readonly store: TurnStore;
  readonly clock: Clock;
  /** The turn in this process. */
  readonly find: (turnNo: number) => Promise<ActiveTurn | undefined>;
  /** A reader of the turn has left. */
  readonly leave: (turn: ActiveTurn) => void;
  /** Resolves when the turn has let go of its lane. */
  readonly over: (turnNo: number) => Promise<void> | undefined;
  /** This process takes no more turns; holders go on without it. */
  readonly draining: () => boolean;
  readonly log: (message: string, error: unknown) => void;
}

export class ExternalTurns {
  constructor(private readonly deps: ExternalTurnsDeps) {}

  /**
   * What the caller is told of its lane. Asked for again, by the same
   * credential, the lane goes to the new stream with a new fence.
   *
   * @throws BrokerError TURN_ENDED, TURN_ID_REUSED, LANE_LOST, LANE_NOT_GRANTED, LANE_TAKEN_OVER
   */
  async *follow(
    { turn: row, kind }: { readonly turn: TurnRow; readonly kind: "admitted" | "repeated" },
    credential: string,
    signal: AbortSignal,
  ): AsyncGenerator<LaneEvent> {
    if (!row.external || row.credential !== credential) {
      throw new BrokerError("TURN_ID_REUSED", `turn_id: ${row.turnId} is another turn's`, {
        turn_id: row.turnId,
      });
    }
    const turn = await this.deps.find(row.turnNo);
    if (turn === undefined) throw turnEnded(row.turnId);
    turn.readers += 1;
    try {
      if (kind === "repeated" && turn.granted !== undefined) await this.#takeOver(turn);
      yield* followLane(this.deps.store, turn, signal);
    } finally {
      this.deps.leave(turn);
    }
  }

  /** Wall clock: to be renewed again before. @throws BrokerError TURN_ENDED, STALE_FENCE, LANE_REVOKED */
  async renew(row: TurnRow, fence: number): Promise<number> {
    return (await this.#heldLane(row)).renew(fence);
  }

  /** @throws BrokerError TURN_ENDED, STALE_FENCE */
  async record(row: TurnRow, fence: number, recorded: RecordedTurn): Promise<void> {
    await (await this.#heldLane(row)).record(fence, recorded);
  }

  /** Resolves when the turn, which has the lane, may be followed by another. */
  async hold(turn: ActiveTurn): Promise<void> {
    turn.heldLane = new HeldLane(this.deps, turn);
    turn.log.wake();
    if (this.deps.draining()) turn.heldLane.leave();
    await turn.heldLane.released();
  }

  /** Waits a while for a caller that holds the lane. @throws BrokerError HOLDER_KEEPS_LANE */
  async askToLetGo(holder: ActiveTurn | undefined): Promise<void> {
    if (holder?.heldLane === undefined) return;
    holder.heldLane.revoke();
    const { clock, over } = this.deps;
    const tooLate = new Promise<"too late">((resolve) => {
      clock.after(letGoWithinMs, () => resolve("too late"));
    });
    if ((await Promise.race([over(holder.turnNo), tooLate])) !== "too late") return;
    throw new BrokerError(
      "HOLDER_KEEPS_LANE",
      "on_conflict: the caller that holds the lane does not let go",
      { turn_id: holder.row.turnId },
    );
  }

  async #heldLane(row: TurnRow): Promise<HeldLane> {
    const held = hasEnded(row.state) ? undefined : (await this.deps.find(row.turnNo))?.heldLane;
    if (held === undefined) throw turnEnded(row.turnId);
    return held;
  }

  /** The fence of whoever held the lane before is stale from now on. */
  async #takeOver(turn: ActiveTurn): Promise<void> {
    turn.heldLane?.keep();
    const grant = await this.deps.store.regrant({ turnNo: turn.turnNo, nowMs: this.deps.clock.now() });
    if (grant === undefined) throw turnEnded(turn.row.turnId);
    turn.granted = grant.turn;
    turn.previousHolderLost = true;
    turn.heldLane?.keep();
  }
}
