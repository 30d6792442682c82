import { keyText } from "../sessions/key.js";
import type { StopReason } from "./endings.js";
import { isOurs } from "./internal-turns.js";
import type { TurnRow } from "./turn.js";
import type { TurnLog } from "./turn-log.js";

/** A turn of this process that has not ended. */
export class ActiveTurn {
  readonly #abort = new AbortController();
  #stopReason: StopReason | undefined;
  #cancelDeadline: (() => void) | undefined;
  /** The row since it has the lane. */
  granted: TurnRow | undefined;
  /** Readers that follow the turn. */
  readers = 0;

  constructor(
    readonly row: TurnRow,
    readonly log: TurnLog,
  ) {}

  get turnNo(): number {
    return this.row.turnNo;
  }

  get key(): TurnRow["key"] {
    return this.row.key;
  }

  /** Turns of one lane run one after another; an internal turn shares its with none. */
  get lane(): string {
    return isOurs(this.turnNo) ? `internal ${this.turnNo}` : keyText(this.key);
  }

  get grant(): string {
    return this.row.grant;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get stopReason(): StopReason | undefined {
    return this.#stopReason;
  }

  /** Asks the agent to stop. The first reason stays. */
  stop(reason: StopReason): void {
    this.#stopReason ??= reason;
    this.#abort.abort();
  }

  /** The ending on disk is not one of this process. */
  overtaken(): void {
    this.log.abandon();
  }

  /** Replaces the timer of the queue deadline. */
  setDeadline(cancel: (() => void) | undefined): void {
    this.#cancelDeadline?.();
    this.#cancelDeadline = cancel;
  }
}
