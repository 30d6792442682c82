import { expect, test } from "vitest";
import { capture, capturedVersions } from "../../../test/providers/captures.js";
import { type ClaudeRecord, parseResult } from "./records.js";
import { accountOf, accountOfAll } from "./usage.js";

function resultOf(version: (typeof capturedVersions)[number], name: string) {
  const record = capture(version, name).records.find((each) => each.type === "result");
  return parseResult(record ?? {});
}

test("2.1.329: a resumed turn costs what it adds to the conversation's total", () => {
  const first = accountOf(resultOf("2.1.329", "first turn"), undefined);
  const second = accountOf(resultOf("2.1.329", "resumed turn"), first.total);
  expect(first.usage.costUsd).toBeCloseTo(first.total?.costUsd ?? -1);
  expect(second.total?.costUsd).toBeGreaterThan(first.total?.costUsd ?? 0);
  const sum = (first.usage.costUsd ?? 0) + (second.usage.costUsd ?? 0);
  expect(sum).toBeCloseTo(second.total?.costUsd ?? -1, 9);
});

test("2.1.329: a turn that fails costs nothing, though its total holds what was before", () => {
  const before = accountOf(resultOf("2.1.329", "resumed turn"), undefined);
  const failed = accountOf(resultOf("2.1.329", "resumed turn that fails"), before.total);
  expect(failed.total).toEqual(before.total);
  expect(failed.usage).toMatchObject({ costUsd: 0, inputTokens: 0, outputTokens: 0 });
});

test("2.1.197: the total is of the process", () => {
  const first = accountOf(resultOf("2.1.197", "first turn"), undefined);
  const second = accountOf(resultOf("2.1.197", "resumed turn"), first.total);
  expect(second.total?.costUsd).toBeGreaterThan(first.total?.costUsd ?? 0);
  expect(second.usage.costUsd).toBe(second.total?.costUsd);
});

test("2.1.329: an interrupted turn is counted by what its models took", () => {
  const { usage } = accountOf(resultOf("2.1.329", "interrupted"), undefined);
  expect(usage.inputTokens).toBeGreaterThan(0);
  expect(usage.costUsd).toBeGreaterThan(0);
});

test.each(capturedVersions)("%s: each token is counted once", (version) => {
  const { usage } = accountOf(resultOf(version, "first turn"), undefined);
  expect(usage).toMatchObject({ cacheReadTokens: 7, cacheWriteTokens: 5, reasoningTokens: 0 });
  expect(usage.inputTokens).toBeGreaterThan(0);
  expect(usage.outputTokens).toBeGreaterThan(0);
});

const usage = { input_tokens: 1, output_tokens: 5, output_tokens_details: { thinking_tokens: 2 } };
const models = (outputTokens: number): ClaudeRecord => ({ "model-a": { outputTokens } });

test.each([
  // total, previous, output of all models so far → cost of the turn
  ["a growing total over several turns", 0.5, 0.2, 9, 0.3],
  ["a total that has fallen", 0.1, 0.2, 9, 0.1],
  ["a total of one turn", 0.5, 0.2, 5, 0.5],
  ["a first turn", 0.5, undefined, 5, 0.5],
])("without the turn's own sum, %s", (_, total, previous, output, cost) => {
  const result = parseResult({ usage, modelUsage: models(output), total_cost_usd: total });
  const account = accountOf(result, previous === undefined ? undefined : { costUsd: previous });
  expect(account.usage.costUsd).toBeCloseTo(cost, 9);
  expect(account.total).toEqual({ costUsd: total });
});

test("a result without numbers counts as nothing and states no cost", () => {
  expect(accountOf(parseResult({ usage: { input_tokens: "many" } }), { costUsd: 1 })).toEqual({
    usage: { inputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0, outputTokens: 0, reasoningTokens: 0 },
  });
});

test("the results of one turn add up, and their running total is taken once", () => {
  const cost = (costUSD: number) => ({ "model-a": { costUSD } });
  const results = [
    parseResult({ usage, total_cost_usd: 1.25, model_usage_since_last_result: cost(0.25) }),
    parseResult({ usage, total_cost_usd: 1.75, model_usage_since_last_result: cost(0.5) }),
  ];
  expect(accountOfAll(results, { costUsd: 1 })).toEqual({
    usage: {
      inputTokens: 2,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      outputTokens: 10,
      reasoningTokens: 4,
      costUsd: 0.75,
    },
    total: { costUsd: 1.75 },
  });
});

test("without the sum of each, the results of one turn cost what they add to the total", () => {
  const results = [0.5, 0.75].map((total) =>
    parseResult({ usage, modelUsage: models(20 * total), total_cost_usd: total }),
  );
  const { usage: sum, total } = accountOfAll(results, { costUsd: 0.25 });
  expect(sum?.costUsd).toBeCloseTo(0.5, 9);
  expect(total).toEqual({ costUsd: 0.75 });
});

test("a turn without a result has no account", () => {
  expect(accountOfAll([], { costUsd: 1 })).toEqual({});
});
