import { describe, expect, test } from "vitest";
import {
  answered,
  begun,
  type Conversation,
  interrupted,
  reported,
  type Standing,
  standingOf,
  wrote,
} from "./conversation.js";

type Step =
  | { readonly write: string }
  | { readonly result: readonly string[] | "unnamed" }
  | "interrupt"
  | { readonly answer: { readonly queued?: readonly string[]; readonly dropped?: readonly string[] } };

/** Each conversation begins with line `a`. A refused step is named by its place. */
function play(steps: readonly Step[]): { standing: Standing; refused: readonly number[] } {
  let conversation = begun("a");
  const refused: number[] = [];
  for (const [at, step] of steps.entries()) {
    const next = take(conversation, step);
    if (next === undefined) refused.push(at);
    conversation = next ?? conversation;
  }
  return { standing: standingOf(conversation), refused };
}

function take(conversation: Conversation, step: Step): Conversation | undefined {
  if (step === "interrupt") return interrupted(conversation);
  if ("write" in step) return wrote(conversation, step.write);
  if ("result" in step) {
    return reported(conversation, step.result === "unnamed" ? undefined : step.result);
  }
  return answered(conversation, { queued: step.answer.queued ?? [], dropped: step.answer.dropped ?? [] });
}

const write = (uuid: string) => ({ write: uuid });
const result = (...uuids: string[]) => ({ result: uuids });
const unnamed = { result: "unnamed" } as const;
const answer = { answer: {} };

describe("a conversation", () => {
  test.each<readonly [string, readonly Step[], Standing, readonly number[]]>([
    ["waits for the result of its line", [], "open", []],
    ["is over with it", [result("a")], "over", []],
    ["is over with a result that names no lines, if there is one line", [unnamed], "over", []],
    ["takes no line after it", [result("a"), write("b")], "over", [1]],
    ["waits for a line that came later", [write("b"), result("a")], "open", []],
    ["is over when that has a result of its own", [write("b"), result("a"), result("b")], "over", []],
    ["is over when the first result names both", [write("b"), result("a", "b")], "over", []],
    ["may answer later lines together", [write("b"), write("c"), result("a"), result("b", "c")], "over", []],
    ["takes a line between two results", [write("b"), result("a"), write("c"), result("b")], "open", []],
    ["leaves aside a result about another line", [result("x")], "open", [0]],
    ["leaves aside a result about no line", [result()], "open", [0]],
    ["takes a result that names one of its lines among others", [result("x", "a")], "over", []],
    [
      "cannot tell what an unnamed result is about if there are two lines",
      [write("b"), unnamed],
      "open",
      [1],
    ],
    ["does not mind a line that is named twice", [write("b"), result("a"), result("a")], "open", []],
  ])("%s", (_, steps, standing, refused) => {
    expect(play(steps)).toEqual({ standing, refused });
  });
});

describe("an interrupted conversation", () => {
  test.each<readonly [string, readonly Step[], Standing, readonly number[]]>([
    ["waits for answer and result", ["interrupt"], "interrupted", []],
    ["waits for the answer after the result", ["interrupt", result("a")], "interrupted", []],
    ["waits for the result after the answer", ["interrupt", answer], "interrupted", []],
    ["is over with both", ["interrupt", answer, result("a")], "over", []],
    ["is over with both, the other way round", ["interrupt", result("a"), answer], "over", []],
    ["takes no more lines", ["interrupt", write("b")], "interrupted", [1]],
    ["is interrupted once", ["interrupt", "interrupt"], "interrupted", [1]],
    ["that was over stays over", [result("a"), "interrupt"], "over", [1]],
    [
      "is stuck when only lines are left that wait",
      [write("b"), "interrupt", { answer: { queued: ["b"] } }, result("a")],
      "stuck",
      [],
    ],
    [
      "is not stuck while the line that ran has no result",
      [write("b"), "interrupt", { answer: { queued: ["b"] } }],
      "interrupted",
      [],
    ],
    ["is stuck at once if nothing ran", ["interrupt", { answer: { queued: ["a"] } }], "stuck", []],
    [
      "is over without results for lines that were dropped",
      [write("b"), "interrupt", { answer: { dropped: ["b"] } }, result("a")],
      "over",
      [],
    ],
    ["is over if its only line was dropped", ["interrupt", { answer: { dropped: ["a"] } }], "over", []],
  ])("%s", (_, steps, standing, refused) => {
    expect(play(steps)).toEqual({ standing, refused });
  });
});
