import { expect, test } from "vitest";
import { straysAmong } from "./marks.js";

const one = (pid: number, parent: number) => ({ pid, parent, group: pid });

test.each([
  ["none", [], []],
  ["a child and its descendants, in any order", [one(12, 11), one(11, 10), one(10, 1)], []],
  ["one whose parent has ended", [one(10, 1), one(11, 99)], [11]],
  [
    "one that another process has taken over, and its children",
    [one(10, 1), one(11, 2), one(12, 11)],
    [11, 12],
  ],
  ["all, if the child has ended", [one(11, 2), one(12, 2)], [11, 12]],
])("strays: %s", (_, listed, expected) => {
  expect(straysAmong(listed, 1).map(({ pid }) => pid)).toEqual(expected);
});
