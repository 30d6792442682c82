/** What an agent is told before the input, in blocks that say what they are. */
import type { Exchange } from "../turns/provider.js";

/** Exchanges that the agent has not seen, oldest first. */
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

/** A later word about the system prompt that the agent's conversation began with. */
export function describeNotice(notice: string): string {
  return ["<system_notice>", notice, "</system_notice>"].join("\n");
}
