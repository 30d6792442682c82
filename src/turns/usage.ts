/** What turns took, by day. */
import type { SessionKey } from "../sessions/key.js";
import type { UsageTotal } from "../sessions/session.js";
import type { Where } from "../sessions/session-store.js";

const dayMs = 24 * 3_600_000;

/** Days since the epoch, UTC. */
export function dayOf(ms: number): number {
  return Math.floor(ms / dayMs);
}

/** YYYY-MM-DD. */
export function dayText(day: number): string {
  return new Date(day * dayMs).toISOString().slice(0, 10);
}

/** Of a turn that had the lane and has ended. */
export interface SpentUsage {
  readonly key: Pick<SessionKey, "scope" | "provider">;
  readonly endedAtMs: number;
  readonly usage: UsageTotal;
}

/** The turns of one scope and provider that ended on one day. */
export interface UsageRow {
  readonly day: number;
  readonly scope: string;
  readonly provider: string;
  readonly turns: number;
  readonly usage: UsageTotal;
}

/** Where a row stands in the order of rows: by day, scope and provider. */
export type UsagePlace = Pick<UsageRow, "day" | "scope" | "provider">;

export interface UsageCall extends Where {
  /** The first day. */
  readonly sinceDay: number;
  /** The last day. */
  readonly untilDay: number;
  /** Where the page before ended. */
  readonly after?: UsagePlace;
  readonly limit: number;
}

/** Rows, and where to go on; the work of one page is bounded, so it may be short. */
export interface UsagePage {
  readonly rows: readonly UsageRow[];
  readonly next?: UsagePlace;
}
