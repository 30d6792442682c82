/** When a session is too old, and when the wall clock is not to be believed. */
import type { Policy, Row } from "./rows.js";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const jumpMs = 5 * 60_000;

export interface Time {
  /** Wall clock. */
  readonly now: () => number;
  readonly monotonic: () => number;
}

/** Strictly later than allowed; both: the earlier boundary is the reason, daily if they are equal. */
export function ageReason(row: Row, policy: Policy, nowMs: number): "IDLE" | "DAILY" | undefined {
  // A stamp in the future reads as now.
  const idleEnds = policy.idleMs === undefined ? undefined : Math.min(row.activeAtMs, nowMs) + policy.idleMs;
  const boundary = policy.daily === undefined ? undefined : latestBoundary(policy.daily, nowMs);
  const idle = idleEnds !== undefined && nowMs > idleEnds;
  const daily = boundary !== undefined && Math.min(row.startedAtMs, nowMs) < boundary;
  if (idle && daily) return idleEnds < boundary ? "IDLE" : "DAILY";
  if (idle) return "IDLE";
  return daily ? "DAILY" : undefined;
}

/** The latest moment at or before now at which the zone's clocks showed the hour. */
export function latestBoundary(daily: NonNullable<Policy["daily"]>, nowMs: number): number {
  const offset = daily.hour * hourMs - daily.aheadMs;
  return Math.floor((nowMs - offset) / dayMs) * dayMs + offset;
}

/** Once the wall clock parts from the monotonic one, no age counts until they have agreed for an hour. */
export class Belief {
  #offset: number;
  #believedFromMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly time: Time) {
    this.#offset = time.now() - time.monotonic();
  }

  /** The broker has looked at both clocks. */
  look(): boolean {
    const offset = this.time.now() - this.time.monotonic();
    if (Math.abs(offset - this.#offset) > jumpMs) {
      this.#offset = offset;
      this.#believedFromMs = this.time.monotonic() + hourMs;
    }
    return this.time.monotonic() >= this.#believedFromMs;
  }

  /** A new process knows of no jump before it. */
  restart(): void {
    this.#offset = this.time.now() - this.time.monotonic();
    this.#believedFromMs = Number.NEGATIVE_INFINITY;
  }
}
