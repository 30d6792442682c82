import { setTimeout as delay } from "node:timers/promises";
import type { Duration } from "@bufbuild/protobuf/wkt";

export interface Timers {
  now(): number;
  /** Resolves after this time, or earlier when the signal is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Calls back again and again until the answered function is called. */
  every(ms: number, callback: () => void): () => void;
}

export const systemTimers: Timers = {
  now: Date.now,
  async sleep(ms, signal) {
    await delay(ms, undefined, { signal }).catch(() => {});
  },
  every(ms, callback) {
    const timer = setInterval(callback, ms);
    return () => clearInterval(timer);
  },
};

export function durationMs(duration: Duration | undefined): number | undefined {
  return duration && Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
