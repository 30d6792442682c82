/** What the agent is given to read, in each of its two modes. */
import type { ProviderTurn, TurnInputPart } from "../../turns/provider.js";
import { InputError } from "../input-error.js";
import { describeSystem, describeUnseen } from "../unseen.js";

/** Part of a message in the protocol of the app server. */
export type UserInput =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly url: string };

export interface ExecInput {
  readonly prompt: string;
  readonly images: readonly { readonly extension: string; readonly data: Uint8Array }[];
}

/** Others are dropped by the agent without a word. */
const imageTypes = new Map([
  ["image/png", "png"],
  ["image/jpeg", "jpg"],
  ["image/gif", "gif"],
  ["image/webp", "webp"],
]);

/** The message of a turn. Throws InputError. */
export function turnInput(turn: Pick<ProviderTurn, "input" | "unseen" | "systemNotice">): UserInput[] {
  const said = messageInput(turn.input);
  return [...blocksBefore(turn).map(toText), ...said];
}

/** A message of the user alone. Throws InputError. */
export function messageInput(input: readonly TurnInputPart[]): UserInput[] {
  return worthSending(input).map((part) => {
    if (part.kind === "text") return toText(part.text);
    extensionOf(part);
    const data = Buffer.from(part.data).toString("base64");
    return { type: "image", url: `data:${part.mediaType};base64,${data}` };
  });
}

/**
 * The message of a turn for `codex exec`, which takes one text and files with
 * images, and nothing else: a system prompt comes before the first message.
 * Throws InputError.
 *
 * @param system of a conversation that begins
 */
export function execInput(
  turn: Pick<ProviderTurn, "input" | "unseen" | "systemNotice">,
  system: string | undefined,
): ExecInput {
  const parts = worthSending(turn.input);
  const texts = parts.flatMap((part) => (part.kind === "text" ? [part.text] : []));
  const before = system === undefined || system === "" ? [] : [describeSystem(system)];
  return {
    prompt: [...before, ...blocksBefore(turn), ...texts].join("\n\n"),
    images: parts.flatMap((part) =>
      part.kind === "text" ? [] : [{ extension: extensionOf(part), data: part.data }],
    ),
  };
}

function blocksBefore({ unseen, systemNotice }: Pick<ProviderTurn, "unseen" | "systemNotice">): string[] {
  return [
    ...(systemNotice === undefined || systemNotice === "" ? [] : [systemNotice]),
    ...(unseen.length === 0 ? [] : [describeUnseen(unseen)]),
  ];
}

function worthSending(input: readonly TurnInputPart[]): readonly TurnInputPart[] {
  const parts = input.filter((part) => part.kind !== "text" || part.text.trim() !== "");
  if (parts.length === 0) throw new InputError("The message is empty.");
  return parts;
}

function extensionOf({ mediaType }: Exclude<TurnInputPart, { kind: "text" }>): string {
  const extension = imageTypes.get(mediaType);
  if (extension === undefined) {
    throw new InputError(`The agent cannot take an attachment of type ${mediaType}.`);
  }
  return extension;
}

function toText(text: string): UserInput {
  return { type: "text", text };
}

/** The JSON Schema that the answer is held to, as JSON. */
export function answerSchema({ outputFormat }: Pick<ProviderTurn, "outputFormat">): string | undefined {
  return outputFormat?.kind === "json-schema" ? outputFormat.schema : undefined;
}
