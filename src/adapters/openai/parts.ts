/** Pieces of messages, as the APIs write them, as parts of a turn. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AttachmentSchema, InputPartSchema } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { invalid } from "./errors.js";

export type Part = MessageInitShape<typeof InputPartSchema>;

/** An image or a file that is still to be fetched. */
export interface RemotePart {
  readonly url: string;
  readonly kind: "image" | "file";
  readonly name: string;
  /** Where the URL stands in the request. */
  readonly param: string;
}

/** As a request gives it. */
export type GivenPart = Part | RemotePart;

export function isRemote(part: GivenPart): part is RemotePart {
  return "url" in part;
}

/** Parts of an empty text are left out. */
export function textPart(text: string): Part[] {
  return text === "" ? [] : [{ part: { case: "text", value: wellFormed(text) } }];
}

export function imagePart(url: string, param: string): GivenPart[] {
  if (isHttp(url)) return [{ url, kind: "image", name: "", param }];
  return [{ part: { case: "image", value: fromDataUrl(url, param) } }];
}

export function filePart(url: string, name: string, param: string): GivenPart[] {
  if (isHttp(url)) return [{ url, kind: "file", name: wellFormed(name), param }];
  return [{ part: { case: "file", value: { ...fromDataUrl(url, param), name: wellFormed(name) } } }];
}

function isHttp(url: string): boolean {
  return /^https?:/i.test(url);
}

/** https://www.rfc-editor.org/rfc/rfc2397, in base64 only. */
function fromDataUrl(url: string, param: string): MessageInitShape<typeof AttachmentSchema> {
  const comma = url.indexOf(",");
  const head = /^data:([^;,]+\/[^;,]+)(?:;[^,]*)?;base64$/i.exec(url.slice(0, Math.max(0, comma)));
  const data = url.slice(comma + 1);
  if (head?.[1] === undefined || !isBase64(data)) {
    throw invalid(
      param,
      `${param} is neither a data: URL in base64 nor an http: or https: URL`,
      "unsupported_value",
    );
  }
  return { mediaType: head[1].toLowerCase(), data: Buffer.from(data, "base64") };
}

export function isBase64(data: string): boolean {
  return /^[A-Za-z0-9+/]*={0,2}$/.test(data);
}

/** JSON can carry half a surrogate pair, as of an emoji cut in two; UTF-8 cannot. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

export function textOf(parts: readonly GivenPart[]): string {
  return parts.flatMap((given) => textIn(given) ?? []).join("\n");
}

function textIn(given: GivenPart): string | undefined {
  return !isRemote(given) && given.part?.case === "text" ? given.part.value : undefined;
}

/** Texts that follow one another become one. */
export function joinTexts(parts: readonly GivenPart[]): GivenPart[] {
  const joined: GivenPart[] = [];
  for (const next of parts) {
    const last = joined.at(-1);
    const before = last && textIn(last);
    const text = textIn(next);
    if (before !== undefined && text !== undefined) {
      joined[joined.length - 1] = { part: { case: "text", value: `${before}\n\n${text}` } };
    } else {
      joined.push(next);
    }
  }
  return joined;
}

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function objectAt(value: JsonObject, key: string, param: string): JsonObject {
  const inner = value[key];
  if (!isObject(inner)) throw invalid(`${param}.${key}`, `${param}.${key} is not an object`);
  return inner;
}

export function stringAt(value: JsonObject, key: string, param: string): string {
  const inner = value[key];
  if (typeof inner !== "string") throw invalid(`${param}.${key}`, `${param}.${key} is not a string`);
  return inner;
}
