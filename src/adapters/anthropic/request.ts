/** A request for a message: what it asks for, or why it cannot be had. */
import { createHash } from "node:crypto";
import {
  type Conversation,
  type ListedMessage,
  type PartReader,
  toConversation,
  toParts,
  unknownPart,
} from "../openai/conversation.js";
import { invalid } from "../openai/errors.js";
import { jsonSchema, type WantedFormat } from "../openai/output-format.js";
import {
  filePart,
  type GivenPart,
  imagePart,
  isBase64,
  isObject,
  type JsonObject,
  objectAt,
  stringAt,
  textOf,
  textPart,
  wellFormed,
} from "../openai/parts.js";

export interface MessageRequest extends WantedFormat {
  readonly model: string;
  readonly stream: boolean;
  /** The client wants to see the agent's reasoning. */
  readonly thinking: boolean;
  readonly conversation: Conversation;
  readonly endUser?: string;
  /** SHA-256 of what makes a repeat the same: the body, streamed or not. */
  digest(target: readonly string[]): Uint8Array;
}

/** 400 names the field. What clients send unasked is ignored, see docs/anthropic.md. */
export function toMessageRequest(body: JsonObject): MessageRequest {
  const { model, stream = null, thinking = null, metadata = null } = body;
  if (typeof model !== "string" || model === "") throw invalid("model", "model is missing or not a name");
  if (stream !== null && typeof stream !== "boolean") throw invalid("stream", "stream is not a boolean");
  if (thinking !== null && !isObject(thinking)) throw invalid("thinking", "thinking is not an object");
  if (metadata !== null && !(isObject(metadata) && isText(metadata.user_id ?? ""))) {
    throw invalid("metadata.user_id", "metadata.user_id is not a string");
  }
  refuseUnsupported(body);
  return {
    model,
    stream: stream ?? false,
    thinking: thinking !== null && thinking.type !== "disabled",
    conversation: messagesConversation(body),
    ...formatOf(body),
    ...(metadata === null || !metadata.user_id ? {} : { endUser: String(metadata.user_id) }),
    digest(target) {
      const { stream: _stream, ...rest } = body;
      return createHash("sha256")
        .update(JSON.stringify([target, rest]))
        .digest();
    },
  };
}

function refuseUnsupported(body: JsonObject): void {
  for (const field of ["tools", "mcp_servers"] as const) {
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
  const { container = null } = body;
  if (container !== null)
    throw invalid("container", "container is given: agents have their own", "unsupported_value");
}

/** In beta versions of the API it was a field of its own. */
function formatOf({ output_format: beta = null, output_config: config = null }: JsonObject): WantedFormat {
  const [format, param] =
    beta === null && isObject(config)
      ? [config.format ?? null, "output_config.format"]
      : [beta, "output_format"];
  if (format === null) return {};
  if (!isObject(format) || format.type !== "json_schema") {
    throw invalid(`${param}.type`, `${param}.type is not json_schema`, "unsupported_value");
  }
  // It has no names for schemas, and models are held to each.
  return jsonSchema({ name: "answer", schema: format.schema, strict: true }, param);
}

function messagesConversation({ messages, system = null }: JsonObject): Conversation {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw invalid("messages", "messages is missing, empty or not an array");
  }
  const instructions = textOf(toParts(system, "system", "refuse", readSystem));
  return toConversation(messages.map(toMessage), "messages", readPart, instructions);
}

function toMessage(value: unknown, index: number): ListedMessage {
  const param = `messages[${index}]`;
  if (!isObject(value)) throw invalid(param, `${param} is not an object`);
  const { role, content } = value;
  if (role !== "user" && role !== "assistant") {
    throw invalid(`${param}.role`, `${param}.role is neither user nor assistant`);
  }
  return { role, content, param: `${param}.content` };
}

const readSystem: PartReader = (value, at, unsupported) =>
  value.type === "text" ? textPart(stringAt(value, "text", at)) : unknownPart(at, unsupported, "text");

const readPart: PartReader = (value, at, unsupported) => {
  switch (value.type) {
    case "text":
      return textPart(stringAt(value, "text", at));
    case "image":
      return attachment("image", value, at, unsupported);
    case "document":
      return attachment("file", value, at, unsupported);
    default:
      return unknownPart(at, unsupported, "text, image, document");
  }
};

function attachment(
  kind: "image" | "file",
  value: JsonObject,
  at: string,
  unsupported: "refuse" | "drop",
): GivenPart[] {
  const source = objectAt(value, "source", at);
  if (kind === "file" && source.type === "text") return textPart(stringAt(source, "data", `${at}.source`));
  const name = isText(value.title) ? wellFormed(value.title) : "";
  if (source.type === "url") {
    const read = kind === "image" ? imagePart : (url: string, param: string) => filePart(url, name, param);
    return read(stringAt(source, "url", `${at}.source`), `${at}.source.url`);
  }
  if (source.type !== "base64") {
    if (unsupported === "drop") return [];
    throw invalid(`${at}.source.type`, `${at}.source.type is neither base64 nor url`, "unsupported_value");
  }
  const data = stringAt(source, "data", `${at}.source`);
  const mediaType = stringAt(source, "media_type", `${at}.source`);
  if (!isBase64(data)) throw invalid(`${at}.source.data`, `${at}.source.data is not base64`);
  return [{ part: { case: kind, value: { mediaType, name, data: Buffer.from(data, "base64") } } }];
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}
