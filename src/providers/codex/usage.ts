/**
 * Tokens of a turn. Both modes report the sum over the conversation, which
 * outlives processes; the turn's share is what it adds. The app server also
 * says what the last request took, which is less than the turn if it used
 * tools, and repeats that of an earlier turn.
 */
import type { RunningTotal, TurnUsage } from "../../turns/provider.js";
import { asNumber, type JsonRecord } from "../json.js";

export interface TurnAccount {
  readonly usage: TurnUsage;
  readonly total: RunningTotal;
}

/** From `tokenUsage.total` of the app server. */
export function totalOf(reported: JsonRecord): TurnUsage {
  return tokens(
    reported.inputTokens,
    reported.cachedInputTokens,
    reported.cacheWriteInputTokens,
    reported.outputTokens,
    reported.reasoningOutputTokens,
  );
}

/** From `usage` of the record that ends `codex exec`. */
export function execTotalOf(reported: JsonRecord): TurnUsage {
  return tokens(
    reported.input_tokens,
    reported.cached_input_tokens,
    reported.cache_write_input_tokens,
    reported.output_tokens,
    reported.reasoning_output_tokens,
  );
}

/**
 * @param before the total when the turn began; a total that has fallen counts
 *   anew, and is the turn's own
 */
export function accountOf(total: TurnUsage, before: RunningTotal): TurnAccount {
  const added: TurnUsage = {
    inputTokens: total.inputTokens - (before.inputTokens ?? 0),
    cacheReadTokens: total.cacheReadTokens - (before.cacheReadTokens ?? 0),
    cacheWriteTokens: total.cacheWriteTokens - (before.cacheWriteTokens ?? 0),
    outputTokens: total.outputTokens - (before.outputTokens ?? 0),
    reasoningTokens: total.reasoningTokens - (before.reasoningTokens ?? 0),
  };
  const hasFallen = Object.values(added).some((count) => count < 0);
  return { usage: hasFallen ? total : added, total };
}

/** The agent counts cached input as input too. */
function tokens(
  input: unknown,
  read: unknown,
  write: unknown,
  output: unknown,
  reasoning: unknown,
): TurnUsage {
  const cacheReadTokens = count(read);
  const cacheWriteTokens = count(write);
  return {
    inputTokens: Math.max(0, count(input) - cacheReadTokens - cacheWriteTokens),
    cacheReadTokens,
    cacheWriteTokens,
    outputTokens: count(output),
    reasoningTokens: count(reasoning),
  };
}

function count(value: unknown): number {
  return Math.max(0, asNumber(value) ?? 0);
}
