/** What an agent is told before the message of the user. */
import type { Exchange } from "../turns/provider.js";

/** The exchanges that the agent has not seen, as a marked block. */
export function describeUnseen(unseen: readonly Exchange[]): string {
  return [
    "<earlier_conversation>",
    "This conversation began before you took part in it. What was said so far, oldest first, as JSON:",
    JSON.stringify(unseen.map(({ user, assistant }) => ({ user, assistant }))),
    "The message to answer now follows.",
    "</earlier_conversation>",
  ].join("\n");
}
