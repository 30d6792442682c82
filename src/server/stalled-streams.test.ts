import type { ServerHttp2Stream } from "node:http2";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { StalledStreams } from "./stalled-streams.js";

const limits = { requestTimeoutMs: 2_000, idleTimeoutMs: 50_000 };
/** A tenth of the shorter limit. */
const momentMs = 200;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function openStream(endAfterHeaders = false) {
  const setTimeout = vi.fn();
  const stream = { endAfterHeaders, readableEnded: false, setTimeout, on: vi.fn(), once: vi.fn() };
  return { stream: stream as unknown as ServerHttp2Stream, setTimeout };
}

it("gives a stream a timer once it is open for longer than a moment", () => {
  const stalled = new StalledStreams(limits);
  const [sending, reading] = [openStream(), openStream(true)];
  for (const { stream } of [sending, reading]) stalled.watch(stream);
  vi.advanceTimersByTime(momentMs - 1);
  expect(sending.setTimeout).not.toHaveBeenCalled();
  vi.advanceTimersByTime(10 * momentMs);
  expect(sending.setTimeout.mock.calls).toEqual([[limits.requestTimeoutMs]]);
  expect(reading.setTimeout.mock.calls).toEqual([[limits.idleTimeoutMs]]);
});

it("gives none to those that are closed before, and all that take their places one", () => {
  const stalled = new StalledStreams(limits);
  const brief = Array.from({ length: 5 }, () => openStream());
  for (const forget of brief.map(({ stream }) => stalled.watch(stream))) forget();
  const lasting = Array.from({ length: 5 }, () => openStream());
  const forgets = lasting.map(({ stream }) => stalled.watch(stream));
  vi.advanceTimersByTime(momentMs);
  for (const { setTimeout } of brief) expect(setTimeout).not.toHaveBeenCalled();
  for (const { setTimeout } of lasting) expect(setTimeout).toHaveBeenCalledOnce();
  // Their places are free again, each once.
  for (const forget of forgets) forget();
  const next = Array.from({ length: 7 }, () => openStream());
  for (const { stream } of next) stalled.watch(stream);
  vi.advanceTimersByTime(momentMs);
  for (const { setTimeout } of next) expect(setTimeout).toHaveBeenCalledOnce();
});
