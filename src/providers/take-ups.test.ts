import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { TakeUps } from "./take-ups.js";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** Begins as many as there are names; `begun` has those that have room, with what ends them. */
function beginAll(takeUps: TakeUps, names: readonly string[]): Map<string, () => void> {
  const begun = new Map<string, () => void>();
  for (const name of names) void takeUps.begin().then((through) => begun.set(name, through));
  return begun;
}

const settled = () => vi.advanceTimersByTimeAsync(0);

test("no more than there is room for, and the others in the order in which they came", async () => {
  const begun = beginAll(new TakeUps(2), ["a", "b", "c", "d"]);
  await settled();
  expect([...begun.keys()]).toEqual(["a", "b"]);
  begun.get("b")?.();
  await settled();
  expect([...begun.keys()]).toEqual(["a", "b", "c"]);
  begun.get("c")?.();
  await settled();
  expect([...begun.keys()]).toEqual(["a", "b", "c", "d"]);
});

test("one that is through twice makes room for one", async () => {
  const begun = beginAll(new TakeUps(1), ["a", "b", "c"]);
  await settled();
  begun.get("a")?.();
  begun.get("a")?.();
  await settled();
  expect([...begun.keys()]).toEqual(["a", "b"]);
});

test("room that nobody waited for is there for the next", async () => {
  const takeUps = new TakeUps(1);
  (await takeUps.begin())();
  (await takeUps.begin())();
  const begun = beginAll(takeUps, ["a", "b"]);
  await settled();
  expect([...begun.keys()]).toEqual(["a"]);
});

test("one that is never through holds up nobody for long, and makes no room twice", async () => {
  const begun = beginAll(new TakeUps(1), ["a", "b", "c"]);
  await settled();
  await vi.advanceTimersByTimeAsync(49);
  expect([...begun.keys()]).toEqual(["a"]);
  await vi.advanceTimersByTimeAsync(1);
  expect([...begun.keys()]).toEqual(["a", "b"]);
  begun.get("a")?.();
  await settled();
  expect([...begun.keys()]).toEqual(["a", "b"]);
});
