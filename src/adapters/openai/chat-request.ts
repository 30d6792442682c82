/** A chat completion request: what it asks for, or why it cannot be had. */
import { createHash } from "node:crypto";
import type { Conversation } from "./conversation.js";
import { invalid } from "./errors.js";
import { chatConversation } from "./messages.js";
import { outputFormatOf, type WantedFormat } from "./output-format.js";

export interface ChatRequest extends WantedFormat {
  readonly model: string;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly conversation: Conversation;
  readonly endUser?: string;
  /** SHA-256 of what makes a repeat the same: the body, streamed or not. */
  digest(target: readonly string[]): Uint8Array;
}

type Body = Readonly<Record<string, unknown>>;

/**
 * 400 names the field. A field that would change the answer and that no agent
 * can honour is refused; sampling options and unknown fields are ignored, since
 * clients send them unasked.
 */
export function toChatRequest(body: Body): ChatRequest {
  const { model, stream = null, stream_options: streamOptions = null } = body;
  if (model === undefined) throw invalid("model", "model is missing", "missing_required_parameter");
  if (typeof model !== "string" || model === "") throw invalid("model", "model is not a name");
  if (stream !== null && typeof stream !== "boolean") throw invalid("stream", "stream is not a boolean");
  refuseUnsupported(body);
  return {
    model,
    stream: stream ?? false,
    includeUsage: wantsUsage(streamOptions),
    conversation: chatConversation(body.messages),
    ...endUserOf(body),
    ...outputFormatOf(body.response_format, "response_format", "json_schema"),
    digest: (target) => digestOf(body, target),
  };
}

/** Whom the client asks for: conversations without an id are of one person. */
export function endUserOf({ safety_identifier: safe, user }: Body): { readonly endUser?: string } {
  const endUser = safe ?? user;
  return typeof endUser === "string" && endUser !== "" ? { endUser } : {};
}

function refuseUnsupported(body: Body): void {
  const { n = null, modalities = null, audio = null } = body;
  if (n !== null && n !== 1) throw invalid("n", "n is not 1: an agent gives one answer", "unsupported_value");
  for (const field of ["tools", "functions"] as const) {
    const value = body[field] ?? [];
    if (!Array.isArray(value)) throw invalid(field, `${field} is not an array`);
    if (value.length > 0) {
      throw invalid(
        field,
        `${field} is not empty: the provider takes none of the caller's`,
        "unsupported_value",
      );
    }
  }
  if (modalities !== null && !(Array.isArray(modalities) && modalities.every((kind) => kind === "text"))) {
    throw invalid("modalities", 'modalities is not ["text"]', "unsupported_value");
  }
  if (audio !== null) throw invalid("audio", "audio is given: answers are text", "unsupported_value");
}

function wantsUsage(streamOptions: unknown): boolean {
  if (streamOptions === null) return false;
  if (typeof streamOptions !== "object") throw invalid("stream_options", "stream_options is not an object");
  const { include_usage: includeUsage = null } = streamOptions as Record<string, unknown>;
  if (includeUsage !== null && typeof includeUsage !== "boolean") {
    throw invalid("stream_options.include_usage", "stream_options.include_usage is not a boolean");
  }
  return includeUsage ?? false;
}

function digestOf(body: Body, target: readonly string[]): Uint8Array {
  const { stream: _stream, stream_options: _streamOptions, ...rest } = body;
  return createHash("sha256")
    .update(JSON.stringify([target, rest]))
    .digest();
}
