/**
 * Messages in protobuf's binary format, in the bytes that protobuf-es makes.
 * What each field needs is found out once for each type.
 */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { fieldsOf, type Members, readerOf, unusual } from "../../../protobuf/fields.js";
import { Sink } from "../../../protobuf/sink.js";

/** @throws Unusual for a value that is left to protobuf-es */
type Write<T = never> = (sink: Sink, value: T) => void;

/** @throws Unusual for a type that is left to protobuf-es */
export function binaryOf(desc: DescMessage): (message: Members) => Uint8Array {
  const write = messageWriter(desc, new Map());
  const sink = new Sink();
  return (message) => {
    sink.reset();
    write(sink, message);
    return sink.taken();
  };
}

function messageWriter(desc: DescMessage, known: Map<DescMessage, Write<Members>>): Write<Members> {
  const before = known.get(desc);
  if (before !== undefined) return before;
  const writers: Write<Members>[] = [];
  const write: Write<Members> = (sink, message) => {
    if (message.$typeName !== desc.typeName || message.$unknown !== undefined) unusual(desc.typeName);
    for (const writeMember of writers) writeMember(sink, message);
  };
  // Types may hold themselves.
  known.set(desc, write);
  for (const field of fieldsOf(desc)) writers.push(memberWriter(field, known));
  return write;
}

/** Writes tag and value, or nothing if the field is not set. */
function memberWriter(field: DescField, known: Map<DescMessage, Write<Members>>): Write<Members> {
  const read = readerOf(field);
  const write = taggedWriter(field, known) as Write<unknown>;
  return (sink, message) => {
    const value = read(message);
    if (value !== undefined) write(sink, value);
  };
}

function taggedWriter(field: DescField, known: Map<DescMessage, Write<Members>>): Write {
  switch (field.fieldKind) {
    case "map":
      return mapWriter(field, known);
    case "list": {
      if (field.packed && field.listKind !== "message") unusual(`${field}`);
      const write = itemWriter(field.number, field, known);
      return (sink, items: readonly never[]) => {
        for (const item of items) write(sink, item);
      };
    }
    default:
      return itemWriter(field.number, field, known);
  }
}

/** Each entry is a message of its own. https://protobuf.dev/programming-guides/encoding/#maps */
function mapWriter(
  field: Extract<DescField, { fieldKind: "map" }>,
  known: Map<DescMessage, Write<Members>>,
): Write {
  if (field.mapKey !== ScalarType.STRING) unusual(`${field}`);
  const writeKey = scalarWriter(1, ScalarType.STRING) as Write<string>;
  const writeValue = itemWriter(2, field, known) as Write<unknown>;
  const writeEntry = nested(field.number, (sink, [key, value]: readonly [string, unknown]) => {
    writeKey(sink, key);
    writeValue(sink, value);
  });
  return (sink, entries: Readonly<Record<string, never>>) => {
    for (const entry of Object.entries(entries)) writeEntry(sink, entry);
  };
}

function itemWriter(number: number, field: DescField, known: Map<DescMessage, Write<Members>>): Write {
  if (field.message === undefined) {
    return scalarWriter(number, field.enum === undefined ? field.scalar : ScalarType.INT32);
  }
  if (field.fieldKind !== "map" && field.delimitedEncoding) unusual(`${field}`);
  return nested(number, messageWriter(field.message, known));
}

function scalarWriter(number: number, type: ScalarType | undefined): Write {
  switch (type) {
    case ScalarType.STRING:
      return tagged(number, WireType.LengthDelimited, (sink, text: string) =>
        sink.text(typeof text === "string" ? text : unusual("string")),
      );
    case ScalarType.BYTES:
      return tagged(number, WireType.LengthDelimited, (sink, bytes: Uint8Array) => {
        if (!(bytes instanceof Uint8Array)) unusual("bytes");
        sink.varint(bytes.length);
        sink.bytes(bytes);
      });
    case ScalarType.BOOL:
      return tagged(number, WireType.Varint, (sink, flag: boolean) =>
        sink.varint(typeof flag === "boolean" ? Number(flag) : unusual("bool")),
      );
    case ScalarType.DOUBLE:
      return tagged(number, WireType.Bit64, (sink, value: number) =>
        sink.double(typeof value === "number" ? value : unusual("number")),
      );
    case ScalarType.INT32:
    case ScalarType.UINT32: {
      const most = type === ScalarType.INT32 ? 2 ** 31 : 2 ** 32;
      return tagged(number, WireType.Varint, (sink, value: number) => {
        if (!Number.isInteger(value) || value < 0 || value >= most) unusual("integer");
        sink.varint(value);
      });
    }
    case ScalarType.INT64:
    case ScalarType.UINT64:
      return tagged(number, WireType.Varint, (sink, value: bigint) => {
        const small = typeof value === "bigint" ? Number(value) : unusual("integer");
        if (small < 0 || !Number.isSafeInteger(small)) unusual("integer");
        sink.varint(small);
      });
    default:
      return unusual(`scalar type ${type}`);
  }
}

/** What has its length before it. */
function nested<T>(number: number, write: Write<T>): Write<T> {
  return tagged(number, WireType.LengthDelimited, (sink, value) => {
    const start = sink.begin();
    write(sink, value);
    sink.end(start);
  });
}

function tagged<T>(number: number, wireType: number, write: Write<T>): Write<T> {
  const tag = number * 8 + wireType;
  return (sink, value) => {
    sink.varint(tag);
    write(sink, value);
  };
}
