import { expect, it } from "vitest";
import { overlay } from "./descriptors.js";

it.each([
  [[], []],
  [[3], [9]],
  [
    [6, 4],
    ["ignore", 9, "ignore", 9],
  ],
])("in place of %j: %j", (descriptors, stdio) => {
  expect(overlay(descriptors, 9)).toEqual(stdio);
});
