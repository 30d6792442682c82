/** Timestamps in JSON: most of an answer's are of one day, whose date is worked out once. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";

const dayMs = 24 * 3_600_000;
/** Years of four digits. */
const [firstMs, lastMs] = [Date.UTC(1000, 0), Date.UTC(9999, 11, 31)];

/** Undefined for what is neither of whole milliseconds nor of a year with four digits. */
export function timestampText(): (timestamp: Timestamp) => string | undefined {
  let day = Number.NaN;
  let date = "";
  return ({ seconds, nanos }) => {
    const ms = Number(seconds) * 1000 + nanos / 1e6;
    const isUsual = nanos > 0 && nanos < 1e9 && nanos % 1e6 === 0 && ms > firstMs && ms < lastMs;
    if (!isUsual) return undefined;
    const today = Math.floor(ms / dayMs);
    if (today !== day) {
      day = today;
      date = new Date(ms).toISOString().slice(0, 10);
    }
    const time = ms - today * dayMs;
    const [h, m, s] = [
      Math.floor(time / 3_600_000),
      Math.floor(time / 60_000) % 60,
      Math.floor(time / 1000) % 60,
    ];
    return `"${date}T${padded(h, 2)}:${padded(m, 2)}:${padded(s, 2)}.${padded(time % 1000, 3)}Z"`;
  };
}

function padded(number: number, digits: number): string {
  if (number >= 100) return `${number}`;
  const two = number < 10 ? `0${number}` : `${number}`;
  return digits === 3 ? `0${two}` : two;
}
