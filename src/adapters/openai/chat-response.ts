/** The objects of a chat completion, streamed or not. */
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionMessage,
} from "openai/resources/chat/completions";
import type { CompletionUsage } from "openai/resources/completions";
import { type Completed, FinishReason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Usage } from "../../../gen/sessionbroker/v1/usage_pb.js";

/** What all objects of one answer share. */
export interface AnswerHead {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  /** As the request names it. */
  readonly model: string;
}

export interface ChunkDelta {
  readonly role?: "assistant";
  readonly content?: string;
  readonly reasoning_content?: string;
}

export function toCompletion(head: AnswerHead, ending: Completed, reasoning: string) {
  const message = {
    role: "assistant",
    content: ending.text,
    refusal: null,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
  } satisfies ChatCompletionMessage & { reasoning_content?: string };
  return {
    ...inOrder(head, "chat.completion"),
    choices: [
      {
        index: 0,
        message,
        logprobs: null,
        finish_reason: toFinishReason(ending.finishReason),
      },
    ],
    usage: toUsage(ending.usage),
  } satisfies ChatCompletion;
}

/** With `withUsage` every chunk but the last says that its usage is unknown. */
export function toChunk(
  head: AnswerHead,
  delta: ChunkDelta,
  finishReason: FinishReasonName | null,
  withUsage: boolean,
) {
  return {
    ...inOrder(head, "chat.completion.chunk"),
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finishReason }],
    ...(withUsage ? { usage: null } : {}),
  } satisfies ChatCompletionChunk;
}

export function toUsageChunk(head: AnswerHead, usage: Usage | undefined) {
  return {
    ...inOrder(head, "chat.completion.chunk"),
    choices: [],
    usage: toUsage(usage),
  } satisfies ChatCompletionChunk;
}

function inOrder<Name extends string>({ id, created, model }: AnswerHead, object: Name) {
  return { id, object, created, model };
}

export type FinishReasonName = "stop" | "length" | "content_filter";

export function toFinishReason(reason: FinishReason): FinishReasonName {
  if (reason === FinishReason.LENGTH) return "length";
  return reason === FinishReason.REFUSAL ? "content_filter" : "stop";
}

/** OpenAI counts what was read from or written to a cache as prompt. */
export function toUsage(usage: Usage | undefined) {
  const cached = Number(usage?.cacheReadTokens ?? 0n);
  const prompt = Number(usage?.inputTokens ?? 0n) + cached + Number(usage?.cacheWriteTokens ?? 0n);
  const completion = Number(usage?.outputTokens ?? 0n);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
    completion_tokens_details: { reasoning_tokens: Number(usage?.reasoningTokens ?? 0n) },
  } satisfies CompletionUsage;
}
