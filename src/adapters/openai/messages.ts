/** The message list of a chat request. */
import {
  type Conversation,
  type ListedMessage,
  type PartReader,
  toConversation,
  unknownPart,
} from "./conversation.js";
import { invalid } from "./errors.js";
import { filePart, imagePart, isObject, objectAt, stringAt, textPart } from "./parts.js";

const roles: Readonly<Record<string, ListedMessage["role"]>> = {
  system: "system",
  developer: "system",
  user: "user",
  assistant: "assistant",
  tool: "other",
  function: "other",
};

/** 400, naming the place in the list, if a message cannot be passed on. */
export function chatConversation(messages: unknown): Conversation {
  if (messages === undefined) throw invalid("messages", "messages is missing", "missing_required_parameter");
  if (!Array.isArray(messages)) throw invalid("messages", "messages is not an array");
  if (messages.length === 0) throw invalid("messages", "messages is empty");
  return toConversation(messages.map(toMessage), "messages", readPart);
}

function toMessage(value: unknown, index: number): ListedMessage {
  const param = `messages[${index}]`;
  if (!isObject(value)) throw invalid(param, `${param} is not an object`);
  const role = roleOf(value.role);
  if (role === undefined) throw invalid(`${param}.role`, `${param}.role is missing or unknown`);
  return { role, content: value.content, param: `${param}.content` };
}

export function roleOf(role: unknown): ListedMessage["role"] | undefined {
  return typeof role === "string" && Object.hasOwn(roles, role) ? roles[role] : undefined;
}

const readPart: PartReader = (value, at, unsupported) => {
  switch (value.type) {
    case "text":
      return textPart(stringAt(value, "text", at));
    case "refusal":
      return textPart(stringAt(value, "refusal", at));
    case "image_url": {
      const url = stringAt(objectAt(value, "image_url", at), "url", `${at}.image_url`);
      if (!url.startsWith("data:") && unsupported === "drop") return [];
      return imagePart(url, `${at}.image_url.url`);
    }
    case "file": {
      const file = objectAt(value, "file", at);
      if (file.file_data === undefined && unsupported === "drop") return [];
      const name = file.filename === undefined ? "" : stringAt(file, "filename", `${at}.file`);
      return filePart(stringAt(file, "file_data", `${at}.file`), name, `${at}.file.file_data`);
    }
    default:
      return unknownPart(at, unsupported, "text, image_url, file");
  }
};
