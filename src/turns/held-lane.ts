/**
 * A turn that its caller runs itself: it has the lane from the grant until its
 * ending is recorded, or until its lease is lost and it ends INTERRUPTED.
 */
import { Interrupted_Reason } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type Clock, pause } from "../clock.js";
import { BrokerError } from "../errors.js";
import { noUsage } from "../sessions/session.js";
import type { ActiveTurn } from "./active-turn.js";
import { type Ending, interrupted } from "./endings.js";
import { Lease } from "./lease.js";
import type { TurnEndCall, TurnStore } from "./turn-store.js";

export interface HoldDeps {
  readonly store: TurnStore;
  readonly clock: Clock;
  readonly log: (message: string, error: unknown) => void;
}

/** What the caller says of the turn that it ran. */
export type RecordedTurn = Pick<TurnEndCall, "usage" | "exchange" | "native"> & { readonly ending: Ending };

/** The time that a holder is given to let go. */
export const letGoWithinMs = 10_000;
const storeRetryMs = 1_000;

export class HeldLane {
  readonly #lease: Lease;
  #revokedUntilMs: number | undefined;

  constructor(
    private readonly deps: HoldDeps,
    private readonly turn: ActiveTurn,
  ) {
    this.#lease = new Lease(deps.clock);
    turn.signal.addEventListener("abort", () => this.#stop(), { once: true });
    if (turn.signal.aborted) this.#stop();
  }

  /** Wall clock; undefined while nobody asks the holder to let go. */
  get revokedUntilMs(): number | undefined {
    return this.#revokedUntilMs;
  }

  /** Wall clock. */
  get renewBeforeMs(): number {
    return this.#lease.renewBeforeMs;
  }

  /** Resolves once the lane may be given to another. */
  async released(): Promise<void> {
    const { turn } = this;
    if ((await this.#lease.ended) === "closed") {
      await turn.log.flush();
      return;
    }
    const payload = interrupted(Interrupted_Reason.HOLDER_LOST, turn.log.lastSequence);
    for (;;) {
      try {
        if (await this.#end({ ending: payload, usage: noUsage })) return;
        const row = await this.deps.store.byTurnNo(turn.turnNo);
        if (row?.state !== "RUNNING") return turn.overtaken();
        // It was granted anew at the last moment.
        turn.granted = row;
      } catch (error) {
        this.deps.log("the ending of a lost turn could not be written; its lane stays held", error);
        await pause(this.deps.clock, storeRetryMs);
      }
    }
  }

  /** Wall clock: to be renewed again before. @throws BrokerError STALE_FENCE, LANE_REVOKED */
  renew(fence: number): number {
    this.#checkFence(fence);
    if (this.#lease.renew()) return this.#lease.renewBeforeMs;
    throw new BrokerError("LANE_REVOKED", "the lane was to be let go of; end the agent and record the turn");
  }

  /** @throws BrokerError STALE_FENCE, TURN_ENDED */
  async record(fence: number, recorded: RecordedTurn): Promise<void> {
    this.#checkFence(fence);
    if (!(await this.#end(recorded))) throw turnEnded(this.turn.row.turnId);
    this.#lease.close();
  }

  /** Asks the holder to let go; it may go on all the same. */
  revoke(): void {
    this.#revokedUntilMs ??= this.deps.clock.now() + letGoWithinMs;
    this.turn.log.wake();
  }

  /** The holder has come back and is about to be granted the lane anew. */
  keep(): void {
    this.#lease.renew();
  }

  /** The turn goes on without this process. */
  leave(): void {
    this.#lease.close();
  }

  #stop(): void {
    if (this.turn.stopped?.reason === "BROKER_STOPPED") {
      this.leave();
      return;
    }
    this.revoke();
    this.#lease.revoke(letGoWithinMs);
  }

  async #end({ ending, ...recorded }: RecordedTurn): Promise<boolean> {
    const { turn } = this;
    const { event, entries } = await turn.log.conclude(ending.payload);
    const first = await this.deps.store.end({
      ...recorded,
      turnNo: turn.turnNo,
      fence: turn.granted?.fence ?? 0,
      state: ending.state,
      entries,
      endedAtMs: this.deps.clock.now(),
    });
    if (first) turn.log.finish(event);
    return first;
  }

  #checkFence(fence: number): void {
    const held = this.turn.granted?.fence;
    if (held === fence) return;
    throw new BrokerError("STALE_FENCE", "fence: it no longer holds the session's lane", {
      fence: String(held ?? 0),
    });
  }
}

export function turnEnded(turnId: string): BrokerError {
  return new BrokerError("TURN_ENDED", `turn_id: turn ${turnId} has ended`, { turn_id: turnId });
}
