/**
 * Messages as JSON, in the text that protobuf-es makes, without the objects that
 * it makes first. What each field needs is found out once for each type.
 */
import { type DescEnum, type DescField, type DescMessage, ScalarType, toJson } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { accessOf, compiled, fieldsOf, type Members, unusual } from "../../../protobuf/fields.js";
import { timestampText } from "./timestamp-text.js";

/** @throws Unusual for a value that is left to protobuf-es */
type Write<T = never, R = string> = (value: T) => R;

/** What the writers of one type share. */
interface Shared {
  /** Types may hold themselves. */
  readonly known: Map<DescMessage, Write<Members>>;
  /** The text that is being written has something that is not printable ASCII. */
  isBeyondAscii: boolean;
}

/** @throws Unusual for a type that is left to protobuf-es */
export function jsonTextOf(desc: DescMessage): Write<Members, { text: string; isAscii: boolean }> {
  const shared: Shared = { known: new Map(), isBeyondAscii: false };
  const write = messageWriter(desc, shared);
  return (message) => {
    shared.isBeyondAscii = false;
    const text = write(message);
    return { text, isAscii: !shared.isBeyondAscii };
  };
}

function messageWriter(desc: DescMessage, shared: Shared): Write<Members> {
  const before = shared.known.get(desc);
  if (before !== undefined) return before;
  const wellKnown = wellKnownWriter(desc, shared);
  if (wellKnown !== undefined) return wellKnown;
  let write: Write<Members> = () => unusual(desc.typeName);
  shared.known.set(desc, (message) => write(message));
  const fields = fieldsOf(desc);
  const makeWriter = compiled(
    ["type", "unusual", ...fields.map((_, index) => `write${index}`)],
    [
      "return (message) => {",
      "  if (message.$typeName !== type) unusual(type);",
      '  let text = "{";',
      "  let comma = false;",
      ...fields.map((field, index) => memberCode(field, `write${index}`)),
      '  return text + "}";',
      "}",
    ],
  );
  const writers = fields.map((field) => valueWriter(field, shared));
  write = makeWriter(desc.typeName, unusual, ...writers) as Write<Members>;
  return write;
}

/** Adds `"name":value` to the text, or nothing if the field is not set. */
function memberCode(field: DescField, write: string): string {
  const { value, isSet } = accessOf(field);
  const name = `${JSON.stringify(field.jsonName)}:`;
  const [first, later] = [name, `,${name}`].map((text) => JSON.stringify(text));
  return `{
    const value = ${value};
    if (${isSet}) {
      text += (comma ? ${later} : ${first}) + ${write}(value);
      comma = true;
    }
  }`;
}

function valueWriter(field: DescField, shared: Shared): Write {
  switch (field.fieldKind) {
    case "scalar":
      return scalarWriter(field.scalar, shared);
    case "enum":
      return enumWriter(field.enum);
    case "message":
      return messageWriter(field.message, shared);
    case "list": {
      const write = itemWriter(field, shared);
      return (items: readonly never[]) => `[${items.map(write).join(",")}]`;
    }
    case "map": {
      const write = itemWriter(field, shared);
      return (entries: Readonly<Record<string, never>>) => {
        const members = Object.entries(entries).map(
          ([key, value]) => `${quoted(key, shared)}:${write(value)}`,
        );
        return `{${members.join(",")}}`;
      };
    }
  }
}

function itemWriter(field: Extract<DescField, { fieldKind: "list" | "map" }>, shared: Shared): Write {
  if (field.message !== undefined) return messageWriter(field.message, shared);
  return field.enum === undefined ? scalarWriter(field.scalar, shared) : enumWriter(field.enum);
}

function enumWriter({ typeName, value: values }: DescEnum): Write {
  if (typeName === "google.protobuf.NullValue") unusual(typeName);
  const texts = new Map(
    Object.values(values).map(({ number, jsonName }) => [number, JSON.stringify(jsonName)]),
  );
  return (number: number) => texts.get(number) ?? integer(number);
}

function scalarWriter(type: ScalarType, shared: Shared): Write {
  switch (type) {
    case ScalarType.STRING:
      return (text: string) => (typeof text === "string" ? quoted(text, shared) : unusual("string"));
    case ScalarType.BOOL:
      return (flag: boolean) => (typeof flag === "boolean" ? `${flag}` : unusual("bool"));
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return (number: number) => (Number.isFinite(number) ? JSON.stringify(number) : unusual("number"));
    case ScalarType.BYTES:
      return (bytes: Uint8Array) => (bytes instanceof Uint8Array ? base64(bytes) : unusual("bytes"));
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return (number: bigint) => (typeof number === "bigint" ? `"${number}"` : unusual("integer"));
    default:
      return integer;
  }
}

/** Printable ASCII that stands in a JSON text as it is: looking is faster than having it escaped. */
const plain = /^[ !#-[\]-~]*$/;

function quoted(text: string, shared: Shared): string {
  return plain.test(text) ? `"${text}"` : noted(JSON.stringify(text), shared);
}

const printable = /^[ -~]*$/;

function noted(json: string, shared: Shared): string {
  if (!printable.test(json)) shared.isBeyondAscii = true;
  return json;
}

function integer(number: number): string {
  return Number.isInteger(number) ? JSON.stringify(number) : unusual("integer");
}

function base64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return `"${Buffer.from(buffer, byteOffset, byteLength).toString("base64")}"`;
}

/** Of the types that have a form of their own in JSON. */
function wellKnownWriter(desc: DescMessage, shared: Shared): Write<Members> | undefined {
  if (!desc.typeName.startsWith("google.protobuf.")) return undefined;
  const any: Write<Members> = (message) => noted(JSON.stringify(toJson(desc, message as never)), shared);
  if (desc.typeName !== "google.protobuf.Timestamp") return any;
  const write = timestampText();
  return (message) => write(message as unknown as Timestamp) ?? any(message);
}
