/**
 * Messages in protobuf's binary format, in the bytes that protobuf-es makes.
 * What each field needs is found out once for each type.
 */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { fieldsOf, type Members, readerOf, unusual } from "./fields.js";
import { Sink } from "./sink.js";

/** @throws Unusual for a value that is left to protobuf-es */
type Write<T = never> = (sink: Sink, value: T) => void;

const wire = { varint: 0, bit64: 1, delimited: 2 } as const;

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
  const tag = tagOf(field.number, wire.delimited);
  const writeKey = scalarWriter(1, ScalarType.STRING) as Write<string>;
  const writeValue = itemWriter(2, field, known);
  return (sink, entries: Readonly<Record<string, never>>) => {
    for (const [key, value] of Object.entries(entries)) {
      sink.varint(tag);
      const start = sink.begin();
      writeKey(sink, key);
      writeValue(sink, value);
      sink.end(start);
    }
  };
}

function itemWriter(number: number, field: DescField, known: Map<DescMessage, Write<Members>>): Write {
  if (field.message !== undefined) {
    if (field.fieldKind !== "map" && field.delimitedEncoding) unusual(`${field}`);
    const tag = tagOf(number, wire.delimited);
    const write = messageWriter(field.message, known);
    return (sink, message: Members) => {
      sink.varint(tag);
      const start = sink.begin();
      write(sink, message);
      sink.end(start);
    };
  }
  return scalarWriter(number, field.enum === undefined ? field.scalar : ScalarType.INT32);
}

function scalarWriter(number: number, type: ScalarType | undefined): Write {
  switch (type) {
    case ScalarType.STRING: {
      const tag = tagOf(number, wire.delimited);
      return (sink, text: string) => {
        if (typeof text !== "string") unusual("string");
        sink.varint(tag);
        sink.text(text);
      };
    }
    case ScalarType.BYTES: {
      const tag = tagOf(number, wire.delimited);
      return (sink, bytes: Uint8Array) => {
        if (!(bytes instanceof Uint8Array)) unusual("bytes");
        sink.varint(tag);
        sink.varint(bytes.length);
        sink.bytes(bytes);
      };
    }
    case ScalarType.BOOL: {
      const tag = tagOf(number, wire.varint);
      return (sink, flag: boolean) => {
        if (typeof flag !== "boolean") unusual("bool");
        sink.varint(tag);
        sink.varint(flag ? 1 : 0);
      };
    }
    case ScalarType.DOUBLE: {
      const tag = tagOf(number, wire.bit64);
      return (sink, value: number) => {
        if (typeof value !== "number") unusual("number");
        sink.varint(tag);
        sink.double(value);
      };
    }
    case ScalarType.INT32:
    case ScalarType.UINT32: {
      const tag = tagOf(number, wire.varint);
      const most = type === ScalarType.INT32 ? 2 ** 31 : 2 ** 32;
      return (sink, value: number) => {
        if (!Number.isInteger(value) || value < 0 || value >= most) unusual("integer");
        sink.varint(tag);
        sink.varint(value);
      };
    }
    case ScalarType.INT64:
    case ScalarType.UINT64: {
      const tag = tagOf(number, wire.varint);
      return (sink, value: bigint) => {
        const small = typeof value === "bigint" ? Number(value) : unusual("integer");
        if (small < 0 || !Number.isSafeInteger(small)) unusual("integer");
        sink.varint(tag);
        sink.varint(small);
      };
    }
    default:
      return unusual(`scalar type ${type}`);
  }
}

function tagOf(number: number, wireType: number): number {
  return number * 8 + wireType;
}
