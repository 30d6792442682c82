/** Timestamps in JSON: most are of the day, and many of the moment, of the one before. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";

const dayMs = 24 * 3_600_000;
/** Years of four digits. */
const [firstMs, lastMs] = [Date.UTC(1000, 0), Date.UTC(9999, 11, 31)];

/** Undefined for what is neither of whole milliseconds nor of a year with four digits. */
export function timestampText(): (timestamp: Timestamp) => string | undefined {
  let day = Number.NaN;
  let date = "";
  let moment = Number.NaN;
  let text = "";
  return ({ seconds, nanos }) => {
    const ms = Number(seconds) * 1000 + nanos / 1e6;
    const isUsual = nanos >= 0 && nanos < 1e9 && nanos % 1e6 === 0 && ms > firstMs && ms < lastMs;
    if (!isUsual) return undefined;
    if (ms === moment) return text;
    moment = ms;
    const today = Math.floor(ms / dayMs);
    if (today !== day) {
      day = today;
      date = new Date(ms).toISOString().slice(0, 10);
    }
    text = `"${date}T${timeOf(ms - today * dayMs)}Z"`;
    return text;
  };
}

/** @param ms since midnight */
function timeOf(ms: number): string {
  const [h, m, s] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, Math.floor(ms / 1000) % 60];
  const whole = `${padded(h, 2)}:${padded(m, 2)}:${padded(s, 2)}`;
  return ms % 1000 === 0 ? whole : `${whole}.${padded(ms % 1000, 3)}`;
}

function padded(number: number, digits: number): string {
  if (number >= 100) return `${number}`;
  const two = number < 10 ? `0${number}` : `${number}`;
  return digits === 3 ? `0${two}` : two;
}
