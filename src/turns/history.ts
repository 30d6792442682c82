/** The conversation that is kept of a session, for an agent that has lost its own. */
import type { Exchange } from "./provider.js";

export interface KeptHistory {
  /** Oldest first. */
  readonly exchanges: readonly Exchange[];
  /** Something older was said that is not kept, or an exchange is not whole. */
  readonly truncated: boolean;
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
