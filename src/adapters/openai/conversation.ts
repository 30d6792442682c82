/** A list of messages, of whichever API, as history and input of a turn. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  HistoryMessage_Author as Author,
  type HistoryMessageSchema,
} from "../../../gen/sessionbroker/v1/turn_pb.js";
import { invalid } from "./errors.js";
import {
  type GivenPart,
  isObject,
  isRemote,
  type JsonObject,
  joinTexts,
  type Part,
  textOf,
  textPart,
} from "./parts.js";

export interface Conversation {
  /** System and developer messages, joined by blank lines. */
  readonly system: string;
  /** User and assistant messages up to the last assistant message. */
  readonly history: MessageInitShape<typeof HistoryMessageSchema>[];
  /** The user messages after it; never empty. */
  readonly input: GivenPart[];
}

export interface ListedMessage {
  /** Messages of other roles are left out. */
  readonly role: "system" | "user" | "assistant" | "other";
  readonly content: unknown;
  /** Where the content stands in the request. */
  readonly param: string;
}

/** What becomes of content that cannot be passed on: `drop` for messages that were answered before. */
export type Unsupported = "refuse" | "drop";

/** Reads one piece of a message. */
export type PartReader = (value: JsonObject, at: string, unsupported: Unsupported) => GivenPart[];

/** The most parts that a turn's input may have. */
const maxInputParts = 64;

/** 400, naming the place in the list, if a message cannot be passed on. */
export function toConversation(
  list: readonly ListedMessage[],
  field: string,
  readPart: PartReader,
  instructions = "",
): Conversation {
  const lastAnswer = list.findLastIndex(({ role }) => role === "assistant");
  const system = [instructions];
  const history: Conversation["history"] = [];
  const input: GivenPart[] = [];
  for (const [i, { role, content, param }] of list.entries()) {
    if (role === "system") {
      system.push(textOf(toParts(content, param, "refuse", readPart)));
    } else if (role === "user" && i > lastAnswer) {
      input.push(...toParts(content, param, "refuse", readPart));
    } else if (role === "user" || role === "assistant") {
      const author = role === "user" ? Author.USER : Author.ASSISTANT;
      const parts = toParts(content, param, "drop", readPart).filter((part): part is Part => !isRemote(part));
      history.push({ author, parts });
    }
  }
  if (input.length === 0) {
    throw invalid(field, `${field} has no user message with content after its last assistant message`);
  }
  return {
    system: system.filter((text) => text !== "").join("\n\n"),
    history,
    input: input.length > maxInputParts ? joinTexts(input) : input,
  };
}

/** Empty texts are left out. */
export function toParts(
  content: unknown,
  param: string,
  unsupported: Unsupported,
  readPart: PartReader,
): GivenPart[] {
  if (typeof content === "string") return textPart(content);
  if (content === null || content === undefined) return [];
  if (!Array.isArray(content)) throw invalid(param, `${param} is neither a string nor an array`);
  return content.flatMap((value, i) => {
    const at = `${param}[${i}]`;
    if (!isObject(value)) throw invalid(at, `${at} is not an object`);
    return readPart(value, at, unsupported);
  });
}

export function unknownPart(at: string, unsupported: Unsupported, known: string): Part[] {
  if (unsupported === "drop") return [];
  throw invalid(`${at}.type`, `${at}.type is not one of ${known}`, "unsupported_value");
}
