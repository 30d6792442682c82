import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OutputWait, SilenceError } from "./output-wait.js";

const silenceMs = 1_000;
const afterEndMs = 100;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A child's output that is given by hand. */
function setUp(isAnswerOurs = () => false) {
  const given: ((result: IteratorResult<Buffer>) => void)[] = [];
  const chunks = { next: () => new Promise<IteratorResult<Buffer>>((resolve) => given.push(resolve)) };
  let at = performance.now();
  const forgive = () => {
    at = performance.now();
  };
  const patience = { silenceMs, afterEndMs, lastOutputAt: () => at, forgive };
  return {
    output: new OutputWait(chunks, patience, isAnswerOurs),
    forgive,
    give: (text: string) => given.shift()?.({ done: false, value: Buffer.from(text) }),
    close: () => given.shift()?.({ done: true, value: undefined }),
  };
}

test("chunks come as they are given, and undefined at their end", async () => {
  const { output, give, close } = setUp();
  const first = output.next();
  give("one");
  expect(String(await first)).toBe("one");
  const second = output.next();
  close();
  expect(await second).toBeUndefined();
});

test("any number of chunks needs one timer, and none is left afterwards", async () => {
  const { output, give } = setUp();
  for (let i = 0; i < 100; i++) {
    const chunk = output.next();
    give("x");
    await chunk;
  }
  expect(vi.getTimerCount()).toBe(1);
  output.dispose();
  expect(vi.getTimerCount()).toBe(0);
});

test("silence is counted from the last sign of life", async () => {
  const { output, forgive } = setUp();
  const failure = output.next().catch((error) => error);
  let failed: unknown;
  void failure.then((error) => {
    failed = error;
  });
  await vi.advanceTimersByTimeAsync(silenceMs - 1);
  forgive();
  await vi.advanceTimersByTimeAsync(silenceMs - 1);
  expect(failed).toBeUndefined();
  await vi.advanceTimersByTimeAsync(1);
  expect(failed).toBeInstanceOf(SilenceError);
});

test("neither the reader's time nor our own is the child's silence", async () => {
  let isOurs = false;
  const { output, give } = setUp(() => isOurs);
  await vi.advanceTimersByTimeAsync(3 * silenceMs);
  const chunk = output.next();
  isOurs = true;
  await vi.advanceTimersByTimeAsync(3 * silenceMs);
  give("late");
  expect(String(await chunk)).toBe("late");
});

test("after the end each chunk has its time, and a pipe that is held open is left", async () => {
  const { output, give } = setUp();
  const first = output.next();
  output.end();
  await vi.advanceTimersByTimeAsync(afterEndMs - 1);
  give("words");
  expect(String(await first)).toBe("words");
  await vi.advanceTimersByTimeAsync(10 * afterEndMs);
  const second = output.next();
  await vi.advanceTimersByTimeAsync(afterEndMs - 1);
  give("last words");
  expect(String(await second)).toBe("last words");
  const third = output.next();
  await vi.advanceTimersByTimeAsync(afterEndMs);
  expect(await third).toBeUndefined();
});
