/** A request for a response: what it asks for, or why it cannot be had. */

import { createHash } from "node:crypto";
import { endUserOf } from "../chat-request.js";
import type { Conversation } from "../conversation.js";
import { invalid } from "../errors.js";
import { outputFormatOf, type WantedFormat } from "../output-format.js";
import { isObject, type JsonObject, wellFormed } from "../parts.js";
import { inputConversation } from "./input.js";

export interface ResponseRequest extends WantedFormat {
  readonly model: string;
  readonly stream: boolean;
  readonly background: boolean;
  readonly previousResponseId: string | undefined;
  readonly conversationId: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly conversation: Conversation;
  /** As it was sent. */
  readonly textFormat?: JsonObject;
  readonly endUser?: string;
  /** SHA-256 of what makes a repeat the same: the body, streamed or not. */
  digest(target: readonly string[]): Uint8Array;
}

/** 400 names the field. What clients send unasked is ignored, see docs/openai.md. */
export function toResponseRequest(body: JsonObject): ResponseRequest {
  const { model, instructions = null } = body;
  if (model === undefined) throw invalid("model", "model is missing", "missing_required_parameter");
  if (typeof model !== "string" || model === "") throw invalid("model", "model is not a name");
  if (Buffer.byteLength(model) > 256) throw invalid("model", "model has more than 256 bytes");
  if (instructions !== null && typeof instructions !== "string") {
    throw invalid("instructions", "instructions is not a string");
  }
  refuseUnsupported(body);
  const previousResponseId = idAt(body, "previous_response_id");
  const conversationId = conversationOf(body);
  if (previousResponseId !== undefined && conversationId !== undefined) {
    throw invalid("previous_response_id", "previous_response_id and conversation are both given");
  }
  return {
    model,
    stream: booleanAt(body, "stream"),
    background: booleanAt(body, "background"),
    previousResponseId,
    conversationId,
    metadata: metadataOf(body),
    conversation: inputConversation(body.input, instructions ?? ""),
    ...endUserOf(body),
    ...formatOf(body),
    digest(target) {
      const { stream: _stream, stream_options: _options, ...rest } = body;
      return createHash("sha256")
        .update(JSON.stringify([target, rest]))
        .digest();
    },
  };
}

function refuseUnsupported(body: JsonObject): void {
  const { tools = null, prompt = null } = body;
  if (tools !== null && !Array.isArray(tools)) throw invalid("tools", "tools is not an array");
  if (tools !== null && tools.length > 0) {
    throw invalid(
      "tools",
      "tools is not empty: the provider takes none of the caller's",
      "unsupported_value",
    );
  }
  if (prompt !== null) throw invalid("prompt", "prompt is given: no templates are kept", "unsupported_value");
}

function formatOf({ text = null }: JsonObject): Pick<ResponseRequest, "outputFormat" | "textFormat"> {
  if (text !== null && !isObject(text)) throw invalid("text", "text is not an object");
  const format = text?.format ?? null;
  return {
    ...outputFormatOf(format, "text.format"),
    ...(isObject(format) ? { textFormat: format } : {}),
  };
}

function conversationOf({ conversation = null }: JsonObject): string | undefined {
  if (conversation === null) return undefined;
  return isObject(conversation)
    ? idAt(conversation, "id", "conversation.id", "needed")
    : idAt({ conversation }, "conversation");
}

/** Names at most 256 bytes long, as the broker keeps them with a turn. */
function idAt(value: JsonObject, key: string, param = key, needed?: "needed"): string | undefined {
  const id = value[key] ?? null;
  if (id === null && needed === undefined) return undefined;
  if (typeof id !== "string" || id === "" || Buffer.byteLength(id) > 256) {
    throw invalid(param, `${param} is not an id of 1 to 256 bytes`);
  }
  return id;
}

function booleanAt(body: JsonObject, key: string): boolean {
  const value = body[key] ?? null;
  if (value !== null && typeof value !== "boolean") throw invalid(key, `${key} is not a boolean`);
  return value ?? false;
}

function metadataOf({ metadata = null }: JsonObject): Record<string, string> {
  if (metadata === null) return {};
  if (!isObject(metadata)) throw invalid("metadata", "metadata is not an object");
  const entries = Object.entries(metadata);
  if (entries.length > 16) throw invalid("metadata", "metadata has more than 16 entries");
  return Object.fromEntries(
    entries.map(([key, value]) => {
      if (typeof value !== "string") throw invalid(`metadata.${key}`, `metadata.${key} is not a string`);
      return [wellFormed(key), wellFormed(value)];
    }),
  );
}
