/** The lines of messages that a run gets on its standard input. */
import type { Exchange, TurnInputPart } from "../../turns/provider.js";
import { InputError } from "../input-error.js";
import { describeUnseen } from "../unseen.js";

type Block = Readonly<Record<string, unknown>>;

const imageTypes = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/** A message of the user as a line. Throws InputError. */
export function userLine(
  uuid: string,
  input: readonly TurnInputPart[],
  unseen: readonly Exchange[] = [],
  systemNotice?: string,
): string {
  if (input.every((part) => part.kind === "text" && part.text.trim() === "")) {
    throw new InputError("The message is empty.");
  }
  const earlier: Block[] = unseen.length === 0 ? [] : [{ type: "text", text: describeUnseen(unseen) }];
  const notice: Block[] = systemNotice === undefined ? [] : [{ type: "text", text: systemNotice }];
  const content = [...earlier, ...notice, ...input.filter(isWorthSending).map(toBlock)];
  const message = { role: "user", content };
  return `${JSON.stringify({ type: "user", message, parent_tool_use_id: null, uuid })}\n`;
}

/** The model service refuses blank text blocks. */
function isWorthSending(part: TurnInputPart): boolean {
  return part.kind !== "text" || part.text.trim() !== "";
}

function toBlock(part: TurnInputPart): Block {
  if (part.kind === "text") return { type: "text", text: withoutCommand(part.text) };
  const data = Buffer.from(part.data);
  const base64 = { type: "base64", media_type: part.mediaType, data: data.toString("base64") };
  if (imageTypes.includes(part.mediaType)) return { type: "image", source: base64 };
  const title = part.name === "" ? {} : { title: part.name };
  if (part.mediaType === "application/pdf") return { type: "document", source: base64, ...title };
  if (part.mediaType.startsWith("text/")) {
    const source = { type: "text", media_type: "text/plain", data: data.toString("utf8") };
    return { type: "document", source, ...title };
  }
  throw new InputError(`The agent cannot take an attachment of type ${part.mediaType}.`);
}

/**
 * A text whose first character is a slash is run as a command of the CLI and
 * never reaches the model. A line break before it makes it plain text, in
 * 2.1.197 as in 2.1.329.
 */
function withoutCommand(text: string): string {
  return text.startsWith("/") ? `\n${text}` : text;
}
