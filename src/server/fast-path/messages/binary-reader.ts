/**
 * Requests in protobuf's binary format as generated clients write it. What each
 * field needs is found out once for each type; whatever else may be read, or is
 * wrong, is left to protobuf-es.
 * https://protobuf.dev/programming-guides/encoding/
 */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { fieldsOf, unusual } from "../../../protobuf/fields.js";
import { type Draft, draftsOf } from "./drafts.js";
import { Source } from "./source.js";

/** @throws Unusual for bytes that are left to protobuf-es */
type Read = (source: Source) => unknown;
type Take = (source: Source, draft: Draft) => void;

/** Those that are no more than their fields. */
const ordinaryGoogleTypes: ReadonlySet<string> = new Set([
  "google.protobuf.Duration",
  "google.protobuf.Timestamp",
]);

/** @throws Unusual for a type that is left to protobuf-es, and for bytes that are */
export function binaryReader(desc: DescMessage): (bytes: Uint8Array) => object {
  const read = messageReader(desc, []);
  return (bytes) => read(new Source(bytes)) as object;
}

/** @param around the types that it is a part of. One that holds itself is as deep as a client likes. */
function messageReader(desc: DescMessage, around: readonly DescMessage[]): Read {
  if (around.includes(desc)) unusual(desc.typeName);
  if (desc.typeName.startsWith("google.protobuf.") && !ordinaryGoogleTypes.has(desc.typeName))
    return () => unusual(desc.typeName);
  const fields = fieldsOf(desc);
  const draftOf = draftsOf(desc, fields);
  const takes: Take[] = [];
  for (const field of fields) {
    const [wireType, take] = fieldTake(field, [...around, desc]);
    takes[field.number * 8 + wireType] = take;
  }
  return (source) => {
    const draft = draftOf();
    while (source.isMore()) (takes[source.varint()] ?? unusual(desc.typeName))(source, draft);
    return draft;
  };
}

function fieldTake(field: DescField, around: readonly DescMessage[]): [number, Take] {
  const { localName: name } = field;
  if (field.fieldKind === "map") return [WireType.LengthDelimited, entryTake(field, around)];
  const [wireType, read] = valueReader(field, around);
  if (field.fieldKind === "list") {
    return [wireType, (source, draft) => (draft[name] as unknown[]).push(read(source))];
  }
  const group = field.oneof?.localName;
  if (group !== undefined) {
    return [
      wireType,
      (source, draft) => {
        if ((draft[group] as { readonly case?: string }).case !== undefined) unusual(group);
        draft[group] = { case: name, value: read(source) };
      },
    ];
  }
  // One message in two pieces would have to be merged.
  const isMerged = field.fieldKind === "message";
  return [
    wireType,
    (source, draft) => {
      if (isMerged && draft[name] !== undefined) unusual(name);
      draft[name] = read(source);
    },
  ];
}

/** Each entry is a message with a key and a value. */
function entryTake(field: Extract<DescField, { fieldKind: "map" }>, around: readonly DescMessage[]): Take {
  if (field.mapKey !== ScalarType.STRING) return () => unusual(field.name);
  const { localName: name } = field;
  const [wireType, readValue] = valueReader(field, around);
  const [keyTag, valueTag] = [8 + WireType.LengthDelimited, 16 + wireType];
  return (source, draft) => {
    const end = source.begin();
    const key = source.varint() === keyTag ? source.text() : unusual(name);
    const value = source.isMore() && source.varint() === valueTag ? readValue(source) : unusual(name);
    source.end(end);
    if (key === "__proto__") unusual(name);
    (draft[name] as Draft)[key] = value;
  };
}

/** Of a field, of an item of a list, or of the value of a map's entry; with the type it has on the wire. */
function valueReader(field: DescField, around: readonly DescMessage[]): [number, Read] {
  if (field.message !== undefined) {
    if (field.fieldKind !== "map" && field.delimitedEncoding) unusual(`${field}`);
    const read = messageReader(field.message, around);
    return [
      WireType.LengthDelimited,
      (source) => {
        const end = source.begin();
        const message = read(source);
        source.end(end);
        return message;
      },
    ];
  }
  return scalarReader(field.enum === undefined ? field.scalar : ScalarType.INT32);
}

function scalarReader(type: ScalarType): [number, Read] {
  switch (type) {
    case ScalarType.STRING:
      return [WireType.LengthDelimited, (source) => source.text()];
    case ScalarType.BYTES:
      return [WireType.LengthDelimited, (source) => source.bytes()];
    case ScalarType.BOOL:
      return [
        WireType.Varint,
        (source) => {
          const value = source.varint();
          return value > 1 ? unusual("bool") : value === 1;
        },
      ];
    case ScalarType.DOUBLE:
      return [WireType.Bit64, (source) => source.double()];
    case ScalarType.INT32:
      return [
        WireType.Varint,
        (source) => {
          const value = source.varint();
          return value >= 2 ** 31 ? unusual("integer") : value;
        },
      ];
    case ScalarType.UINT32:
      return [WireType.Varint, (source) => source.varint()];
    case ScalarType.INT64:
    case ScalarType.UINT64:
      return [WireType.Varint, (source) => BigInt(source.varint())];
    default:
      return [WireType.Varint, () => unusual(`scalar type ${type}`)];
  }
}
