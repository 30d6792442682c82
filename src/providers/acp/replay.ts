/**
 * The end of a replay. An agent that loads a conversation says its history
 * again before it answers, by the protocol; gemini 0.61.0 goes on after its
 * answer, even into the next prompt. It writes one update at a time, so one
 * that still writes has something to say between any two requests of ours.
 */
import { settlesWithin } from "../process.js";

/** An agent that does not answer what it does not know is waited for no longer. */
const longestWaitMs = 1_000;

/**
 * @param ask sends a request that the agent answers at once, if only with an error
 * @param updates how many it has sent so far
 */
export async function replayIsOver(ask: () => Promise<unknown>, updates: () => number): Promise<void> {
  // Two quiet answers: an update may have been on its way before the first one.
  for (let quiet = 0; quiet < 2; ) {
    const before = updates();
    if (!(await settlesWithin(ask(), longestWaitMs))) return;
    quiet = updates() === before ? quiet + 1 : 0;
  }
}
