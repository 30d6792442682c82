/**
 * What was said in a session: what is kept of it, for an agent that has lost its
 * own conversation, and what a caller tells of it, of which the agent is given
 * what it has not seen.
 */
import type { Exchange } from "./provider.js";

export interface KeptHistory {
  /** Oldest first. */
  readonly exchanges: readonly Exchange[];
  /** Something older was said that is not kept, or an exchange is not whole. */
  readonly truncated: boolean;
}

/** A message of the caller's own history. */
export interface ToldMessage {
  readonly author: "user" | "assistant";
  readonly text: string;
  /** The data of each image and file. */
  readonly attachments?: readonly Uint8Array[];
}

/** On disk, of one session. */
export const mostHistoryBytes = 1024 * 1024;

/** What the record of an exchange takes besides its texts, at most. */
const overheadBytes = 32;
const mark = "…";

/**
 * An exchange as it is kept: whole if it fits, else with what fits of its longer
 * text, from the beginning; each of the two has a right to half of the room.
 */
export function fitExchange(exchange: Exchange, mostBytes = mostHistoryBytes): Exchange {
  const room = mostBytes - overheadBytes;
  const user = Buffer.from(exchange.user);
  const assistant = Buffer.from(exchange.assistant);
  if (user.length + assistant.length <= room) return exchange;
  const half = Math.floor(room / 2);
  return {
    user: beginningOf(exchange.user, user, room - Math.min(assistant.length, half)),
    assistant: beginningOf(exchange.assistant, assistant, room - Math.min(user.length, room - half)),
  };
}

/** Ends between two characters. */
function beginningOf(text: string, bytes: Uint8Array, room: number): string {
  if (bytes.length <= room) return text;
  const kept = bytes.subarray(0, Math.max(0, room - Buffer.byteLength(mark)));
  // What is left of a character at the end is waited for, and never comes.
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(kept, { stream: true }) + mark;
}

/**
 * What was said since the session's last answer, if somebody else answered: of
 * all that a caller tells, this alone is new to the agent.
 */
export function unseenMessages(
  told: readonly ToldMessage[],
  lastAnswer: string | undefined,
): readonly ToldMessage[] {
  if (lastAnswer === undefined) return [];
  const answer = normalise(lastAnswer);
  const seen = told.findLastIndex(({ author, text }) => author === "assistant" && normalise(text) === answer);
  const since = seen < 0 ? [] : told.slice(seen + 1);
  return since.some(({ author }) => author === "assistant") ? since : [];
}

/**
 * All that was said before the input, for an agent that remembers nothing by
 * itself: what is kept of the session and, of what the caller tells, what was
 * said before and since. The newest of it, up to `mostBytes`.
 */
export function allSaid(
  kept: KeptHistory,
  told: readonly ToldMessage[],
  mostBytes = mostHistoryBytes,
): KeptHistory {
  const [oldest] = kept.exchanges;
  const pairs = exchangesOf(told);
  const known = oldest === undefined ? pairs.length : pairs.findIndex((pair) => isSaidIn(pair, oldest));
  const since = exchangesOf(unseenMessages(told, kept.exchanges.at(-1)?.assistant));
  const before = pairs.slice(0, Math.max(0, known));
  const all = [...before, ...kept.exchanges, ...since];
  const newest = newestWithin(all, mostBytes);
  // What the caller tells goes back further than what has been cut.
  const truncated = newest.length < all.length || (kept.truncated && before.length === 0);
  return { exchanges: newest, truncated };
}

function isSaidIn(told: Exchange, kept: Exchange): boolean {
  return normalise(told.assistant) === normalise(kept.assistant) && told.assistant !== "";
}

function newestWithin(exchanges: readonly Exchange[], mostBytes: number): readonly Exchange[] {
  let bytes = 0;
  const tooOld = exchanges.findLastIndex(({ user, assistant }) => {
    bytes += overheadBytes + Buffer.byteLength(user) + Buffer.byteLength(assistant);
    return bytes > mostBytes;
  });
  return exchanges.slice(tooOld + 1);
}

/** Pairs of what was asked and what was answered; messages of one author in a row are joined. */
export function exchangesOf(messages: readonly ToldMessage[]): readonly Exchange[] {
  const pairs: { user: string[]; assistant: string[] }[] = [];
  for (const { author, text } of messages) {
    const last = pairs.at(-1);
    if (last === undefined || (author === "user" && last.assistant.length > 0)) {
      pairs.push({ user: [], assistant: [], [author]: [text] });
    } else {
      last[author].push(text);
    }
  }
  return pairs.map(({ user, assistant }) => ({ user: user.join("\n"), assistant: assistant.join("\n") }));
}

/** Clients change line ends, outer white space and the composition of characters. */
/** Texts that differ in this alone are one text. */
export function normalise(text: string): string {
  return text.replaceAll("\r\n", "\n").normalize("NFC").trim();
}
