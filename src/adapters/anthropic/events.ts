/**
 * A message and its events, from the events of its turn: message_start, for
 * each block of text or thinking start, deltas and stop, then message_delta
 * and message_stop.
 */
import type {
  ContentBlock,
  Message,
  MessageDeltaUsage,
  RawMessageStreamEvent,
  StopReason,
} from "@anthropic-ai/sdk/resources/messages/messages";
import { FinishReason, type TurnEvent } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Usage } from "../../../gen/sessionbroker/v1/usage_pb.js";

type Block = Extract<ContentBlock, { type: "text" | "thinking" }>;

export interface MessageHead {
  readonly turnId: string;
  /** As the request names it. */
  readonly model: string;
  /** Reasoning is shown. */
  readonly thinking: boolean;
}

export class MessageEvents {
  /** Whole once the turn has completed. */
  readonly message: Message;
  #open = false;
  #textLength = 0;
  readonly #blocks: Block[] = [];

  constructor(private readonly head: MessageHead) {
    this.message = {
      id: `msg_${head.turnId}`,
      type: "message",
      role: "assistant",
      model: head.model,
      content: this.#blocks,
      stop_reason: null,
      stop_sequence: null,
      stop_details: null,
      container: null,
      diagnostics: null,
      usage: messageUsage(undefined),
    };
  }

  /** What a turn's event is to the client. A failure is nothing here. */
  apply({ event }: TurnEvent): RawMessageStreamEvent[] {
    switch (event.case) {
      case "accepted":
        return [{ type: "message_start", message: { ...this.message, content: [] } }];
      case "textDelta":
        return this.#text(event.value.text);
      case "reasoningDelta":
        return this.head.thinking ? this.#thinking(event.value.text) : [];
      case "completed": {
        const { text, finishReason, usage } = event.value;
        // A turn whose events are no longer kept has its answer in the ending alone.
        const rest = text.slice(this.#textLength);
        const events = [...(rest === "" ? [] : this.#text(rest)), ...this.#close()];
        this.message.stop_reason = stopReason(finishReason);
        this.message.usage = messageUsage(usage);
        const delta = {
          stop_reason: this.message.stop_reason,
          stop_sequence: null,
          stop_details: null,
          container: null,
        };
        return [
          ...events,
          { type: "message_delta", delta, usage: deltaUsage(usage) },
          { type: "message_stop" },
        ];
      }
      default:
        return [];
    }
  }

  #text(text: string): RawMessageStreamEvent[] {
    const begun = this.#begin({ type: "text", text: "", citations: null });
    const block = this.#blocks.at(-1);
    if (block?.type === "text") block.text += text;
    this.#textLength += text.length;
    const delta = { type: "text_delta" as const, text };
    return [...begun, { type: "content_block_delta", index: this.#blocks.length - 1, delta }];
  }

  #thinking(thinking: string): RawMessageStreamEvent[] {
    const begun = this.#begin({ type: "thinking", thinking: "", signature: "" });
    const block = this.#blocks.at(-1);
    if (block?.type === "thinking") block.thinking += thinking;
    const delta = { type: "thinking_delta" as const, thinking, estimated_tokens: null };
    return [...begun, { type: "content_block_delta", index: this.#blocks.length - 1, delta }];
  }

  #begin(block: Block): RawMessageStreamEvent[] {
    if (this.#open && this.#blocks.at(-1)?.type === block.type) return [];
    const closed = this.#close();
    this.#open = true;
    const index = this.#blocks.push(block) - 1;
    return [...closed, { type: "content_block_start", index, content_block: { ...block } }];
  }

  #close(): RawMessageStreamEvent[] {
    if (!this.#open) return [];
    this.#open = false;
    return [{ type: "content_block_stop", index: this.#blocks.length - 1 }];
  }
}

export function stopReason(reason: FinishReason): StopReason {
  if (reason === FinishReason.LENGTH) return "max_tokens";
  return reason === FinishReason.REFUSAL ? "refusal" : "end_turn";
}

/** Anthropic counts what was read from or written to a cache beside the input. */
function messageUsage(usage: Usage | undefined): Message["usage"] {
  return {
    ...tokens(usage),
    input_tokens: Number(usage?.inputTokens ?? 0n),
    cache_creation: null,
    inference_geo: null,
    service_tier: null,
    speed: null,
  };
}

function deltaUsage(usage: Usage | undefined): MessageDeltaUsage {
  return { ...tokens(usage), input_tokens: Number(usage?.inputTokens ?? 0n) };
}

function tokens(usage: Usage | undefined) {
  return {
    cache_creation_input_tokens: Number(usage?.cacheWriteTokens ?? 0n),
    cache_read_input_tokens: Number(usage?.cacheReadTokens ?? 0n),
    output_tokens: Number(usage?.outputTokens ?? 0n),
    output_tokens_details: { thinking_tokens: Number(usage?.reasoningTokens ?? 0n) },
    server_tool_use: null,
  };
}
