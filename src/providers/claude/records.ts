/** Records of the agent's output, read leniently: a field that is missing or odd is absent. */

import { asList, asNumber, asRecord, asString, type JsonRecord, parseRecord } from "../json.js";

export { asList, asNumber, asRecord, asString, parseRecord };

export type ClaudeRecord = JsonRecord;

/** The record that ends a turn. */
export interface ClaudeResult {
  readonly isError: boolean;
  readonly subtype: string;
  readonly sessionId?: string;
  /** 0: no model was asked. */
  readonly numTurns?: number;
  /** The last answer, or what the CLI says about the failure. */
  readonly text: string;
  readonly errors: readonly string[];
  readonly terminalReason?: string;
  readonly stopReason?: string;
  readonly apiStatus?: number;
  readonly apiErrorType?: string;
  /** Such as `connection_failed`. */
  readonly apiError?: string;
  /** Uuids of the input lines that the turn took; absent in older versions. */
  readonly inputUuids?: readonly string[];
  readonly usage: ClaudeRecord;
  /** By model, over the conversation (older versions: over the process). */
  readonly modelUsage: ClaudeRecord;
  /** By model, in this turn; absent in older versions. */
  readonly modelUsageOfTurn?: ClaudeRecord;
  readonly totalCostUsd?: number;
}

export function parseResult(record: ClaudeRecord): ClaudeResult {
  return {
    isError: record.is_error !== false,
    subtype: asString(record.subtype) ?? "",
    text: asString(record.result) ?? "",
    errors: asList(record.errors).filter((each) => typeof each === "string"),
    usage: asRecord(record.usage) ?? {},
    modelUsage: asRecord(record.modelUsage) ?? {},
    ...present({
      sessionId: asString(record.session_id),
      numTurns: asNumber(record.num_turns),
      terminalReason: asString(record.terminal_reason),
      stopReason: asString(record.stop_reason),
      apiStatus: asNumber(record.api_error_status),
      apiErrorType: asString(record.api_error_type),
      apiError: asString(record.api_error),
      inputUuids: Array.isArray(record.user_message_uuids)
        ? record.user_message_uuids.filter((each) => typeof each === "string")
        : undefined,
      modelUsageOfTurn: asRecord(record.model_usage_since_last_result),
      totalCostUsd: asNumber(record.total_cost_usd),
    }),
  };
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without the fields that are undefined. */
function present<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
}
