/** What the service is asked, in either interface. */
import type { OutputFormat, ProviderTurn, TurnInputPart } from "../../turns/provider.js";
import { InputError } from "../input-error.js";
import type { Api } from "./service.js";

type Turn = Pick<ProviderTurn, "input" | "unseen" | "system" | "systemNotice" | "outputFormat">;

/** The body of the request, as JSON. Throws InputError. */
export function bodyOf(api: Api, model: string, turn: Turn): string {
  if (turn.input.every((part) => part.kind === "text" && part.text.trim() === "")) {
    throw new InputError("The message is empty.");
  }
  return JSON.stringify(api === "responses" ? responsesBody(model, turn) : chatBody(model, turn));
}

/** https://platform.openai.com/docs/api-reference/responses/create */
function responsesBody(model: string, turn: Turn): unknown {
  const instructions = instructionsOf(turn);
  return {
    model,
    ...(instructions === "" ? {} : { instructions }),
    input: messages(turn, ({ text, image }) =>
      image === undefined ? { type: "input_text", text } : { type: "input_image", image_url: image },
    ),
    ...(turn.outputFormat === undefined ? {} : { text: { format: responsesFormat(turn.outputFormat) } }),
    stream: true,
    // What is kept of the conversation the broker keeps.
    store: false,
  };
}

/** https://platform.openai.com/docs/api-reference/chat/create */
function chatBody(model: string, turn: Turn): unknown {
  const instructions = instructionsOf(turn);
  return {
    model,
    messages: [
      ...(instructions === "" ? [] : [{ role: "system", content: instructions }]),
      ...messages(turn, ({ text, image }) =>
        image === undefined ? { type: "text", text } : { type: "image_url", image_url: { url: image } },
      ),
    ],
    ...(turn.outputFormat === undefined ? {} : { response_format: chatFormat(turn.outputFormat) }),
    stream: true,
    stream_options: { include_usage: true },
  };
}

function responsesFormat(format: OutputFormat): unknown {
  return format.kind === "json-object"
    ? { type: "json_object" }
    : { type: "json_schema", ...schemaOf(format) };
}

function chatFormat(format: OutputFormat): unknown {
  return format.kind === "json-object"
    ? { type: "json_object" }
    : { type: "json_schema", json_schema: schemaOf(format) };
}

function schemaOf({ name, description, schema, strict }: Extract<OutputFormat, { kind: "json-schema" }>) {
  const described = description === "" ? {} : { description };
  return { name, ...described, schema: JSON.parse(schema) as unknown, strict };
}

function instructionsOf({ system = "", systemNotice = "" }: Turn): string {
  return [system, systemNotice].filter((text) => text !== "").join("\n\n");
}

interface Part {
  readonly text?: string;
  /** Data URL. */
  readonly image?: string;
}

function messages({ unseen, input }: Turn, toPart: (part: Part) => unknown): unknown[] {
  const said = unseen.flatMap(({ user, assistant }) => [
    { role: "user", content: user },
    { role: "assistant", content: assistant },
  ]);
  const parts = input.map(partOf).filter(({ text, image }) => image !== undefined || text?.trim() !== "");
  // Plain text is what every service takes.
  const content = parts.every(({ image }) => image === undefined)
    ? parts.map(({ text }) => text).join("\n")
    : parts.map(toPart);
  return [...said.filter((message) => message.content !== ""), { role: "user", content }];
}

function partOf(part: TurnInputPart): Part {
  if (part.kind === "text") return { text: part.text };
  if (part.kind === "image" && part.mediaType.startsWith("image/")) {
    return { image: `data:${part.mediaType};base64,${Buffer.from(part.data).toString("base64")}` };
  }
  throw new InputError(`The model cannot take an attachment of type ${part.mediaType}.`);
}
