/** Tokens of a run, from its terminal record. */
import type { TurnUsage } from "../../turns/provider.js";
import { asNumber, asRecord, type JsonRecord } from "../json.js";

/** `stats` are of the run alone; `input` is what was not read from a cache. */
export function usageOf(result: JsonRecord): TurnUsage | undefined {
  const stats = asRecord(result.stats);
  if (stats === undefined) return undefined;
  const cached = count(stats.cached);
  return {
    inputTokens: stats.input === undefined ? count(count(stats.input_tokens) - cached) : count(stats.input),
    cacheReadTokens: cached,
    cacheWriteTokens: 0,
    outputTokens: count(stats.output_tokens),
    reasoningTokens: 0,
  };
}

/** The model that put out most. */
export function modelOf(result: JsonRecord): string | undefined {
  const models = Object.entries(asRecord(asRecord(result.stats)?.models) ?? {});
  const tokens = (stats: unknown) => count(asRecord(stats)?.output_tokens);
  return models.sort(([, first], [, second]) => tokens(second) - tokens(first))[0]?.[0];
}

function count(value: unknown): number {
  return Math.max(0, asNumber(value) ?? 0);
}
