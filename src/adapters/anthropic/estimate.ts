import type { Conversation } from "../openai/conversation.js";
import { type GivenPart, isRemote } from "../openai/parts.js";

/** English text has about four bytes a token, and other scripts not many more. */
const bytesOfToken = 4;
/** Of an image at its largest; of a file, a guess. */
const tokensOfAttachment = 1600;

/**
 * About how many tokens the messages and the system prompt have: no tokenizer
 * is asked, and what the agent adds of its own is not known.
 */
export function estimateTokens({ system, history, input }: Conversation): number {
  const parts = [...history.flatMap(({ parts: said = [] }) => said), ...input];
  return parts.reduce((sum, part) => sum + tokensOf(part), tokensOfText(system));
}

function tokensOf(given: GivenPart): number {
  if (isRemote(given) || given.part?.case !== "text") return tokensOfAttachment;
  return tokensOfText(given.part.value);
}

function tokensOfText(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / bytesOfToken);
}
