/**
 * Holds the check of every request message to protovalidate, with generated
 * messages: most of their fields are ordinary, some are at a bound of their
 * rules or beyond it.
 */
import {
  create,
  type DescField,
  type DescMessage,
  getOption,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import {
  type DurationRules,
  type FieldRules,
  field as fieldOption,
  type StringRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import { messageChecks } from "./validator.js";

const seed = 20_251;
const runs = 4_000;

const protovalidate = createValidator();
const checkOf = messageChecks();

describe(`a message that the check calls valid is valid (seed ${seed})`, () => {
  it.each(SessionBroker.methods.map(({ input }) => [input.name, input] as const))("%s", (name, desc) => {
    const check = checkOf(desc);
    const counted = { valid: 0, sure: 0 };
    fc.assert(
      fc.property(fc.gen(), (random) => {
        const below = (count: number) => random(fc.nat, count - 1);
        const oneIn = oneOf({ below }, [8, 40, 200]);
        const message = anyMessage(desc, { below, odd: () => below(oneIn) === 0 });
        const { kind, error } = protovalidate.validate(desc, message);
        const sure = check(message);
        if (sure) expect(error).toBeUndefined();
        counted.valid += Number(kind === "valid");
        counted.sure += Number(sure);
      }),
      // Shrinking a large message takes minutes, and the violation names its field.
      { seed, numRuns: runs, endOnFailure: true },
    );
    // Of an expression in CEL, the check knows nothing.
    if (name === "PruneRequest") expect(counted.sure).toBe(0);
    // What is left: texts that are not Unicode, and times not in their normal form.
    else expect(counted.sure / counted.valid).toBeGreaterThan(0.98);
  });
});

interface Random {
  /** A whole number from 0 to below the given one. */
  below(count: number): number;
  /** Whether the next choice is at a bound of its rules, or beyond. As often as the message wants it. */
  odd(): boolean;
}

function oneOf<T>({ below }: Pick<Random, "below">, values: readonly T[]): T {
  const value = values[below(values.length)];
  if (value === undefined) throw new Error("nothing to choose from");
  return value;
}

function anyMessage(desc: DescMessage, random: Random): Message {
  const members: Record<string, unknown> = {};
  for (const field of desc.fields) {
    if (field.oneof !== undefined) continue;
    const repeated = field.fieldKind === "list" || field.fieldKind === "map";
    const unset = rulesOf(field).required ? random.odd() : random.below(3) === 0;
    if (repeated || !unset) members[field.localName] = anyField(field, random);
  }
  for (const oneof of desc.oneofs) {
    if (random.odd()) continue;
    const field = oneOf(random, oneof.fields);
    members[oneof.localName] = { case: field.localName, value: anyField(field, random) };
  }
  return create(desc, members as never);
}

function anyField(field: DescField, random: Random): unknown {
  const rules = rulesOf(field);
  if (field.fieldKind === "list") {
    const own = rules.type.case === "repeated" ? rules.type.value : undefined;
    const size = anySize(random, Number(own?.maxItems ?? 4n));
    return Array.from({ length: size }, () => anyValue(field, own?.items, random));
  }
  if (field.fieldKind === "map") {
    const own = rules.type.case === "map" ? rules.type.value : undefined;
    const size = anySize(random, Number(own?.maxPairs ?? 4n));
    const pairs = Array.from({ length: size }, (_, n) => [
      `${n === 0 ? "" : n}${anyValue({ scalar: field.mapKey }, own?.keys, random)}`,
      anyValue(field, own?.values, random),
    ]);
    return Object.fromEntries(pairs);
  }
  return anyValue(field, rules, random);
}

const rulesOf = remembered((field: DescField): FieldRules => getOption(field, fieldOption));

function remembered<Key, Value>(make: (key: Key) => Value): (key: Key) => Value {
  const made = new Map<Key, Value>();
  return (key) => {
    const value = made.get(key) ?? make(key);
    made.set(key, value);
    return value;
  };
}

/** Mostly one or two, sometimes as many as there may be, or one more. */
function anySize(random: Random, most: number): number {
  return random.odd() ? oneOf(random, [0, most, most + 1]) : 1 + random.below(2);
}

function anyValue(
  held: Partial<Pick<DescField, "scalar" | "enum" | "message">>,
  rules: FieldRules | undefined,
  random: Random,
): unknown {
  if (held.message?.typeName === DurationSchema.typeName) return anyDuration(rules, random);
  if (held.message !== undefined) return anyMessage(held.message, random);
  if (held.enum !== undefined) {
    const named = held.enum.values.map(({ number }) => number).filter((number) => number > 0);
    return oneOf(random, random.odd() ? [0, -1, named.length + 1] : named);
  }
  switch (held.scalar) {
    case ScalarType.STRING:
      return anyText(random, rules);
    case ScalarType.BYTES:
      return random.odd() ? oneOf(random, bytesOf(rules)) : new Uint8Array(3);
    case ScalarType.BOOL:
      return random.below(2) === 0;
    case ScalarType.UINT64:
      return random.odd() ? 0n : 7n;
    default:
      return random.odd() ? oneOf(random, numbersOf(rules)) : 5;
  }
}

const bytesOf = remembered((rules: FieldRules | undefined): Uint8Array[] => {
  const most = rules?.type.case === "bytes" ? Number(rules.type.value.maxLen) : 0;
  return [0, most, most + 1].map((length) => new Uint8Array(length));
});

function numbersOf(rules: FieldRules | undefined): number[] {
  const { value } = (rules?.type ?? {}) as { value?: { lessThan?: { value?: number } } };
  const most = value?.lessThan?.value ?? 0;
  return [0, 1, most, most + 1, 4_294_967_295];
}

function anyDuration(rules: FieldRules | undefined, random: Random): Duration {
  const { lessThan, greaterThan } = (rules?.type.value ?? {}) as Partial<DurationRules>;
  if (!random.odd()) return create(DurationSchema, { seconds: 10n });
  const bounds = [lessThan?.value?.seconds ?? 60n, greaterThan?.value?.seconds ?? 0n];
  const nanos = random.below(20) === 0 ? [-1, 1_000_000_000] : [0, 1, 999_999_999];
  return create(DurationSchema, {
    seconds: oneOf(random, [...bounds, -1n, 2n ** 62n]),
    nanos: oneOf(random, nanos),
  });
}

function anyText(random: Random, rules: FieldRules | undefined): string {
  const { ordinary, long } = textsOf(rules);
  if (!random.odd()) return oneOf(random, ordinary);
  if (random.below(40) === 0) return oneOf(random, notUnicode);
  return oneOf(random, random.below(2) === 0 ? long : odd);
}

const odd = ["", " ", "a\n", "*", "a/*", "/", "a//b", "\0", "\u007f", "\u009f", "\ufffd"];
const notUnicode = ["\ud83d", "\udc00a"];

const textsOf = remembered((rules: FieldRules | undefined) => {
  const own: Partial<StringRules> = rules?.type.case === "string" ? rules.type.value : {};
  const expression = own.pattern && new RegExp(own.pattern.replaceAll("\\x{", "\\u{"), "u");
  const ordinary = expression
    ? fc.sample(fc.stringMatching(expression, { maxLength: 20 }), { seed, numRuns: 40 })
    : ["chat:1", "Zürich €", "😀😀"];
  const counts = [...(own.pattern ?? "").matchAll(/,(\d+)\}/g)].map(([, count]) => Number(count) + 1);
  const bounds = [own.minLen, own.maxLen, own.minBytes, own.maxBytes].map((bound) => Number(bound ?? 0) || 1);
  return { ordinary, long: [...counts, ...bounds].flatMap(textsAround) };
});

/** Texts of about so many code points, UTF-16 units and bytes, of characters of one to four bytes. */
function textsAround(bound: number): string[] {
  return [bound - 1, bound, bound + 1].flatMap((size) => [
    "a".repeat(size),
    ...(bound > 100_000 ? ["😀"] : ["ü", "€", "😀"]).flatMap((character) => {
      const bytes = Buffer.byteLength(character);
      const filled = character.repeat(size / bytes) + "a".repeat(size % bytes);
      return bound > 100_000 ? [filled] : [filled, character.repeat(size), character.repeat(size / 2)];
    }),
  ]);
}
