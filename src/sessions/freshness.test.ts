import { describe, expect, it } from "vitest";
import { judgeFreshness, latestBoundary } from "./freshness.js";
import type { ResetPolicy } from "./session.js";

const now = Date.UTC(2026, 2, 10, 12);
const minute = 60_000;
const hour = 60 * minute;
const at4 = { daily: { hour: 4, timeZone: "UTC" } };
const fourToday = Date.UTC(2026, 2, 10, 4);

describe("freshness", () => {
  it.each<[string, ResetPolicy, number, number, string]>([
    ["no policy", {}, 0, 0, "fresh"],
    ["daily, started after the boundary", at4, fourToday + 1, now, "fresh"],
    ["daily, started exactly on it", at4, fourToday, now, "fresh"],
    ["daily, started just before it", at4, fourToday - 1, now, "DAILY"],
    [
      "daily at 13, which was yesterday",
      { daily: { hour: 13, timeZone: "UTC" } },
      now - 23 * hour,
      now,
      "fresh",
    ],
    ["idle, exactly at its end", { idleMs: hour }, 0, now - hour, "fresh"],
    ["idle, just past it", { idleMs: hour }, 0, now - hour - 1, "IDLE"],
    ["both, idle first", { idleMs: 10 * minute, ...at4 }, fourToday - 8 * hour, fourToday - 7 * hour, "IDLE"],
    ["both, daily first", { idleMs: 10 * minute, ...at4 }, fourToday - hour, fourToday, "DAILY"],
    ["both at the same moment", { idleMs: hour, ...at4 }, fourToday - hour, fourToday - hour, "DAILY"],
    ["both, only idle", { idleMs: 10 * minute, ...at4 }, fourToday + 1, now - hour, "IDLE"],
    ["stamps in the future read as now", { idleMs: 1, ...at4 }, now + hour, now + hour, "fresh"],
  ])("%s", (_, policy, startedAtMs, lastActivityMs, expected) => {
    const freshness = judgeFreshness({ startedAtMs, lastActivityMs }, policy, now);
    expect(freshness.fresh ? "fresh" : freshness.reason).toBe(expected);
  });
});

describe("the latest daily boundary", () => {
  it.each([
    ["UTC", 4, "2026-03-10T12:00Z", "2026-03-10T04:00Z"],
    ["UTC", 4, "2026-03-10T04:00Z", "2026-03-10T04:00Z"],
    ["UTC", 4, "2026-03-10T03:59:59.999Z", "2026-03-09T04:00Z"],
    ["Europe/Berlin", 4, "2026-01-10T12:00Z", "2026-01-10T03:00Z"],
    ["Europe/Berlin", 4, "2026-07-10T12:00Z", "2026-07-10T02:00Z"],
    // The hour that the clocks skip: the boundary is the skip.
    ["Europe/Berlin", 2, "2026-03-29T12:00Z", "2026-03-29T01:00Z"],
    ["Europe/Berlin", 2, "2026-03-29T00:59:59Z", "2026-03-28T01:00Z"],
    // The hour that the clocks have twice: the boundary is the first.
    ["Europe/Berlin", 2, "2026-10-25T12:00Z", "2026-10-25T00:00Z"],
    ["Europe/Berlin", 2, "2026-10-25T00:30Z", "2026-10-25T00:00Z"],
    ["America/New_York", 0, "2026-11-21T04:30Z", "2026-11-20T05:00Z"],
    ["Pacific/Kiritimati", 4, "2026-03-10T12:00Z", "2026-03-09T14:00Z"],
    ["Pacific/Pago_Pago", 4, "2026-03-10T12:00Z", "2026-03-09T15:00Z"],
    ["Asia/Kathmandu", 4, "2026-03-10T12:00Z", "2026-03-09T22:15Z"],
    ["Australia/Lord_Howe", 2, "2026-04-05T12:00Z", "2026-04-04T15:30Z"],
    // A day that the islands left out: all its hours fall on the skip.
    ["Pacific/Apia", 4, "2011-12-30T11:00Z", "2011-12-30T10:00Z"],
  ])("in %s at %i, seen at %s, was %s", (timeZone, hourOfDay, seen, expected) => {
    const boundary = latestBoundary({ hour: hourOfDay, timeZone }, Date.parse(seen));
    expect(new Date(boundary).toISOString()).toBe(new Date(expected).toISOString());
  });
});

it("a day that is asked for again and again, and in any order, has the boundary that it has alone", () => {
  // Through both changes of the clocks, with an hour that is skipped and one that is there twice.
  const zones = ["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia"];
  const starts = [
    Date.UTC(2026, 2, 27),
    Date.UTC(2026, 9, 23),
    Date.UTC(2011, 11, 28),
    Date.UTC(2018, 10, 2),
  ];
  for (const timeZone of zones) {
    for (const hour of [0, 2, 3]) {
      const moments = starts.flatMap((start) =>
        Array.from({ length: 60 }, (_, n) => start + n * 97 * minute),
      );
      // Another hour's day is not in the way, and a day before it is forgotten.
      const alone = moments.map((moment) => {
        latestBoundary({ hour, timeZone }, moment - 40 * 24 * 60 * minute);
        return latestBoundary({ hour, timeZone }, moment);
      });
      expect(moments.map((moment) => latestBoundary({ hour, timeZone }, moment))).toEqual(alone);
      expect(moments.toReversed().map((moment) => latestBoundary({ hour, timeZone }, moment))).toEqual(
        alone.toReversed(),
      );
    }
  }
});
