/** What readers and writers of messages share: what they leave to protobuf-es, and which fields are set. */
import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { Edition, FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";

/** A message, as its members are read. */
export type Members = Readonly<Record<string, unknown>>;

/** Something that is left to protobuf-es: a kind of field, or a value that is not of its type. */
export class Unusual extends Error {}

/** @throws Unusual */
export function unusual(what: string): never {
  throw new Unusual(what);
}

/** Undefined for what is left to protobuf-es. */
export function usual<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof Unusual) return undefined;
    throw error;
  }
}

/** In the order in which protobuf-es writes them. @throws Unusual unless all of the message is proto3 */
export function fieldsOf(desc: DescMessage): readonly DescField[] {
  if (desc.file.edition !== Edition.EDITION_PROTO3) unusual(desc.typeName);
  return desc.fields.toSorted((a, b) => a.number - b.number);
}

/** Reads a field's value, undefined if it is not set. */
export function readerOf(field: DescField): (message: Members) => unknown {
  const { value, isSet } = accessOf(field);
  return compiled(["message"], [`const value = ${value};`, `return ${isSet} ? value : undefined;`]);
}

/**
 * How a field is read, as JavaScript: its `value` in `message`, and whether `value`
 * `isSet`. One piece of code that reads members by whatever name it is given is
 * several times as slow as code of which each place reads one member.
 */
export function accessOf(field: DescField): { readonly value: string; readonly isSet: string } {
  const member = (name: string) => `message[${JSON.stringify(name)}]`;
  const group = field.oneof?.localName;
  if (group !== undefined) {
    const isChosen = `${member(group)}.case === ${JSON.stringify(field.localName)}`;
    return { value: `${isChosen} ? ${member(group)}.value : undefined`, isSet: "value !== undefined" };
  }
  return { value: member(field.localName), isSet: isSetCode(field) };
}

function isSetCode(field: DescField): string {
  if (field.fieldKind === "list") return "value.length > 0";
  if (field.fieldKind === "map") return "Object.keys(value).length > 0";
  if (field.presence !== FeatureSet_FieldPresence.IMPLICIT) return "value !== undefined";
  if (field.fieldKind === "enum") return `value !== ${field.enum.values[0]?.number}`;
  switch (field.scalar) {
    case ScalarType.BYTES:
      return "!(value instanceof Uint8Array && value.byteLength === 0)";
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return "!Object.is(value, 0)";
    default:
      return 'value !== "" && value !== 0 && value !== false && value !== 0n';
  }
}

/**
 * A function made of its code, as lmdb's encoding of keys makes some. The names of
 * what it is given are our own, and those of the contract stand in it as texts.
 */
export function compiled(
  names: readonly string[],
  lines: readonly string[],
): (...given: unknown[]) => unknown {
  return new Function(...names, lines.join("\n")) as (...given: unknown[]) => unknown;
}
