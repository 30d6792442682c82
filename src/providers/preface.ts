/** What stands before the message of the user, for agents that take nothing but messages. */
import type { ProviderTurn } from "../turns/provider.js";
import { describeSystem, describeUnseen } from "./unseen.js";

/**
 * Marked blocks, in the order in which they are to be read. The system prompt
 * is told until a turn has succeeded: only then is it certain that the agent
 * remembers it.
 */
export function prefaceOf(
  turn: Pick<ProviderTurn, "system" | "systemNotice" | "unseen" | "binding">,
): string[] {
  const { system, systemNotice, unseen, binding } = turn;
  return [
    ...(system && binding.state !== "bound" ? [describeSystem(system)] : []),
    ...(unseen.length === 0 ? [] : [describeUnseen(unseen)]),
    ...(systemNotice ? [systemNotice] : []),
  ];
}
