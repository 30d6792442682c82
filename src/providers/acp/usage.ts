/** Tokens and cost of a turn. */
import type { RunningTotal, TurnUsage } from "../../turns/provider.js";
import { asList, asNumber, asRecord, asString, type JsonRecord } from "../json.js";

export interface TurnAccount {
  readonly usage?: TurnUsage;
  readonly total?: RunningTotal;
}

/**
 * @param result the answer to the prompt: `usage` by the protocol, whose input
 *   excludes what was cached, or the `_meta.quota` of gemini
 * @param costUsd of the conversation so far, or of the process
 */
export function accountOf(
  result: JsonRecord,
  costUsd: number | undefined,
  previous: RunningTotal,
): TurnAccount {
  const tokens = tokensOf(result);
  if (costUsd === undefined) return tokens === undefined ? {} : { usage: tokens };
  const before = previous.costUsd ?? 0;
  // A sum that has fallen began anew, with the process.
  const cost = costUsd >= before ? costUsd - before : costUsd;
  return { usage: { ...(tokens ?? noTokens), costUsd: cost }, total: { costUsd } };
}

/** The agent counts tokens, and has counted none: the model gave no whole answer. */
export function countsNothing(result: JsonRecord): boolean {
  const tokens = tokensOf(result);
  return tokens !== undefined && Object.values(tokens).every((count) => count === 0);
}

/** The model that answered, as gemini and others name it. */
export function modelOf(result: JsonRecord): string | undefined {
  const models = asList(asRecord(asRecord(result._meta)?.quota)?.model_usage);
  return asString(asRecord(models.at(-1))?.model);
}

const noTokens: TurnUsage = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
};

function tokensOf(result: JsonRecord): TurnUsage | undefined {
  const usage = asRecord(result.usage);
  if (usage !== undefined) {
    return {
      inputTokens: count(usage.inputTokens),
      cacheReadTokens: count(usage.cachedReadTokens),
      cacheWriteTokens: count(usage.cachedWriteTokens),
      outputTokens: count(usage.outputTokens),
      reasoningTokens: count(usage.thoughtTokens),
    };
  }
  const quota = asRecord(asRecord(asRecord(result._meta)?.quota)?.token_count);
  if (quota === undefined) return undefined;
  return {
    ...noTokens,
    inputTokens: count(quota.input_tokens),
    outputTokens: count(quota.output_tokens),
  };
}

function count(value: unknown): number {
  return Math.max(0, asNumber(value) ?? 0);
}
