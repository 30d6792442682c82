import { expect, test } from "vitest";
import { codexCapture, paramsOf } from "../../../test/providers/codex-captures.js";
import { asRecord } from "../json.js";
import { accountOf, execTotalOf, totalOf } from "./usage.js";

const none = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
};

function totals(name: string) {
  return paramsOf(codexCapture("app-server", name), "thread/tokenUsage/updated").map(({ tokenUsage }) =>
    totalOf(asRecord(asRecord(tokenUsage)?.total) ?? {}),
  );
}

test("cached input is counted apart from the rest", () => {
  const reported = {
    inputTokens: 100,
    cachedInputTokens: 60,
    cacheWriteInputTokens: 10,
    outputTokens: 9,
    reasoningOutputTokens: 4,
  };
  expect(totalOf(reported)).toEqual({
    inputTokens: 30,
    cacheReadTokens: 60,
    cacheWriteTokens: 10,
    outputTokens: 9,
    reasoningTokens: 4,
  });
  expect(totalOf({})).toEqual(none);
  expect(totalOf({ inputTokens: 5, cachedInputTokens: 7 }).inputTokens).toBe(0);
});

test("a turn with a tool takes what both of its requests take", () => {
  const [first, last, ...more] = totals("tool");
  if (first === undefined || last === undefined) throw new Error("two requests are told");
  expect(more).toEqual([]);
  expect(last.inputTokens).toBeGreaterThan(first.inputTokens);
  expect(accountOf(last, {})).toEqual({ usage: last, total: last });
});

test("a later turn takes what it adds to the total that is told before it", () => {
  const [before, after] = totals("later turn");
  const [first] = totals("first turn");
  if (before === undefined || after === undefined) throw new Error("both are told");
  expect(before).toEqual(first);
  expect(accountOf(after, before).usage).toMatchObject({ cacheReadTokens: 7, reasoningTokens: 3 });
});

test("exec reports the total of the conversation", () => {
  const total = (name: string) => {
    const { records } = codexCapture("exec", name);
    return execTotalOf(asRecord(records.find(({ type }) => type === "turn.completed")?.usage) ?? {});
  };
  const [first, second] = [total("first turn"), total("tool")];
  expect(accountOf(first, {}).usage.cacheReadTokens).toBe(7);
  expect(accountOf(second, first).usage.cacheReadTokens).toBe(14);
  expect(accountOf(second, first).total).toBe(second);
});

test("a total that has fallen is the turn's own", () => {
  const small = { ...none, inputTokens: 5, outputTokens: 1 };
  expect(accountOf(small, { ...none, inputTokens: 9 })).toEqual({ usage: small, total: small });
});
