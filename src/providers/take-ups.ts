/**
 * How many resting processes read the message of a turn at the same moment.
 *
 * Until it asks its model an agent only computes. Many that do so at once share
 * the processors, and each of them takes as long as all; a few at a time, the
 * first are through early and the last hardly later.
 *
 *     (comes) ── room ──▶ reading ── it asks its model, or takes too long ──▶ (through)
 *     (comes) ── no room ──▶ waiting, first come first served ── another is through ──▶ reading
 */
import { availableParallelism } from "node:os";

/** One that takes longer waits for something else than a processor. */
const longestMs = 50;

export class TakeUps {
  readonly #waiting: (() => void)[] = [];
  #room: number;

  /** @param room how many at a time. Default: half of the processors; what they have read keeps the others busy. */
  constructor(room = Math.ceil(availableParallelism() / 2)) {
    this.#room = room;
  }

  /** Resolves when there is room, with what is to be called when the agent is through; more than once is once. */
  async begin(): Promise<() => void> {
    if (this.#room > 0) this.#room -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let isThrough = false;
    const through = () => {
      if (isThrough) return;
      isThrough = true;
      clearTimeout(timer);
      this.#leave();
    };
    const timer = setTimeout(through, longestMs);
    return through;
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#room += 1;
    else next();
  }
}
