/** Milliseconds of a length of time such as 90s, 30m, 12h, 30d or 2w; undefined if it is none. */
export function durationOf(text: string): number | undefined {
  const [, count, unit = ""] = /^(\d{1,9})(s|m|h|d|w)$/.exec(text) ?? [];
  const unitMs = unitsMs[unit];
  return unitMs === undefined ? undefined : Number(count) * unitMs;
}

const unitsMs: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 24 * 3_600_000,
  w: 7 * 24 * 3_600_000,
};
