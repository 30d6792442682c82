import { expect, test } from "vitest";
import { type BranchFacts, decideBranch } from "./branch.js";

const answered: BranchFacts = { turnCount: 3, lastAnswer: "It is four.", isSide: false };

test.each<[string, string | undefined, BranchFacts, "current" | "side" | "new"]>([
  ["no answer is told, and one was given", undefined, answered, "new"],
  ["no answer is told, and none was given", undefined, { turnCount: 2, isSide: false }, "current"],
  [
    "no answer is told, and one broke off",
    undefined,
    { turnCount: 1, partial: "So what", isSide: false },
    "current",
  ],
  ["the session has no turns", "It is four.", { turnCount: 0, isSide: false }, "current"],
  ["the last answer is told", "It is four.", answered, "current"],
  ["it is told with other line ends and spaces", " It is four.\r\n", answered, "current"],
  ["it is edited", "It is five.", answered, "new"],
  ["an older answer is told", "Hello!", answered, "new"],
  ["nothing was answered yet", "It is four.", { turnCount: 1, isSide: false }, "new"],
  ["the beginning of one that broke off", "So ", { ...answered, partial: "So what" }, "current"],
  ["all of one that broke off", "So what", { ...answered, partial: "So what" }, "current"],
  ["more than was delivered", "So what now", { ...answered, partial: "So what" }, "new"],
  ["nothing of it", "", { ...answered, partial: "So what" }, "new"],
  ["the answer before it", "It is four.", { ...answered, partial: "So what" }, "current"],
  ["a side session's answer", "A title", { ...answered, isSide: true }, "side"],
  [
    "the last answer, which a side session has given, too",
    "It is four.",
    { ...answered, isSide: true },
    "current",
  ],
])("%s", (_, told, facts, branch) => {
  expect(decideBranch(told, facts)).toBe(branch);
});
