/** What the writers and the reader beside this file share: what they leave, and which fields are set. */
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
  const { localName: name } = field;
  if (field.fieldKind === "list") {
    return (message) => ((message[name] as unknown[]).length === 0 ? undefined : message[name]);
  }
  if (field.fieldKind === "map") {
    return (message) => (isEmpty(message[name] as object) ? undefined : message[name]);
  }
  const group = field.oneof?.localName;
  if (group !== undefined) {
    return (message) => {
      const chosen = message[group] as { readonly case?: string; readonly value?: unknown };
      return chosen.case === name ? chosen.value : undefined;
    };
  }
  if (field.presence !== FeatureSet_FieldPresence.IMPLICIT) return (message) => message[name];
  const isZero = zeroOf(field);
  return (message) => {
    const value = message[name];
    return isZero(value) ? undefined : value;
  };
}

function zeroOf(field: DescField): (value: unknown) => boolean {
  if (field.fieldKind === "enum") {
    const zero = field.enum.values[0]?.number;
    return (value) => value === zero;
  }
  switch (field.scalar) {
    case ScalarType.BYTES:
      return (value) => value instanceof Uint8Array && value.byteLength === 0;
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return (value) => Object.is(value, 0);
    default:
      return (value) => value === "" || value === 0 || value === false || value === 0n;
  }
}

function isEmpty(object: object): boolean {
  for (const _ in object) return false;
  return true;
}
