/**
 * What an agent is told of the caller's system prompt (ruling 30). A
 * conversation keeps the prompt that it began with, since clients put the date
 * into it and agents remember it. A later, different one is said once, before
 * the user's message.
 */
import { createHash } from "node:crypto";

export interface SystemPrompt {
  /** To be said before the input. */
  readonly notice?: string;
  /** Of what the agent knows after a turn that succeeds; absent: nothing new. */
  readonly digest?: Uint8Array;
}

/**
 * @param known digest of the prompt that the agent was told last
 * @param begins whether the agent's conversation begins with this turn
 */
export function systemPromptOf(
  system: string | undefined,
  known: Uint8Array | undefined,
  begins: boolean,
): SystemPrompt {
  if (system === undefined || system === "") return {};
  const digest = createHash("sha256").update(system).digest();
  if (begins) return { digest };
  if (known !== undefined && digest.equals(known)) return {};
  return {
    digest,
    notice: ["<system_prompt_changed>", system, "</system_prompt_changed>"].join("\n"),
  };
}
