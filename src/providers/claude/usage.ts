/** Tokens and cost of a turn, from its terminal record. */
import type { RunningTotal, TurnUsage } from "../../turns/provider.js";
import { asNumber, asRecord, type ClaudeRecord, type ClaudeResult } from "./records.js";

export interface TurnAccount {
  readonly usage: TurnUsage;
  readonly total?: RunningTotal;
}

/** Of a turn with these results, oldest first: a line that came while another was answered may have its own. */
export function accountOfAll(
  results: readonly ClaudeResult[],
  previous: RunningTotal | undefined,
): Partial<TurnAccount> {
  let sum: Partial<TurnAccount> = {};
  for (const result of results) {
    const { usage, total } = accountOf(result, sum.total ?? previous);
    sum = {
      ...sum,
      usage: sum.usage === undefined ? usage : sumOf(sum.usage, usage),
      ...(total === undefined ? {} : { total }),
    };
  }
  return sum;
}

export function accountOf(result: ClaudeResult, previous: RunningTotal | undefined): TurnAccount {
  const tokens = tokensOf(result);
  if (result.totalCostUsd === undefined) return { usage: tokens };
  const costUsd = costOf(result, result.totalCostUsd, previous);
  return { usage: { ...tokens, costUsd }, total: { costUsd: result.totalCostUsd } };
}

function sumOf(first: TurnUsage, second: TurnUsage): TurnUsage {
  const cost = [first.costUsd, second.costUsd].filter((each) => each !== undefined);
  return {
    inputTokens: first.inputTokens + second.inputTokens,
    cacheReadTokens: first.cacheReadTokens + second.cacheReadTokens,
    cacheWriteTokens: first.cacheWriteTokens + second.cacheWriteTokens,
    outputTokens: first.outputTokens + second.outputTokens,
    reasoningTokens: first.reasoningTokens + second.reasoningTokens,
    ...(cost.length === 0 ? {} : { costUsd: cost.reduce((sum, each) => sum + each) }),
  };
}

/**
 * `usage` is of this turn alone, but all zero if the turn was interrupted or
 * failed; what the models took is known all the same in newer versions.
 */
function tokensOf(result: ClaudeResult): TurnUsage {
  const { usage } = result;
  const fromUsage: TurnUsage = {
    inputTokens: count(usage.input_tokens),
    cacheReadTokens: count(usage.cache_read_input_tokens),
    cacheWriteTokens: count(usage.cache_creation_input_tokens),
    outputTokens: count(usage.output_tokens),
    reasoningTokens: count(asRecord(usage.output_tokens_details)?.thinking_tokens),
  };
  const isEmpty = Object.values(fromUsage).every((tokens) => tokens === 0);
  if (!isEmpty || result.modelUsageOfTurn === undefined) return fromUsage;
  const sum = (field: string) => sumOverModels(result.modelUsageOfTurn, field);
  return {
    inputTokens: sum("inputTokens"),
    cacheReadTokens: sum("cacheReadInputTokens"),
    cacheWriteTokens: sum("cacheCreationInputTokens"),
    outputTokens: sum("outputTokens"),
    reasoningTokens: sum("thinkingTokens"),
  };
}

/**
 * The total is over the conversation in newer versions, and over the process
 * in older ones, where it is this turn's cost. Newer versions say what the
 * turn took; without that, a total counts as the conversation's if its models
 * have put out more than the turn has and it has not fallen.
 */
function costOf(result: ClaudeResult, totalUsd: number, previous: RunningTotal | undefined): number {
  if (result.modelUsageOfTurn !== undefined) return sumOverModels(result.modelUsageOfTurn, "costUSD");
  const spansTurns = sumOverModels(result.modelUsage, "outputTokens") > count(result.usage.output_tokens);
  const before = previous?.costUsd ?? 0;
  return spansTurns && totalUsd >= before ? totalUsd - before : totalUsd;
}

function sumOverModels(models: ClaudeRecord | undefined, field: string): number {
  return Object.values(models ?? {}).reduce<number>(
    (sum, model) => sum + (asNumber(asRecord(model)?.[field]) ?? 0),
    0,
  );
}

function count(value: unknown): number {
  return Math.max(0, asNumber(value) ?? 0);
}
