/** Tokens of a turn, as either interface counts them: cached input and reasoning are parts of the totals. */
import type { TurnUsage } from "../../turns/provider.js";
import { asNumber, asObject } from "./json.js";

export function usageOf(value: unknown): TurnUsage | undefined {
  const usage = asObject(value);
  if (usage === undefined) return undefined;
  const input = count(usage.input_tokens ?? usage.prompt_tokens);
  const inputDetails = asObject(usage.input_tokens_details ?? usage.prompt_tokens_details);
  const outputDetails = asObject(usage.output_tokens_details ?? usage.completion_tokens_details);
  const cached = Math.min(count(inputDetails?.cached_tokens), input);
  return {
    inputTokens: input - cached,
    cacheReadTokens: cached,
    cacheWriteTokens: 0,
    outputTokens: count(usage.output_tokens ?? usage.completion_tokens),
    reasoningTokens: count(outputDetails?.reasoning_tokens),
  };
}

function count(value: unknown): number {
  return Math.max(0, Math.round(asNumber(value) ?? 0));
}
