/** What a caller asked for, from the message it sent. */
import { createHash } from "node:crypto";
import { create, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import {
  type DispatchRequest,
  DispatchRequestSchema,
  type HistoryMessage,
  HistoryMessage_Author,
  type InputPart,
  OnDisconnect,
  type OutputFormat as OutputFormatMessage,
  OutputFormatSchema,
  type ReserveOptions,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { BrokerError } from "../errors.js";
import { toldInput } from "../turns/chain.js";
import type { ToldMessage } from "../turns/history.js";
import type { OutputFormat, Provider, TurnInputPart } from "../turns/provider.js";
import type { TurnRequest } from "../turns/run-turn.js";

/** Most bytes of a turn. */
export interface TurnSizes {
  /** Text of its input. */
  readonly promptBytes: number;
  /** Its history and its input. */
  readonly historyBytes: number;
}

export function readTurnRequest(encoded: Uint8Array): TurnRequest {
  const request = fromBinary(DispatchRequestSchema, encoded);
  return {
    ...readMessages(request),
    ...(request.system === "" ? {} : { system: request.system }),
    ...(request.model === "" ? {} : { model: request.model }),
    ...(request.outputFormat === undefined ? {} : { outputFormat: outputFormatOf(request.outputFormat) }),
    ...(request.timeout === undefined ? {} : { timeoutMs: durationMs(request.timeout) }),
  };
}

export function readMessages({ input, history }: DispatchRequest): Pick<TurnRequest, "input" | "history"> {
  return { input: input.flatMap(inputPart), history: history.map(toldMessage) };
}

function outputFormatOf({ format }: OutputFormatMessage): OutputFormat {
  if (format.case !== "jsonSchema") return { kind: "json-object" };
  const { name, description, schema, strict } = format.value;
  return { kind: "json-schema", name, description, schema, strict };
}

/** What makes a repeat of a turn id the same: the target and the caller's own input. */
export function payloadHash(request: DispatchRequest): Uint8Array {
  const own =
    request.payloadDigest.length > 0
      ? create(DispatchRequestSchema, { payloadDigest: request.payloadDigest })
      : create(DispatchRequestSchema, { target: request.target, input: request.input });
  return createHash("sha256").update(toBinary(DispatchRequestSchema, own)).digest();
}

/** Turns of one session with the same key may be merged. */
export function mergeKey(
  { model, system, onDisconnect, outputFormat }: DispatchRequest,
  credential: string,
): string {
  const cancels = onDisconnect === OnDisconnect.CANCEL;
  const format = outputFormat === undefined ? [] : [toJsonString(OutputFormatSchema, outputFormat)];
  return createHash("sha256")
    .update(JSON.stringify([credential, model, system, cancels, ...format]))
    .digest("hex");
}

/** @throws BrokerError that names the field which this version or the provider cannot honour */
export function checkTurnRequest(request: DispatchRequest, provider: Provider, sizes: TurnSizes): void {
  const { reserve } = request;
  if (reserve?.visibility === Visibility.INTERNAL) checkInternal(request, reserve);
  if (provider.models.length > 0 && request.model !== "" && !provider.models.includes(request.model)) {
    throw new BrokerError(
      "UNKNOWN_MODEL",
      `model: ${provider.id} has no ${request.model}; it has ${provider.models.join(", ")}`,
    );
  }
  checkSizes(request, sizes);
  checkFormat(request, provider);
  for (const [index, { part }] of request.input.entries()) {
    const taken = part.case === "text" || (part.case === "image" && provider.capabilities.images);
    if (!taken) {
      throw new BrokerError(
        "UNSUPPORTED_BY_PROVIDER",
        `input[${index}].${part.case}: ${provider.id} takes none`,
      );
    }
  }
}

function checkFormat({ outputFormat }: DispatchRequest, { id, capabilities }: Provider): void {
  const format = outputFormat?.format;
  if (format?.case === undefined) return;
  const field = format.case === "jsonSchema" ? "json_schema" : "json_object";
  if (!capabilities[format.case]) {
    throw new BrokerError(
      "UNSUPPORTED_BY_PROVIDER",
      `output_format.${field}: answers of ${id} cannot be held to it`,
    );
  }
  if (format.case === "jsonSchema" && !isJsonObject(format.value.schema)) {
    throw new BrokerError("INVALID_FIELD", "output_format.json_schema.schema: it is not a JSON object");
  }
}

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

const targetFields = { sessionId: "session_id", byHistory: "by_history", afterTurn: "after_turn" } as const;

/** What would name a session that nothing remembers. */
function checkInternal({ target, responseId }: DispatchRequest, { aliases }: ReserveOptions): void {
  const named =
    target.case !== undefined && target.case !== "key"
      ? targetFields[target.case]
      : aliases.length > 0
        ? "reserve.aliases"
        : responseId === ""
          ? undefined
          : "response_id";
  if (named === undefined) return;
  throw new BrokerError(
    "INVALID_FIELD",
    `${named}: a turn with visibility INTERNAL has a session of its own`,
  );
}

function checkSizes(request: DispatchRequest, most: TurnSizes): void {
  const inputBytes = request.input.reduce((sum, part) => sum + partBytes(part), 0);
  const textBytes = request.input.reduce(
    (sum, part) => sum + (part.part.case === "text" ? partBytes(part) : 0),
    0,
  );
  if (textBytes > most.promptBytes) {
    throw new BrokerError(
      "INVALID_FIELD",
      `input: its text has ${textBytes} bytes, and limits.prompt_bytes allows ${most.promptBytes}`,
    );
  }
  const historyBytes = request.history
    .flatMap((message) => message.parts)
    .reduce((sum, part) => sum + partBytes(part), inputBytes);
  if (historyBytes > most.historyBytes) {
    throw new BrokerError(
      "INVALID_FIELD",
      `history: with the input it has ${historyBytes} bytes, and limits.history_bytes allows ${most.historyBytes}`,
    );
  }
}

function partBytes({ part }: InputPart): number {
  if (part.case === "text") return Buffer.byteLength(part.value);
  return part.value?.data.length ?? 0;
}

function inputPart({ part }: InputPart): TurnInputPart[] {
  switch (part.case) {
    case "text":
      return [{ kind: "text", text: part.value }];
    case "image":
    case "file":
      return [
        { kind: part.case, mediaType: part.value.mediaType, name: part.value.name, data: part.value.data },
      ];
    default:
      return [];
  }
}

function toldMessage({ author, parts }: HistoryMessage): ToldMessage {
  return {
    ...toldInput(parts.flatMap(inputPart)),
    author: author === HistoryMessage_Author.ASSISTANT ? "assistant" : "user",
  };
}
