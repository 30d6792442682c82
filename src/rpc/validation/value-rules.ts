/** What the standard rules ask of one value. */
import { type DescEnum, type DescMessage, isFieldSet, type Message } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import type {
  BytesRules,
  EnumRules,
  MapRules,
  RepeatedRules,
  StringRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { type Check, every, sure, unsure } from "./check.js";
import { patternCheck } from "./pattern.js";

/** The check that each rule asks for, by the name of its field. */
export type RuleTable<Rules, Value> = Readonly<Record<string, (rules: Rules) => Check<Value>>>;

/** Checks every rule that is set. One that the table lacks is left to protovalidate. */
export function ruleCheck<Rules extends Message, Value>(
  schema: DescMessage,
  rules: Rules,
  table: RuleTable<Rules, Value>,
): Check<Value> | undefined {
  if (rules.$unknown?.length) return unsure;
  const set = schema.fields.filter((rule) => isFieldSet(rules, rule));
  return every(set.map((rule) => table[rule.localName]?.(rules) ?? unsure));
}

/**
 * Characters are code points, bytes are those of UTF-8. Most texts are judged
 * by their length in UTF-16 units: there are at least half as many code points
 * and at most three times as many bytes.
 */
export const stringRules: RuleTable<StringRules, string> = {
  minLen: ({ minLen }) => {
    const least = Number(minLen);
    return (text) => text.length >= 2 * least || codePoints(text) >= least;
  },
  maxLen: ({ maxLen }) => {
    const most = Number(maxLen);
    return (text) => text.length <= most || (text.length <= 2 * most && codePoints(text) <= most);
  },
  minBytes: ({ minBytes }) => {
    const least = Number(minBytes);
    return (text) => text.length >= least || Buffer.byteLength(text) >= least;
  },
  maxBytes: ({ maxBytes }) => {
    const most = Number(maxBytes);
    return (text) => 3 * text.length <= most || (text.length <= most && Buffer.byteLength(text) <= most);
  },
  pattern: ({ pattern }) => patternCheck(pattern),
};

function codePoints(text: string): number {
  return Array.from(text).length;
}

export const bytesRules: RuleTable<BytesRules, Uint8Array> = {
  maxLen: ({ maxLen }) => {
    const most = Number(maxLen);
    return (bytes) => bytes.length <= most;
  },
};

/** The rules of items are checked with each item. */
export const repeatedRules: RuleTable<RepeatedRules, readonly unknown[]> = {
  minItems: ({ minItems }) => {
    const least = Number(minItems);
    return (items) => items.length >= least;
  },
  maxItems: ({ maxItems }) => {
    const most = Number(maxItems);
    return (items) => items.length <= most;
  },
  items: () => sure,
};

/** The rules of keys and values are checked with each pair. */
export const mapRules: RuleTable<MapRules, object> = {
  maxPairs: ({ maxPairs }) => {
    const most = Number(maxPairs);
    return (pairs) => Object.keys(pairs).length <= most;
  },
  keys: () => sure,
  values: () => sure,
};

export function enumRules(enumeration: DescEnum): RuleTable<EnumRules, number> {
  const defined = new Set(enumeration.values.map(({ number }) => number));
  return {
    definedOnly:
      ({ definedOnly }) =>
      (number) =>
        !definedOnly || defined.has(number),
    notIn:
      ({ notIn }) =>
      (number) =>
        !notIn.includes(number),
  };
}

/** What the rules of numbers and of times have in common. */
interface Bounds<Value> {
  readonly greaterThan: { readonly value?: Value | undefined };
  readonly lessThan: { readonly value?: Value | undefined };
}

/**
 * With bounds that exclude each other, protovalidate takes what lies outside of
 * them; here nothing is surely valid then.
 *
 * @param compare below 0, 0 or above; NaN keeps no bound
 */
function boundRules<Value>(
  compare: (value: Value, bound: Value | undefined) => number,
): RuleTable<Bounds<Value>, Value> {
  return {
    gt: (rules) => (value) => compare(value, rules.greaterThan.value) > 0,
    gte: (rules) => (value) => compare(value, rules.greaterThan.value) >= 0,
    lt: (rules) => (value) => compare(value, rules.lessThan.value) < 0,
    lte: (rules) => (value) => compare(value, rules.lessThan.value) <= 0,
  };
}

export const numberRules = boundRules<number | bigint>((value, bound) => {
  if (bound === undefined || Number.isNaN(value)) return Number.NaN;
  return value < bound ? -1 : Number(value > bound);
});

/** Nothing is said of what is negative or not in its normal form. */
export const durationRules = boundRules<Duration>((value, bound) => {
  if (bound === undefined || value.seconds < 0n || value.nanos < 0 || value.nanos >= 1e9) return Number.NaN;
  if (value.seconds !== bound.seconds) return value.seconds < bound.seconds ? -1 : 1;
  return value.nanos - bound.nanos;
});
