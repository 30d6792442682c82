/**
 * Requests in JSON as programs write it. What each field needs is found out once
 * for each type; every other form that protobuf-es knows, and whatever is wrong,
 * is left to it.
 */
import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { fieldsOf, unusual } from "../../../protobuf/fields.js";
import { type Draft, draftsOf } from "./drafts.js";

/** Counts the members of all objects that are read. */
interface Tally {
  members: number;
}
/** @throws Unusual for a value that is left to protobuf-es */
type Read = (value: unknown, tally: Tally) => unknown;

interface Member {
  readonly name: string;
  /** Of which one may be set. */
  readonly group: string | undefined;
  readonly read: Read;
}

/** @throws Unusual for a type that is left to protobuf-es, and at each text that is */
export function jsonReader(desc: DescMessage): (bytes: Uint8Array) => object {
  const read = messageReader(desc, new Map());
  return (bytes) => {
    const names = namesIn(bytes);
    const tally = { members: 0 };
    const message = read(parsed(textOf(bytes)), tally) as object;
    if (tally.members !== names) unusual("names");
    return message;
  };
}

const [quote, colon, backslash] = [0x22, 0x3a, 0x5c];

/**
 * How many names of members there are. JSON.parse keeps one of several with the same
 * name, which protobuf-es refuses: then there are more than were read.
 *
 * @throws Unusual for escapes, and for white space after a string
 */
function namesIn(bytes: Uint8Array): number {
  let names = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === backslash) unusual("text");
    if (byte !== quote) continue;
    const next = bytes[at + 1];
    if (next === colon) names += 1;
    else if (next === 0x20 || next === 0x09 || next === 0x0a || next === 0x0d) unusual("text");
  }
  return names;
}

function textOf(bytes: Uint8Array): string {
  const { buffer, byteOffset, byteLength } = bytes;
  const text = (bytes instanceof Buffer ? bytes : Buffer.from(buffer, byteOffset, byteLength)).toString();
  // What was no UTF-8.
  return text.includes("\ufffd") ? unusual("text") : text;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return unusual("text");
  }
}

function messageReader(desc: DescMessage, known: Map<DescMessage, Read>): Read {
  const before = known.get(desc);
  if (before !== undefined) return before;
  // They have forms of their own.
  if (desc.typeName.startsWith("google.protobuf.")) return () => unusual(desc.typeName);
  const members = new Map<string, Member>();
  const fields = fieldsOf(desc);
  const draftOf = draftsOf(desc, fields);
  const read: Read = (value, tally) => {
    if (!isObject(value)) return unusual(desc.typeName);
    const draft = draftOf();
    for (const key in value) {
      tally.members += 1;
      const { name, group, read } = members.get(key) ?? unusual(key);
      const member = read(value[key], tally);
      if (group === undefined) draft[name] = member;
      else if ((draft[group] as { case?: string }).case !== undefined) unusual(group);
      else draft[group] = { case: name, value: member };
    }
    return draft;
  };
  // Types may hold themselves.
  known.set(desc, read);
  for (const field of fields) {
    const { localName: name, oneof } = field;
    members.set(field.jsonName, { name, group: oneof?.localName, read: fieldReader(field, known) });
  }
  return read;
}

function fieldReader(field: DescField, known: Map<DescMessage, Read>): Read {
  switch (field.fieldKind) {
    case "scalar":
      return scalarReader(field.scalar);
    case "enum":
      return enumReader(field.enum);
    case "message":
      return messageReader(field.message, known);
    case "list": {
      const read = itemReader(field, known);
      return (value, tally) =>
        Array.isArray(value) ? value.map((item) => read(item, tally)) : unusual(field.name);
    }
    case "map":
      return mapReader(field, known);
  }
}

function mapReader(field: Extract<DescField, { fieldKind: "map" }>, known: Map<DescMessage, Read>): Read {
  if (field.mapKey !== ScalarType.STRING) return () => unusual(field.name);
  const read = itemReader(field, known);
  return (value, tally) => {
    if (!isObject(value) || Object.hasOwn(value, "__proto__")) return unusual(field.name);
    const entries: Draft = {};
    for (const name of Object.keys(value)) {
      tally.members += 1;
      entries[name] = read(value[name], tally);
    }
    return entries;
  };
}

function itemReader(
  field: Extract<DescField, { fieldKind: "list" | "map" }>,
  known: Map<DescMessage, Read>,
): Read {
  if (field.message !== undefined) return messageReader(field.message, known);
  return field.enum === undefined ? scalarReader(field.scalar) : enumReader(field.enum);
}

function enumReader({ typeName, values }: DescEnum): Read {
  const numbers = new Map(values.map(({ jsonName, number }) => [jsonName, number]));
  if (typeName.startsWith("google.protobuf.")) return () => unusual(typeName);
  return (value) => numbers.get(value as string) ?? unusual(typeName);
}

function scalarReader(type: ScalarType): Read {
  switch (type) {
    case ScalarType.STRING:
      return (value) => (typeof value === "string" ? value : unusual("string"));
    case ScalarType.BOOL:
      return (value) => (typeof value === "boolean" ? value : unusual("bool"));
    case ScalarType.INT32:
      return integerReader(2 ** 31);
    case ScalarType.UINT32:
      return integerReader(2 ** 32);
    default:
      return () => unusual("scalar");
  }
}

/** Of a number that is not negative. */
function integerReader(limit: number): Read {
  return (value) =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) < limit && !Object.is(value, -0)
      ? value
      : unusual("integer");
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
