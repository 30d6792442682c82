/** The message list of a chat request, as parts of a turn. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type AttachmentSchema,
  HistoryMessage_Author as Author,
  type HistoryMessageSchema,
  type InputPartSchema,
} from "../../../gen/sessionbroker/v1/turn_pb.js";
import { invalid } from "./errors.js";

type Part = MessageInitShape<typeof InputPartSchema>;

export interface Conversation {
  /** System and developer messages, joined by blank lines. */
  readonly system: string;
  /** User and assistant messages up to the last assistant message. */
  readonly history: MessageInitShape<typeof HistoryMessageSchema>[];
  /** The user messages after it; never empty. */
  readonly input: Part[];
}

/** The most parts that a turn's input may have. */
const maxInputParts = 64;

const roles: ReadonlySet<unknown> = new Set(["system", "developer", "user", "assistant", "tool", "function"]);

/** 400, naming the place in the list, if a message cannot be passed on. */
export function toConversation(messages: unknown): Conversation {
  if (messages === undefined) throw invalid("messages", "messages is missing", "missing_required_parameter");
  if (!Array.isArray(messages)) throw invalid("messages", "messages is not an array");
  if (messages.length === 0) throw invalid("messages", "messages is empty");
  const list = messages.map(toMessage);
  const lastAnswer = list.findLastIndex(({ role }) => role === "assistant");

  const system: string[] = [];
  const history: MessageInitShape<typeof HistoryMessageSchema>[] = [];
  const input: Part[] = [];
  for (const [i, { role, content, param }] of list.entries()) {
    if (role === "system" || role === "developer") {
      system.push(textOf(toParts(content, param, "refuse")));
    } else if (role === "user" && i > lastAnswer) {
      input.push(...toParts(content, param, "refuse"));
    } else if (role === "user" || role === "assistant") {
      const author = role === "user" ? Author.USER : Author.ASSISTANT;
      history.push({ author, parts: toParts(content, param, "drop") });
    }
  }
  if (input.length === 0) {
    throw invalid("messages", "messages has no user message with content after its last assistant message");
  }
  return {
    system: system.filter((text) => text !== "").join("\n\n"),
    history,
    input: input.length > maxInputParts ? joinTexts(input) : input,
  };
}

interface ChatMessage {
  readonly role: unknown;
  readonly content: unknown;
  readonly param: string;
}

function toMessage(value: unknown, index: number): ChatMessage {
  const param = `messages[${index}]`;
  if (!isObject(value)) throw invalid(param, `${param} is not an object`);
  const { role, content } = value;
  if (!roles.has(role)) throw invalid(`${param}.role`, `${param}.role is missing or unknown`);
  return { role, content, param: `${param}.content` };
}

/**
 * `drop` leaves out what cannot be passed on, for messages that were answered
 * before. Empty texts are left out always.
 */
function toParts(content: unknown, param: string, unsupported: "refuse" | "drop"): Part[] {
  if (typeof content === "string") return textPart(content);
  if (content === null || content === undefined) return [];
  if (!Array.isArray(content)) throw invalid(param, `${param} is neither a string nor an array`);
  return content.flatMap((value, i) => {
    const at = `${param}[${i}]`;
    if (!isObject(value)) throw invalid(at, `${at} is not an object`);
    switch (value.type) {
      case "text":
        return textPart(stringAt(value, "text", at));
      case "refusal":
        return textPart(stringAt(value, "refusal", at));
      case "image_url": {
        const url = stringAt(objectAt(value, "image_url", at), "url", `${at}.image_url`);
        if (!url.startsWith("data:") && unsupported === "drop") return [];
        return [{ part: { case: "image" as const, value: fromDataUrl(url, `${at}.image_url.url`) } }];
      }
      case "file": {
        const file = objectAt(value, "file", at);
        if (file.file_data === undefined && unsupported === "drop") return [];
        const attachment = fromDataUrl(stringAt(file, "file_data", `${at}.file`), `${at}.file.file_data`);
        const name = file.filename === undefined ? "" : stringAt(file, "filename", `${at}.file`);
        return [{ part: { case: "file" as const, value: { ...attachment, name: wellFormed(name) } } }];
      }
      default:
        if (unsupported === "drop") return [];
        throw invalid(`${at}.type`, `${at}.type is not one of text, image_url, file`, "unsupported_value");
    }
  });
}

function textPart(text: string): Part[] {
  return text === "" ? [] : [{ part: { case: "text", value: wellFormed(text) } }];
}

function textOf(parts: readonly Part[]): string {
  return parts.flatMap(({ part }) => (part?.case === "text" ? [part.value] : [])).join("\n");
}

/** Texts that follow one another become one. */
function joinTexts(parts: readonly Part[]): Part[] {
  const joined: Part[] = [];
  for (const next of parts) {
    const last = joined.at(-1);
    if (last?.part?.case === "text" && next.part?.case === "text") {
      joined[joined.length - 1] = {
        part: { case: "text", value: `${last.part.value}\n\n${next.part.value}` },
      };
    } else {
      joined.push(next);
    }
  }
  return joined;
}

/** https://www.rfc-editor.org/rfc/rfc2397, in base64 only. */
function fromDataUrl(url: string, param: string): MessageInitShape<typeof AttachmentSchema> {
  const comma = url.indexOf(",");
  const head = /^data:([^;,]+\/[^;,]+)(?:;[^,]*)?;base64$/i.exec(url.slice(0, Math.max(0, comma)));
  const data = url.slice(comma + 1);
  if (head?.[1] === undefined || !/^[A-Za-z0-9+/]*={0,2}$/.test(data)) {
    throw invalid(
      param,
      `${param} is not a data: URL in base64; other URLs are not fetched`,
      "unsupported_value",
    );
  }
  return { mediaType: head[1].toLowerCase(), data: Buffer.from(data, "base64") };
}

/** JSON can carry half a surrogate pair, as of an emoji cut in two; UTF-8 cannot. */
function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

function objectAt(
  value: Readonly<Record<string, unknown>>,
  key: string,
  param: string,
): Record<string, unknown> {
  const inner = value[key];
  if (!isObject(inner)) throw invalid(`${param}.${key}`, `${param}.${key} is not an object`);
  return inner;
}

function stringAt(value: Readonly<Record<string, unknown>>, key: string, param: string): string {
  const inner = value[key];
  if (typeof inner !== "string") throw invalid(`${param}.${key}`, `${param}.${key} is not a string`);
  return inner;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
