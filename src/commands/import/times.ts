import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

/** The last millisecond of the year 9999, the last one of a Timestamp. */
const lastMs = 253_402_300_799_999;
/** As seconds the year 5138, as milliseconds the year 1973. */
const leastMs = 100_000_000_000;

export type Time = { readonly at?: Timestamp } | { readonly problem: string };

/** Milliseconds since the epoch; zero, null and nothing are no time. */
export function millisecondsTime(name: string, value: unknown): Time {
  if (value === undefined || value === null || value === 0) return {};
  if (typeof value !== "number" || !(value > 0 && value <= lastMs)) {
    return { problem: `${name}: it is no time since the epoch` };
  }
  return { at: timestampFromMs(Math.floor(value)) };
}

/** Seconds since the epoch, or milliseconds if they are too many for seconds. */
export function secondsTime(name: string, value: unknown): Time {
  return millisecondsTime(name, typeof value === "number" && value < leastMs ? value * 1000 : value);
}
