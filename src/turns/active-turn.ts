import { keyText } from "../sessions/key.js";
import type { Stop, StopReason } from "./endings.js";
import type { HeldLane } from "./held-lane.js";
import { isInternal } from "./internal-turns.js";
import type { LaneTurn } from "./lanes.js";
import type { Permissions } from "./permissions.js";
import type { TurnInputPart } from "./provider.js";
import type { TurnRow } from "./turn.js";
import type { TurnLog } from "./turn-log.js";
import type { TurnTrace } from "./turn-trace.js";

/** Gives text to the agent while it answers; false if it takes none any more. */
export type Steer = (input: readonly TurnInputPart[]) => Promise<boolean>;

/** A turn of this process that has not ended. */
export class ActiveTurn implements LaneTurn {
  readonly #abort = new AbortController();
  #stop: Stop | undefined;
  #cancelDeadline: (() => void) | undefined;
  #cancelHold: (() => void) | undefined;
  #steer: Steer | "not yet" | "no more" = "not yet";
  #onSteerable: (() => void)[] = [];
  /** Text that the agent was given while it answered. */
  readonly steered: TurnInputPart[] = [];
  /** The turns that this text is from. */
  readonly taken: number[] = [];
  readonly #steering = new Set<Promise<unknown>>();
  /** The row since it has the lane. */
  granted: TurnRow | undefined;
  /** Readers that follow the turn. */
  readers = 0;
  held = false;
  /** Since its caller, who runs it, has the lane. */
  heldLane: HeldLane | undefined;
  /** The session's turn before this one was lost with its caller. */
  previousHolderLost = false;
  #laneStream = 0;

  constructor(
    readonly row: TurnRow,
    readonly log: TurnLog,
    readonly permissions: Permissions,
    /** Default: it is part of no trace. */
    readonly trace?: TurnTrace,
  ) {}

  get turnNo(): number {
    return this.row.turnNo;
  }

  get key(): TurnRow["key"] {
    return this.row.key;
  }

  /** Turns of one lane run one after another; an internal turn shares its with none. */
  get lane(): string {
    return isInternal(this.turnNo) ? `internal ${this.turnNo}` : keyText(this.key);
  }

  get grant(): string {
    return this.row.grant;
  }

  get needsSlot(): boolean {
    return !this.row.external;
  }

  /** The newest stream of the caller that runs the turn itself. */
  get laneStream(): number {
    return this.#laneStream;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get stopped(): Stop | undefined {
    return this.#stop;
  }

  /** Asks the agent to stop. The first reason stays. */
  stop(reason: StopReason, byTurnId?: string): void {
    this.#stop ??= { reason, ...(byTurnId === undefined ? {} : { byTurnId }) };
    this.#abort.abort();
  }

  /** The number of a new stream; older ones end. */
  openLaneStream(): number {
    this.#laneStream += 1;
    this.log.wake();
    return this.#laneStream;
  }

  /** Gives the agent another turn's text; false if it takes none, in which case it has not seen it. */
  async steer(turnNo: number, input: readonly TurnInputPart[]): Promise<boolean> {
    while (this.#steer === "not yet") {
      await new Promise<void>((resolve) => this.#onSteerable.push(resolve));
    }
    if (this.#steer === "no more") return false;
    const asked = this.#steer(input);
    this.#steering.add(asked);
    if (!(await asked)) return false;
    this.steered.push(...input);
    this.taken.push(turnNo);
    return true;
  }

  /** From now on the agent takes text. */
  steerable(steer: Steer): void {
    this.#steer = steer;
    for (const resolve of this.#onSteerable.splice(0)) resolve();
  }

  /** The agent takes no more text; resolves once it is known what it took. */
  async steeringOver(): Promise<void> {
    this.#steer = "no more";
    for (const resolve of this.#onSteerable.splice(0)) resolve();
    await Promise.allSettled(this.#steering);
  }

  /** The ending on disk is not one of this process. */
  overtaken(): void {
    this.log.abandon();
  }

  /** Replaces the timer that ends the wait for more text. */
  setHold(cancel: () => void): void {
    this.#cancelHold?.();
    this.#cancelHold = cancel;
  }

  /** Replaces the timer of the queue deadline. */
  setDeadline(cancel: (() => void) | undefined): void {
    this.#cancelDeadline?.();
    this.#cancelDeadline = cancel;
  }
}
