/** What is said to an agent before the message that it is to answer. */
import type { Exchange } from "../turns/provider.js";

/** What was said without the agent, as a marked block. */
export function describeUnseen(unseen: readonly Exchange[]): string {
  return [
    "<earlier_conversation>",
    "This conversation began before you took part in it. What was said so far, oldest first, as JSON:",
    JSON.stringify(unseen.map(({ user, assistant }) => ({ user, assistant }))),
    "The message to answer now follows.",
    "</earlier_conversation>",
  ].join("\n");
}

/** What the caller's system prompt says, for an agent that cannot be given it in any other way. */
export function describeSystem(system: string): string {
  return ["<system_prompt>", system, "</system_prompt>"].join("\n");
}
