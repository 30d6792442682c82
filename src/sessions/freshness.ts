import type { DailyReset, ResetPolicy } from "./session.js";

export interface Ages {
  readonly startedAtMs: number;
  readonly lastActivityMs: number;
}

export type Freshness =
  | { readonly fresh: true }
  | { readonly fresh: false; readonly reason: "IDLE" | "DAILY" };

/**
 * Whether a session may go on.
 * Idle: stale once now > last activity + idle. Daily: stale once it started
 * before the latest boundary. Both: the earlier of the two is the reason, daily
 * if they fall together. A stamp in the future reads as now.
 */
export function judgeFreshness(ages: Ages, policy: ResetPolicy, nowMs: number): Freshness {
  const startedAtMs = Math.min(ages.startedAtMs, nowMs);
  const lastActivityMs = Math.min(ages.lastActivityMs, nowMs);
  const idleSince = policy.idleMs === undefined ? undefined : lastActivityMs + policy.idleMs;
  const boundary = policy.daily === undefined ? undefined : latestBoundary(policy.daily, nowMs);
  const idleStale = idleSince !== undefined && nowMs > idleSince;
  const dailyStale = boundary !== undefined && startedAtMs < boundary;
  if (idleStale && dailyStale) return { fresh: false, reason: idleSince < boundary ? "IDLE" : "DAILY" };
  if (idleStale) return { fresh: false, reason: "IDLE" };
  if (dailyStale) return { fresh: false, reason: "DAILY" };
  return { fresh: true };
}

/**
 * The latest moment at or before now at which the zone's clocks reached the
 * hour. On a day that skips the hour it is the moment of the skip; on a day that
 * has it twice, the first.
 */
export function latestBoundary(daily: DailyReset, nowMs: number): number {
  const { days, ...clock } = zonedClock(daily.timeZone);
  const known = days.get(daily.hour);
  if (known !== undefined && known.from <= nowMs && nowMs < known.until) return known.from;
  const today = clock.dateAt(nowMs);
  let until = Number.POSITIVE_INFINITY;
  for (const daysBack of [-2, -1, 0, 1, 2]) {
    const boundary = clock.firstMomentOf(today - daysBack * dayMs, daily.hour);
    if (boundary <= nowMs) {
      days.set(daily.hour, { from: boundary, until });
      return boundary;
    }
    until = boundary;
  }
  throw new RangeError(`no daily boundary before ${nowMs} in ${daily.timeZone}`);
}

export function isTimeZone(name: string): boolean {
  try {
    zonedClock(name);
    return true;
  } catch {
    return false;
  }
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

interface ZonedClock {
  /** Local midnight written as if it were UTC. */
  dateAt(utcMs: number): number;
  firstMomentOf(date: number, hour: number): number;
  /** By hour, the day that was asked for last: to find its ends takes many looks at the calendar. */
  readonly days: Map<number, { readonly from: number; readonly until: number }>;
}

const clocks = new Map<string, ZonedClock>();

function zonedClock(timeZone: string): ZonedClock {
  let clock = clocks.get(timeZone);
  if (clock === undefined) {
    clock = createClock(timeZone);
    clocks.set(timeZone, clock);
  }
  return clock;
}

function createClock(timeZone: string): ZonedClock {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  /** Local wall time written as if it were UTC. */
  const localAt = (utcMs: number): number => {
    const part: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(utcMs)) part[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
    return Date.UTC(year, month - 1, day, hour, minute, second);
  };
  return {
    days: new Map(),
    dateAt: (utcMs) => Math.floor(localAt(utcMs) / dayMs) * dayMs,
    firstMomentOf(date, hour) {
      // Zones lie within 15 hours of UTC, and clocks move by whole minutes.
      const wanted = date + hour * hourMs;
      let low = wanted - 15 * hourMs;
      let high = wanted + 15 * hourMs;
      const firstGuess = wanted - (localAt(wanted) - wanted);
      for (const guess of [firstGuess - 2 * hourMs, firstGuess + 2 * hourMs]) {
        if (localAt(guess) < wanted && guess > low) low = guess;
        if (localAt(guess) >= wanted && guess < high) high = guess;
      }
      while (high - low > 1000) {
        const middle = Math.floor((low + high) / 2000) * 1000;
        if (middle <= low) break;
        if (localAt(middle) >= wanted) high = middle;
        else low = middle;
      }
      return high;
    },
  };
}
