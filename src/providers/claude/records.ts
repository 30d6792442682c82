/** Records of the agent's output, read leniently: a field that is missing or odd is absent. */

export type ClaudeRecord = Readonly<Record<string, unknown>>;

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

/** The record in a line; undefined if the line is none. */
export function parseRecord(line: string): ClaudeRecord | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return asRecord(JSON.parse(line));
  } catch {
    return undefined;
  }
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

export function asRecord(value: unknown): ClaudeRecord | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as ClaudeRecord)
    : undefined;
}

export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function asString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function asNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without the fields that are undefined. */
function present<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
}
