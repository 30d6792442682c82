import { expect, it } from "vitest";
import { usageOf } from "./usage.js";

it.each([
  [undefined, undefined],
  [null, undefined],
  [{}, [0, 0, 0, 0]],
  [{ input_tokens: 5, output_tokens: 2 }, [5, 0, 2, 0]],
  [{ prompt_tokens: 5, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 4 } }, [1, 4, 2, 0]],
  [{ input_tokens: 5, input_tokens_details: { cached_tokens: 9 } }, [0, 5, 0, 0]],
  [{ output_tokens: 5, output_tokens_details: { reasoning_tokens: 3 } }, [0, 0, 5, 3]],
  [{ input_tokens: -1, output_tokens: "2" }, [0, 0, 0, 0]],
])("of %j", (usage, expected) => {
  const tokens = usageOf(usage);
  const { inputTokens, cacheReadTokens, outputTokens, reasoningTokens } = tokens ?? {};
  expect(tokens && [inputTokens, cacheReadTokens, outputTokens, reasoningTokens]).toEqual(expected);
});
