/** Time and timers, so that tests and simulations can bring their own. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Milliseconds since some moment; never set back. */
  monotonic(): number;
  /** Calls once after a while; the result cancels. Never keeps the process alive. */
  after(ms: number, task: () => void): () => void;
}

/** Longest delay that a timer of the runtime takes. */
const longestMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: Date.now,
  monotonic: () => performance.now(),
  after(ms, task) {
    const timer = setTimeout(task, Math.min(Math.max(ms, 0), longestMs)).unref();
    return () => clearTimeout(timer);
  },
};

export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}

const jumpMs = 5 * 60_000;
const probationMs = 3_600_000;

/**
 * Whether the wall clock can be believed. Once it parts from the monotonic one
 * by more than five minutes, what depends on the age of a session is suspended
 * until the two have agreed for an hour.
 */
export class ClockGuard {
  #offset: number;
  #believedFrom = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly clock: Clock,
    private readonly onJump: (byMs: number) => void,
  ) {
    this.#offset = this.#measure();
  }

  /** To be asked often: between two questions the clock may jump and come back unseen. */
  believed(): boolean {
    const offset = this.#measure();
    const byMs = offset - this.#offset;
    this.#offset = Math.abs(byMs) > jumpMs ? offset : this.#offset;
    if (Math.abs(byMs) > jumpMs) {
      this.#believedFrom = this.clock.monotonic() + probationMs;
      this.onJump(byMs);
    }
    return this.clock.monotonic() >= this.#believedFrom;
  }

  #measure(): number {
    return this.clock.now() - this.clock.monotonic();
  }
}
