/** The input of a request for a response: a text, or a list of items. */
import { HistoryMessage_Author as Author } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import {
  type Conversation,
  type ListedMessage,
  type PartReader,
  toConversation,
  unknownPart,
} from "../conversation.js";
import { invalid } from "../errors.js";
import { roleOf } from "../messages.js";
import { filePart, imagePart, isObject, type Part, stringAt, textOf, textPart } from "../parts.js";

/** 400, naming the place in the list, if an item cannot be passed on. */
export function inputConversation(input: unknown, instructions: string): Conversation {
  if (input === undefined) throw invalid("input", "input is missing", "missing_required_parameter");
  if (typeof input === "string") {
    const message: ListedMessage = { role: "user", content: input, param: "input" };
    return toConversation([message], "input", readPart, instructions);
  }
  if (!Array.isArray(input)) throw invalid("input", "input is neither a string nor an array");
  const items = input.map(toMessage);
  const lastAnswer = items.findLastIndex(({ role }) => role === "assistant");
  // Tools were the business of whoever answered before; what is asked now cannot be answered without them.
  const unanswered = items.findIndex(({ role }, i) => role === "tool" && i > lastAnswer);
  if (unanswered >= 0) {
    const param = `input[${unanswered}].type`;
    throw invalid(
      param,
      `${param} is of a tool of the caller's, and the provider takes none`,
      "unsupported_value",
    );
  }
  const messages = items.map(
    ({ role, ...rest }): ListedMessage => ({ ...rest, role: role === "tool" ? "other" : role }),
  );
  const conversation = toConversation(messages, "input", readPart, instructions);
  return { ...conversation, history: joinAnswers(conversation.history) };
}

/** An answer with reasoning in it has several messages, and was said as one. */
function joinAnswers(history: Conversation["history"]): Conversation["history"] {
  const joined: Conversation["history"] = [];
  for (const message of history) {
    const last = joined.at(-1);
    if (last?.author === Author.ASSISTANT && message.author === Author.ASSISTANT) {
      const parts = textPart(textOf(last.parts as Part[]) + textOf(message.parts as Part[]));
      joined[joined.length - 1] = { author: Author.ASSISTANT, parts };
    } else {
      joined.push(message);
    }
  }
  return joined;
}

type Item = Omit<ListedMessage, "role"> & { readonly role: ListedMessage["role"] | "tool" };

function toMessage(value: unknown, index: number): Item {
  const param = `input[${index}]`;
  if (!isObject(value)) throw invalid(param, `${param} is not an object`);
  const { type = "message", content } = value;
  switch (type) {
    case "message": {
      const role = roleOf(value.role);
      if (role === undefined) throw invalid(`${param}.role`, `${param}.role is missing or unknown`);
      return { role, content, param: `${param}.content` };
    }
    case "reasoning":
      return { role: "other", content: undefined, param };
    default:
      return { role: "tool", content: undefined, param };
  }
}

const readPart: PartReader = (value, at, unsupported) => {
  switch (value.type) {
    case "input_text":
    case "output_text":
    case "text":
      return textPart(stringAt(value, "text", at));
    case "refusal":
      return textPart(stringAt(value, "refusal", at));
    case "input_image": {
      const { image_url: url = null } = value;
      if (unsupported === "drop" && !(typeof url === "string" && url.startsWith("data:"))) return [];
      return imagePart(stringAt(value, "image_url", at), `${at}.image_url`);
    }
    case "input_file": {
      const { file_data: data = null, file_url: url = null, filename = null } = value;
      if (unsupported === "drop" && data === null && url === null) return [];
      const name = filename === null ? "" : stringAt(value, "filename", at);
      const field = data === null && url !== null ? "file_url" : "file_data";
      return filePart(stringAt(value, field, at), name, `${at}.${field}`);
    }
    default:
      return unknownPart(at, unsupported, "input_text, input_image, input_file");
  }
};
