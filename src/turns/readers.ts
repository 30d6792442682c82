/** Who reads which turn: so many of each at once, and a turn that nobody reads any more may end for it. */
import { type Clock, pause } from "../clock.js";
import { BrokerError } from "../errors.js";
import type { ActiveTurn } from "./active-turn.js";
import type { TurnRow } from "./turn.js";

/** How long a turn that says CANCEL goes on without a reader. */
const disconnectGraceMs = 30_000;
const retryAfterMs = 1_000;
const lastWordsMs = 5_000;
const lastWordsStepMs = 10;

/** A reader of a turn, which is active unless it had ended when the reader came. */
export interface Reading {
  readonly turnNo: number;
  active?: ActiveTurn;
}

export interface ReadersDeps {
  readonly clock: Clock;
  readonly mostPerTurn: number;
  /** Ends a turn that nobody reads any more. */
  readonly cancel: (turn: ActiveTurn) => void;
}

export class Readers {
  readonly #reading = new Set<Reading>();
  /** By turn number. */
  readonly #counts = new Map<number, number>();

  constructor(private readonly deps: ReadersDeps) {}

  /** Turns that have readers, ended or not. */
  turns(): readonly number[] {
    return [...this.#reading].map(({ turnNo }) => turnNo);
  }

  /** @throws BrokerError TOO_MANY_READERS */
  begin({ turnId }: Pick<TurnRow, "turnId">, turnNo: number): Reading {
    const readers = this.#counts.get(turnNo) ?? 0;
    if (readers >= this.deps.mostPerTurn) throw tooManyReaders(turnId, readers);
    this.#counts.set(turnNo, readers + 1);
    const reading: Reading = { turnNo };
    this.#reading.add(reading);
    return reading;
  }

  /** The turn that is read has not ended. */
  attach(reading: Reading, turn: ActiveTurn): void {
    turn.readers += 1;
    reading.active = turn;
  }

  end(reading: Reading): void {
    this.#reading.delete(reading);
    const left = (this.#counts.get(reading.turnNo) ?? 0) - 1;
    if (left > 0) this.#counts.set(reading.turnNo, left);
    else this.#counts.delete(reading.turnNo);
    if (reading.active !== undefined) this.leave(reading.active);
  }

  /** One who was counted in `readers` of the turn has gone. */
  leave(turn: ActiveTurn): void {
    turn.readers -= 1;
    if (!turn.row.cancelOnDisconnect || turn.readers > 0 || turn.log.ended) return;
    this.deps.clock.after(disconnectGraceMs, () => {
      // A caller that has the lane keeps it by renewing, not by its stream.
      if (turn.readers > 0 || turn.log.ended || turn.heldLane !== undefined) return;
      this.deps.cancel(turn);
    });
  }

  /** Lets readers of turns that have ended read the ending, for a while. */
  async lastWords(): Promise<void> {
    const { clock } = this.deps;
    const untilMs = clock.monotonic() + lastWordsMs;
    const anyLeft = () => [...this.#reading].some(({ active }) => active?.log.ended === true);
    while (anyLeft() && clock.monotonic() < untilMs) await pause(clock, lastWordsStepMs);
  }
}

function tooManyReaders(turnId: string, most: number): BrokerError {
  return new BrokerError(
    "TOO_MANY_READERS",
    `turn ${turnId} has ${most} readers, and limits.readers_per_turn allows no more at once`,
    { turn_id: turnId },
    retryAfterMs,
  );
}
