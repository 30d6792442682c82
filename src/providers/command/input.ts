/** What a program is given on its standard input. */
import type { ProviderTurn } from "../../turns/provider.js";
import { InputError } from "../input-error.js";
import { describeSystem, describeUnseen } from "../unseen.js";

/**
 * The prompt, after what the program has to know before it. Throws InputError.
 *
 * @param begins whether the program's conversation begins with it
 */
export function promptOf(
  { input, system, systemNotice, unseen }: Pick<ProviderTurn, "input" | "system" | "systemNotice" | "unseen">,
  begins: boolean,
): string {
  const texts = input.map((part) => {
    if (part.kind !== "text") throw new InputError(`The program cannot take an attachment (${part.kind}).`);
    return part.text;
  });
  const prompt = texts.join("\n");
  if (prompt.trim() === "") throw new InputError("The message is empty.");
  const blocks = [
    ...(system && begins ? [describeSystem(system)] : []),
    ...(systemNotice ? [systemNotice] : []),
    ...(unseen.length === 0 ? [] : [describeUnseen(unseen)]),
  ];
  return [...blocks, prompt].join("\n\n");
}
