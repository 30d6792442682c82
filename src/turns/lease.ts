/**
 * The lease of a caller that runs a turn itself.
 *
 *     held ──renew──▶ held
 *       │├──20 s without one──▶ lost
 *       │└──close (its ending is on disk)──▶ closed
 *       └──revoke, and its deadline passed──▶ no more renewals ──▶ lost | closed
 *
 * The holder is told to renew within 10 s, and has to end its agent when it
 * cannot; the broker waits 20 s before it believes that it has.
 */
import type { Clock } from "../clock.js";

const renewWithinMs = 10_000;
const lostAfterMs = 20_000;

export class Lease {
  #cancelLoss: (() => void) | undefined;
  #refusesFromMs = Number.POSITIVE_INFINITY;
  #renewBeforeMs = 0;
  #settle: (end: "closed" | "lost") => void = () => {};
  readonly ended: Promise<"closed" | "lost">;

  constructor(private readonly clock: Clock) {
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#extend();
  }

  /** Wall clock: the holder ends its agent then, unless it has renewed. */
  get renewBeforeMs(): number {
    return this.#renewBeforeMs;
  }

  /** False if it has been revoked, and the time to let go is over. */
  renew(): boolean {
    if (this.clock.monotonic() >= this.#refusesFromMs) return false;
    this.#extend();
    return true;
  }

  /** No renewals after a while. */
  revoke(afterMs: number): void {
    this.#refusesFromMs = Math.min(this.#refusesFromMs, this.clock.monotonic() + afterMs);
  }

  /** The holder has let go; or, if it is not to end here, this process stops watching. */
  close(): void {
    this.#cancelLoss?.();
    this.#settle("closed");
  }

  #extend(): void {
    this.#cancelLoss?.();
    this.#renewBeforeMs = this.clock.now() + renewWithinMs;
    this.#cancelLoss = this.clock.after(lostAfterMs, () => this.#settle("lost"));
  }
}
