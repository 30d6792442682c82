/** The content of a prompt. */
import type { PromptRequest } from "@agentclientprotocol/sdk";
import type { ProviderTurn, TurnInputPart } from "../../turns/provider.js";
import { prefaceOf } from "../preface.js";

type Content = PromptRequest["prompt"];

/** The input holds something that the agent cannot take. */
export class InputError extends Error {
  override readonly name = "InputError";
}

/** Stands before a message that the agent would take for a command of its own. */
const commandGuard = "The message of the user is:\n";

/** @param images whether the agent takes images. Throws InputError. */
export function promptOf(
  turn: Pick<ProviderTurn, "system" | "systemNotice" | "unseen" | "binding" | "input">,
  images: boolean,
): Content {
  const parts = turn.input.filter(isWorthSending);
  if (parts.length === 0) throw new InputError("The message is empty.");
  const preface: Content = prefaceOf(turn).map((text) => ({ type: "text", text }));
  const content = [...preface, ...parts.map((part) => toContent(part, images))];
  const first = content.findIndex(({ type }) => type === "text");
  return content.map((block, at) =>
    at === first && block.type === "text" ? { ...block, text: withoutCommand(block.text) } : block,
  );
}

/**
 * Agents take a message for a command that begins with a slash, even after
 * white space; gemini also one with a dollar sign, and it forgets messages that
 * begin with a slash or a question mark when it resumes a conversation.
 */
export function withoutCommand(text: string): string {
  return /^\s*[/$?!]/.test(text) ? commandGuard + text : text;
}

function isWorthSending(part: TurnInputPart): boolean {
  return part.kind !== "text" || part.text.trim() !== "";
}

function toContent(part: TurnInputPart, images: boolean): Content[number] {
  if (part.kind === "text") return { type: "text", text: part.text };
  if (images && part.mediaType.startsWith("image/")) {
    const data = Buffer.from(part.data).toString("base64");
    return { type: "image", mimeType: part.mediaType, data };
  }
  throw new InputError(`The agent cannot take an attachment of type ${part.mediaType}.`);
}
