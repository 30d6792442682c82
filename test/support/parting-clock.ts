import { type Clock, systemClock } from "../../src/clock.js";

/** A clock whose wall time can part from its monotonic time. Timers are the system's. */
export class PartingClock implements Clock {
  readonly after = systemClock.after;
  /** How often the monotonic time was asked for. */
  reads = 0;
  #wallMs: number;
  #monotonicMs = 0;

  constructor(startMs: number) {
    this.#wallMs = startMs;
  }

  readonly now = (): number => this.#wallMs;

  readonly monotonic = (): number => {
    this.reads += 1;
    return this.#monotonicMs;
  };

  advance(ms: number): void {
    this.#wallMs += ms;
    this.#monotonicMs += ms;
  }

  /** Sets the wall clock forward, or back. */
  jump(ms: number): void {
    this.#wallMs += ms;
  }
}
