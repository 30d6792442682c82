/** Messages of any type for tests with generated values. */
import { create, type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import fc from "fast-check";

/** Nothing deeper than this is set. */
const deepest = 4;

/** Lone surrogates and all; most are short, as ids are. */
export const anyText = fc.oneof(
  fc.string({ maxLength: 60 }),
  fc.string({ unit: "binary", maxLength: 100 }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 8 })
    .map((codes) => String.fromCharCode(...codes)),
  fc.constantFrom("", "__proto__", '"\\\u2028', "x".repeat(127), "x".repeat(128), "\u00e9".repeat(5_000)),
);

/** Valid for its type; what the contract says beyond that is not looked at. */
export function anyMessage(desc: DescMessage, depth = 0): fc.Arbitrary<Message> {
  if (desc.typeName === "google.protobuf.Timestamp") return timestamp.map((init) => create(desc, init));
  if (desc.typeName === "google.protobuf.Duration") return duration.map((init) => create(desc, init));
  if (desc.typeName.startsWith("google.protobuf.")) return fc.constant(create(desc));
  const members = desc.fields
    .filter((field) => field.oneof === undefined && (depth < deepest || field.message === undefined))
    .map((field): [string, fc.Arbitrary<unknown>] => [field.localName, anyValue(field, depth)]);
  const groups = desc.oneofs.map((group): [string, fc.Arbitrary<unknown>] => [
    group.localName,
    fc.oneof(
      fc.constant({ case: undefined }),
      ...group.fields
        .filter((field) => depth < deepest || field.message === undefined)
        .map((field) => anyValue(field, depth).map((value) => ({ case: field.localName, value }))),
    ),
  ]);
  return fc
    .record(Object.fromEntries([...members, ...groups]), { requiredKeys: [] })
    .map((init) => create(desc, init as never));
}

const instants = fc.oneof(
  fc.bigInt({ min: -62_135_596_800n, max: 253_402_300_799n }),
  fc.bigInt({ min: 1_700_000_000n, max: 1_900_000_000n }),
);
const nanos = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 1, max: 999 }).map((ms) => ms * 1_000_000),
  fc.nat({ max: 999_999_999 }),
);
const timestamp = fc.record({ seconds: instants, nanos });
const duration = fc.record({ seconds: fc.bigInt({ min: 0n, max: 315_576_000_000n }), nanos });

function anyValue(field: DescField, depth: number): fc.Arbitrary<unknown> {
  const one = () => anyItem(field, depth);
  if (field.fieldKind === "list") return fc.array(one(), { maxLength: 3 });
  if (field.fieldKind === "map") return fc.dictionary(anyKey(field.mapKey), one(), { maxKeys: 3 });
  return one();
}

function anyKey(type: ScalarType): fc.Arbitrary<string> {
  return type === ScalarType.STRING ? anyText : fc.nat().map(String);
}

function anyItem(field: DescField, depth: number): fc.Arbitrary<unknown> {
  if (field.message !== undefined) return anyMessage(field.message, depth + 1);
  if (field.enum !== undefined) {
    return fc.constantFrom(...field.enum.values.map(({ number }) => number), 4711, -3);
  }
  return anyScalar(field.scalar);
}

function anyScalar(type: ScalarType | undefined): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.STRING:
      return anyText;
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 300 });
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.DOUBLE:
      return fc.oneof(fc.double(), fc.nat());
    case ScalarType.FLOAT:
      return fc.float();
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.nat().map(BigInt));
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat().map(BigInt));
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return fc.oneof(fc.nat({ max: 300 }), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
    default:
      return fc.oneof(fc.nat({ max: 300 }), fc.integer());
  }
}
