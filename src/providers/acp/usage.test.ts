import { expect, test } from "vitest";
import { accountOf, countsNothing, modelOf } from "./usage.js";

/** Answers of real agents to a prompt. */
const claude =
  '{"stopReason":"end_turn","usage":{"inputTokens":1635,"outputTokens":10,"cachedReadTokens":11,"cachedWriteTokens":0,"totalTokens":1656}}';
const codex =
  '{"stopReason":"end_turn","usage":{"totalTokens":6270,"inputTokens":6253,"cachedReadTokens":7,"cachedWriteTokens":0,"outputTokens":10,"thoughtTokens":3}}';
const gemini =
  '{"stopReason":"end_turn","_meta":{"quota":{"token_count":{"input_tokens":128,"output_tokens":11},"model_usage":[{"model":"gemini-2.5-flash","token_count":{"input_tokens":128,"output_tokens":11}}]}}}';
const geminiCommand =
  '{"stopReason":"end_turn","_meta":{"quota":{"token_count":{"input_tokens":0,"output_tokens":0},"model_usage":[]}}}';

test.each([
  ["claude-agent-acp 0.49.0", claude, [1635, 11, 0, 10, 0]],
  ["codex-acp 2.6.0", codex, [6253, 7, 0, 10, 3]],
  ["gemini 0.61.0", gemini, [128, 0, 0, 11, 0]],
])(
  "tokens of %s",
  (_, result, [inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens, reasoningTokens]) => {
    expect(accountOf(JSON.parse(result), undefined, {})).toEqual({
      usage: { inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens, reasoningTokens },
    });
  },
);

test.each([
  ["the first turn", 0.25, {}, 0.25],
  ["a later one", 1, { costUsd: 0.25 }, 0.75],
  ["a sum that began anew", 0.1, { costUsd: 0.25 }, 0.1],
])("cost of %s", (_, costUsd, previous, expected) => {
  const { usage, total } = accountOf({}, costUsd, previous);
  expect([usage?.costUsd, total]).toEqual([expected, { costUsd }]);
});

test("an agent that counts has counted something, unless the model was not asked", () => {
  expect([claude, codex, gemini, geminiCommand, "{}"].map((each) => countsNothing(JSON.parse(each)))).toEqual(
    [false, false, false, true, false],
  );
});

test("the model is the one that gemini names", () => {
  expect([gemini, claude].map((each) => modelOf(JSON.parse(each)))).toEqual(["gemini-2.5-flash", undefined]);
});
