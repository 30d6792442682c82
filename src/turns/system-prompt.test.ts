import { expect, test } from "vitest";
import { systemPromptOf } from "./system-prompt.js";

const first = systemPromptOf("Be brief.", undefined, true);

test("a conversation begins with its prompt", () => {
  expect(first.digest).toHaveLength(32);
  expect(first.notice).toBeUndefined();
});

test("the same prompt is not said again", () => {
  expect(systemPromptOf("Be brief.", first.digest, false)).toEqual({});
});

test("another one is said once", () => {
  const changed = systemPromptOf("Be long.", first.digest, false);
  expect(changed.notice).toContain("Be long.");
  expect(systemPromptOf("Be long.", changed.digest, false)).toEqual({});
});

test("one that comes late is said", () => {
  expect(systemPromptOf("Be brief.", undefined, false).notice).toContain("Be brief.");
});

test.each([undefined, ""])("without a prompt (%j) the agent keeps what it knows", (system) => {
  expect(systemPromptOf(system, first.digest, false)).toEqual({});
  expect(systemPromptOf(system, undefined, true)).toEqual({});
});
