import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import { DurationSchema, isWrapperDesc, StructSchema } from "@bufbuild/protobuf/wkt";
import {
  BytesRulesSchema,
  DurationRulesSchema,
  EnumRulesSchema,
  type FieldRules,
  Int32RulesSchema,
  type MapRules,
  MapRulesSchema,
  type RepeatedRules,
  RepeatedRulesSchema,
  StringRulesSchema,
  UInt32RulesSchema,
  UInt64RulesSchema,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { type Check, every, unsure } from "./check.js";
import {
  bytesRules,
  durationRules,
  enumRules,
  mapRules,
  numberRules,
  repeatedRules,
  ruleCheck,
  stringRules,
} from "./value-rules.js";

/** The check of each type of message, for those inside of others. */
export type MessageChecks = (desc: DescMessage) => Check<Message> | undefined;

/** What a field, its items or its pairs hold: one of the three. */
interface ValueType {
  readonly scalar?: ScalarType | undefined;
  readonly enum?: DescEnum | undefined;
  readonly message?: DescMessage | undefined;
}

/**
 * What the rules of a field ask of what it holds; undefined if nothing. Items,
 * keys and values are checked even where their own rules say to ignore them.
 */
export function contentCheck(
  field: DescField,
  rules: FieldRules,
  messages: MessageChecks,
): Check | undefined {
  if (field.fieldKind !== "list" && field.fieldKind !== "map") return valueCheck(field, rules, messages);
  if (hasExpressions(rules)) return unsure;
  const { case: kind, value } = rules.type;
  if (field.fieldKind === "list") {
    if (kind !== undefined && kind !== "repeated") return unsure;
    return listCheck(value, valueCheck(field, value?.items, messages));
  }
  if (kind !== undefined && kind !== "map") return unsure;
  const key = valueCheck({ scalar: field.mapKey }, value?.keys, messages);
  // Keys that are numbers or booleans are texts in a map of JavaScript.
  if (key !== undefined && field.mapKey !== ScalarType.STRING) return unsure;
  return mapCheck(value, key, valueCheck(field, value?.values, messages));
}

function listCheck(rules: RepeatedRules | undefined, item: Check | undefined): Check | undefined {
  const checks: Check<readonly unknown[]>[] = [];
  const list = rules && ruleCheck(RepeatedRulesSchema, rules, repeatedRules);
  if (list !== undefined) checks.push(list);
  if (item !== undefined) checks.push((items) => items.every((one) => item(one)));
  return every(checks) as Check | undefined;
}

function mapCheck(
  rules: MapRules | undefined,
  key: Check | undefined,
  value: Check | undefined,
): Check | undefined {
  const checks: Check<object>[] = [];
  const map = rules && ruleCheck(MapRulesSchema, rules, mapRules);
  if (map !== undefined) checks.push(map);
  if (key !== undefined) checks.push((pairs) => Object.keys(pairs).every((one) => key(one)));
  if (value !== undefined) checks.push((pairs) => Object.values(pairs).every((one) => value(one)));
  return every(checks) as Check | undefined;
}

function valueCheck(
  held: ValueType,
  rules: FieldRules | undefined,
  messages: MessageChecks,
): Check | undefined {
  if (rules !== undefined && hasExpressions(rules)) return unsure;
  const standard = rules && standardCheck(held, rules.type);
  if (held.message === undefined) return standard;
  // Their values are not messages in JavaScript.
  if (isWrapperDesc(held.message) || held.message.typeName === StructSchema.typeName) return unsure;
  const inside = messages(held.message) as Check | undefined;
  return every([standard, inside].filter((check) => check !== undefined));
}

function hasExpressions({ cel, celExpression, $unknown }: FieldRules): boolean {
  return cel.length > 0 || celExpression.length > 0 || ($unknown?.length ?? 0) > 0;
}

function standardCheck(held: ValueType, { case: kind, value: rules }: FieldRules["type"]): Check | undefined {
  if (kind === undefined) return undefined;
  if (kind === "string" && held.scalar === ScalarType.STRING)
    return ruleCheck(StringRulesSchema, rules, stringRules) as Check;
  if (kind === "bytes" && held.scalar === ScalarType.BYTES)
    return ruleCheck(BytesRulesSchema, rules, bytesRules) as Check;
  if (kind === "int32" && held.scalar === ScalarType.INT32)
    return ruleCheck(Int32RulesSchema, rules, numberRules) as Check;
  if (kind === "uint32" && held.scalar === ScalarType.UINT32)
    return ruleCheck(UInt32RulesSchema, rules, numberRules) as Check;
  if (kind === "uint64" && held.scalar === ScalarType.UINT64)
    return ruleCheck(UInt64RulesSchema, rules, numberRules) as Check;
  if (kind === "enum" && held.enum !== undefined)
    return ruleCheck(EnumRulesSchema, rules, enumRules(held.enum)) as Check;
  if (kind === "duration" && held.message?.typeName === DurationSchema.typeName)
    return ruleCheck(DurationRulesSchema, rules, durationRules) as Check;
  return unsure;
}
