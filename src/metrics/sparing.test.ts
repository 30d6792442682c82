import { expect, it } from "vitest";
import { sparing } from "./sparing.js";

it("an answer holds for a hundred times what it took", () => {
  let nowMs = 0;
  let asked = 0;
  const read = sparing(
    () => {
      nowMs += 5;
      asked += 1;
      return asked;
    },
    () => nowMs,
  );
  expect(read()).toBe(1);
  nowMs += 499;
  expect(read()).toBe(1);
  nowMs += 1;
  expect(read()).toBe(2);
});
