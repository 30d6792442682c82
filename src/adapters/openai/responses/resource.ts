/** The response object, from what the broker keeps of a turn: any adapter makes the same one. */

import type {
  Response,
  ResponseError,
  ResponseFormatTextConfig,
  ResponseOutputItem,
  ResponseUsage,
} from "openai/resources/responses/responses";
import type { TurnEvent } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import { FinishReason, TurnErrorCode } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import type { Usage } from "../../../../gen/sessionbroker/v1/usage_pb.js";
import { fromCancelled, fromInterrupted, fromTurnError } from "../errors.js";
import type { JsonObject } from "../parts.js";
import type { ResponseRequest } from "./request.js";

/** As it is sent; the SDK adds `output_text`. */
export type ResponseBody = Omit<Response, "output_text">;

/** What does not change while the turn runs. */
export interface ResponseHead {
  readonly turnId: string;
  /** Seconds since 1970. */
  readonly createdAt: number;
  /** Those of the turn. */
  readonly labels: Readonly<Record<string, string>>;
}

const idPrefix = "resp_";
const metadataPrefix = "metadata.";
const formatLabel = "text_format";

export function responseIdOf(turnId: string): string {
  return idPrefix + turnId;
}

/** Undefined if it is not the id of a response. */
export function turnIdOfResponse(responseId: string): string | undefined {
  if (!responseId.startsWith(idPrefix)) return undefined;
  const turnId = responseId.slice(idPrefix.length);
  return /^[A-Za-z0-9._:-]{1,128}$/.test(turnId) ? turnId : undefined;
}

/** What the broker keeps with the turn, so that the response can be shown later. */
export function responseLabels(request: ResponseRequest): Record<string, string> {
  const { model, background, previousResponseId, conversationId, metadata, textFormat } = request;
  const kept = Object.entries(metadata)
    .map(([key, value]) => [metadataPrefix + key, value] as const)
    .filter(([key, value]) => Buffer.byteLength(key) <= 64 && Buffer.byteLength(value) <= 256);
  return {
    ...Object.fromEntries(kept),
    api: "responses",
    model,
    ...(textFormat === undefined ? {} : { [formatLabel]: keptFormat(textFormat) }),
    ...(background ? { background: "true" } : {}),
    ...(previousResponseId === undefined ? {} : { previous_response_id: previousResponseId }),
    ...(conversationId === undefined ? {} : { conversation: conversationId }),
  };
}

/** A schema that is too large to be kept with the turn is left out. */
function keptFormat(format: JsonObject): string {
  const text = JSON.stringify(format);
  if (Buffer.byteLength(text) <= 256) return text;
  const { type, name } = format;
  return JSON.stringify({ type, name, schema: {} });
}

function shownFormat(labels: ResponseHead["labels"]): ResponseFormatTextConfig {
  const kept = labels[formatLabel];
  return kept === undefined ? { type: "text" } : (JSON.parse(kept) as ResponseFormatTextConfig);
}

export function isResponse({ labels }: Pick<ResponseHead, "labels">): boolean {
  return labels.api === "responses";
}

export function isBackground({ labels }: Pick<ResponseHead, "labels">): boolean {
  return labels.background === "true";
}

export interface Progress {
  readonly status: "queued" | "in_progress";
  readonly output: readonly ResponseOutputItem[];
}

export function runningResponse(head: ResponseHead, { status, output }: Progress): ResponseBody {
  return { ...bodyOf(head, output), status };
}

/** After the turn's last event. */
export function endedResponse(
  head: ResponseHead,
  output: readonly ResponseOutputItem[],
  { event, time }: TurnEvent,
): ResponseBody {
  const body = bodyOf(head, output);
  switch (event.case) {
    case "completed": {
      const usage = { usage: responseUsage(event.value.usage) };
      const reason = incompleteReason(event.value.finishReason);
      return reason === undefined
        ? { ...body, status: "completed", completed_at: Number(time?.seconds ?? 0n), ...usage }
        : { ...body, status: "incomplete", incomplete_details: { reason }, ...usage };
    }
    case "cancelled":
      return { ...body, status: "cancelled", error: serverError(fromCancelled(event.value).message) };
    case "failed": {
      const { error, usage } = event.value;
      const { message, init } = fromTurnError(error);
      return {
        ...body,
        status: "failed",
        error: { code: errorCode(error?.code), message: `${init.code}: ${message}` },
        ...(usage === undefined ? {} : { usage: responseUsage(usage) }),
      };
    }
    default:
      return { ...body, status: "failed", error: serverError(fromInterrupted().message) };
  }
}

function bodyOf({ turnId, createdAt, labels }: ResponseHead, output: readonly ResponseOutputItem[]) {
  const { model = "", previous_response_id: previous = null, conversation } = labels;
  const metadata = Object.entries(labels)
    .filter(([key]) => key.startsWith(metadataPrefix))
    .map(([key, value]) => [key.slice(metadataPrefix.length), value]);
  return {
    id: responseIdOf(turnId),
    object: "response",
    created_at: createdAt,
    model,
    background: isBackground({ labels }),
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: Object.fromEntries(metadata),
    output: [...output],
    parallel_tool_calls: false,
    previous_response_id: previous,
    conversation: conversation === undefined ? null : { id: conversation },
    temperature: null,
    text: { format: shownFormat(labels) },
    tool_choice: "none",
    tools: [],
    top_p: null,
    truncation: "disabled",
  } satisfies ResponseBody;
}

/** OpenAI counts what was read from or written to a cache as input. */
export function responseUsage(usage: Usage | undefined): ResponseUsage {
  const cached = Number(usage?.cacheReadTokens ?? 0n);
  const written = Number(usage?.cacheWriteTokens ?? 0n);
  const input = Number(usage?.inputTokens ?? 0n) + cached + written;
  const output = Number(usage?.outputTokens ?? 0n);
  return {
    input_tokens: input,
    input_tokens_details: { cached_tokens: cached, cache_write_tokens: written },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: Number(usage?.reasoningTokens ?? 0n) },
    total_tokens: input + output,
  };
}

export function incompleteReason(reason: FinishReason): "max_output_tokens" | "content_filter" | undefined {
  if (reason === FinishReason.LENGTH) return "max_output_tokens";
  return reason === FinishReason.REFUSAL ? "content_filter" : undefined;
}

function serverError(message: string): ResponseError {
  return { code: "server_error", message };
}

/** OpenAI has few codes; the broker's own stands at the beginning of the message. */
function errorCode(code: TurnErrorCode | undefined): ResponseError["code"] {
  switch (code) {
    case TurnErrorCode.RATE_LIMITED:
      return "rate_limit_exceeded";
    case TurnErrorCode.INVALID_REQUEST:
    case TurnErrorCode.CONTEXT_OVERFLOW:
      return "invalid_prompt";
    default:
      return "server_error";
  }
}
