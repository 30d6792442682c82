import { describe, expect, it } from "vitest";
import { allowances, chooseEvicted } from "./retention.js";

describe("what each grant may keep, if", () => {
  it.each([
    ["nobody holds anything", 100, {}, {}],
    ["all fits", 100, { a: 30, b: 70 }, { a: 30, b: 70 }],
    ["one grant has it all", 100, { a: 250 }, { a: 100 }],
    ["two are over their shares", 100, { a: 80, b: 120 }, { a: 50, b: 50 }],
    ["one is below its share, and the other may have the rest", 100, { a: 20, b: 120 }, { a: 20, b: 80 }],
    ["what one leaves is divided among the others", 120, { a: 20, b: 45, c: 900 }, { a: 20, b: 45, c: 55 }],
    ["credentials that see everything are a grant of their own", 100, { "": 90, a: 90 }, { "": 50, a: 50 }],
    ["a budget that does not divide", 100, { a: 90, b: 90, c: 90 }, { a: 33, b: 33, c: 34 }],
  ])("%s", (_, budget, held, expected) => {
    expect(Object.fromEntries(allowances(new Map(Object.entries(held)), budget))).toEqual(expected);
  });
});

describe("what has to go of five turns of 10 bytes, if", () => {
  const kept = [1, 2, 3, 4, 5].map((turnNo) => ({ turnNo, endedAtMs: turnNo * 100, bytes: 10 }));
  const none = Number.NEGATIVE_INFINITY;
  it.each([
    ["none is too old or too many", { endedByMs: 99, overBytes: 0 }, [], [], []],
    ["two are too old", { endedByMs: 200, overBytes: 0 }, [], [1, 2], []],
    ["one byte is too many", { endedByMs: none, overBytes: 1 }, [], [1], []],
    ["eleven bytes are too many", { endedByMs: none, overBytes: 11 }, [], [1, 2], []],
    ["the oldest is being read", { endedByMs: none, overBytes: 11 }, [1], [2, 3], []],
    ["the others are not enough", { endedByMs: none, overBytes: 31 }, [1, 2, 4], [3, 5], [1, 2]],
    ["all are being read", { endedByMs: none, overBytes: 15 }, [1, 2, 3, 4, 5], [], [1, 2]],
    ["one that is too old is being read", { endedByMs: 200, overBytes: 0 }, [1], [2], [1]],
    [
      "all are too many, and three are chosen at a time",
      { endedByMs: none, overBytes: 50 },
      [1],
      [2, 3, 4],
      [1],
    ],
  ])("%s", (_, rule, reading, unread, read) => {
    const chosen = chooseEvicted(kept, { ...rule, reading: new Set(reading), limit: 3 });
    expect(chosen).toEqual({ unread, read });
  });
});
