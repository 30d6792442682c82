/** Each kind of rule, on messages of one field `it` that are described here. */
import {
  create,
  createFileRegistry,
  type DescMessage,
  type Message,
  type MessageInitShape,
  setExtension,
} from "@bufbuild/protobuf";
import {
  FeatureSetSchema,
  type FieldDescriptorProtoSchema,
  FieldOptionsSchema,
  FileDescriptorProtoSchema,
  file_google_protobuf_duration,
  file_google_protobuf_struct,
  file_google_protobuf_wrappers,
  FieldDescriptorProto_Label as Label,
  MessageOptionsSchema,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import {
  FieldRulesSchema,
  field as fieldOption,
  Ignore,
  MessageRulesSchema,
  message as messageOption,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { describe, expect, it } from "vitest";
import { messageChecks } from "./validator.js";

type Field = MessageInitShape<typeof FieldDescriptorProtoSchema>;
type MessageRules = MessageInitShape<typeof MessageRulesSchema>;
type FieldRules = MessageInitShape<typeof FieldRulesSchema>;

const text: Field = { type: Type.STRING };
const optionalText: Field = { type: Type.STRING, proto3Optional: true, oneofIndex: 0 };
const int32: Field = { type: Type.INT32 };
const uint64: Field = { type: Type.UINT64 };
const texts: Field = { type: Type.STRING, label: Label.REPEATED };
const bytes: Field = { type: Type.BYTES };
const colour: Field = { type: Type.ENUM, typeName: ".test.Colour" };
const duration: Field = { type: Type.MESSAGE, typeName: ".google.protobuf.Duration" };
const wrapped: Field = { type: Type.MESSAGE, typeName: ".google.protobuf.StringValue" };
const struct: Field = { type: Type.MESSAGE, typeName: ".google.protobuf.Struct" };
const pairs: Field = { type: Type.MESSAGE, label: Label.REPEATED, typeName: ".test.One.ItEntry" };
const itself: Field = { type: Type.MESSAGE, label: Label.REPEATED, typeName: ".test.One" };

/** Rules of a kind, as `string` or `repeated`. */
const of = (kind: string, value: object): FieldRules => ({ type: { case: kind, value } }) as FieldRules;
const from = (kind: "gt" | "gte", value: unknown) => ({ greaterThan: { case: kind, value } });
const to = (kind: "lt" | "lte", value: unknown) => ({ lessThan: { case: kind, value } });
const seconds = (count: bigint, nanos = 0) => ({ seconds: count, nanos });
const expression = { id: "odd", message: "is odd", expression: "this != 'b'" };

/** What is surely valid, and what is left to protovalidate, whether it is valid or not. */
const rules: [string, Field, FieldRules, unknown[], unknown[]][] = [
  ["nothing", text, {}, ["", "a"], []],
  ["string.min_len", text, of("string", { minLen: 2n }), ["ab", "😀😀", "😀a"], ["", "a", "😀"]],
  ["string.max_len", text, of("string", { maxLen: 2n }), ["", "ab", "😀😀"], ["abc", "😀😀a", "😀😀😀"]],
  ["string.min_bytes", text, of("string", { minBytes: 4n }), ["abcd", "😀", "éé"], ["", "abc", "é", "€"]],
  ["string.max_bytes", text, of("string", { maxBytes: 4n }), ["", "abcd", "😀"], ["abcde", "ééa", "€€"]],
  ["string.pattern", text, of("string", { pattern: "^[a-c]{1,2}$" }), ["a", "cb"], ["", "abc", "a\n", "d"]],
  ["any part of a text", text, of("string", { pattern: "b+" }), ["abc"], ["", "ac"]],
  ["what is not Unicode", text, of("string", { pattern: "^[^a]$" }), ["b", "😀"], ["\ud83d", "\udc00", "a"]],
  ["a long text", text, of("string", { pattern: "^a*$" }), ["a".repeat(4096)], ["a".repeat(4097)]],
  ["bytes.max_len", bytes, of("bytes", { maxLen: 2n }), [new Uint8Array(2)], [new Uint8Array(3)]],
  ["enum.defined_only", colour, of("enum", { definedOnly: true }), [0, 1, 5], [2, -1, 6]],
  ["enum.not_in", colour, of("enum", { notIn: [0, 5] }), [1, 2], [0, 5]],
  ["int32.gt", int32, of("int32", from("gt", 0)), [1], [0, -1]],
  ["int32.gte", int32, of("int32", from("gte", 2)), [2], [0, 1]],
  ["int32.lt", int32, of("int32", to("lt", 2)), [-1, 1], [2]],
  ["uint64.lte", uint64, of("uint64", to("lte", 2n ** 60n)), [0n, 2n ** 60n], [2n ** 60n + 1n]],
  ["bounds that exclude", int32, of("int32", { ...from("gt", 5), ...to("lt", 2) }), [], [0, 1, 2, 5, 6]],
  ["duration.gt", duration, of("duration", from("gt", seconds(1n))), [seconds(1n, 1)], [seconds(1n)]],
  [
    "duration.gte",
    duration,
    of("duration", from("gte", seconds(1n))),
    [seconds(1n)],
    [seconds(0n, 999_999_999)],
  ],
  [
    "duration.lt",
    duration,
    of("duration", to("lt", seconds(2n))),
    [seconds(1n, 1)],
    [seconds(2n), seconds(-1n)],
  ],
  [
    "duration.lte",
    duration,
    of("duration", to("lte", seconds(2n))),
    [seconds(2n)],
    [seconds(2n, 1), seconds(0n, 1e9)],
  ],
  ["no duration", duration, of("duration", from("gt", seconds(1n))), [undefined], []],
  ["repeated.min_items", texts, of("repeated", { minItems: 1n }), [["a"]], [[]]],
  ["repeated.max_items", texts, of("repeated", { maxItems: 1n }), [[], ["a"]], [["a", "b"]]],
  [
    "repeated.items",
    texts,
    of("repeated", { items: of("string", { maxLen: 1n }) }),
    [[], ["a", "b"]],
    [["a", "bc"]],
  ],
  ["map.max_pairs", pairs, of("map", { maxPairs: 1n }), [{}, { a: "" }], [{ a: "", b: "" }]],
  ["map.keys", pairs, of("map", { keys: of("string", { minLen: 1n }) }), [{ a: "" }], [{ "": "a" }]],
  ["map.values", pairs, of("map", { values: of("string", { minLen: 1n }) }), [{ "": "a" }], [{ a: "" }]],
  ["required without presence", text, { required: true }, ["a"], [""]],
  ["required with presence", optionalText, { required: true }, ["", "a"], [undefined]],
  ["required items", texts, { required: true }, [["a"]], [[]]],
  ["required and a rule", text, { required: true, ...of("string", { maxLen: 1n }) }, ["a"], ["", "ab"]],
  ["a rule with presence", optionalText, of("string", { minLen: 1n }), [undefined, "a"], [""]],
  [
    "ignored at zero",
    text,
    { ignore: Ignore.IF_ZERO_VALUE, ...of("string", { minLen: 2n }) },
    ["", "ab"],
    ["a"],
  ],
  ["ignored", text, { ignore: Ignore.ALWAYS, required: true, cel: [expression] }, ["", "a", "b"], []],
  ["messages inside", itself, of("repeated", { maxItems: 1n }), [[{ it: [{}] }]], [[{ it: [{}, {}] }]]],
  ["an expression", text, { cel: [expression] }, [], ["a", "b"]],
  ["an expression alone", text, { celExpression: ["this != 'b'"] }, [], ["a", "b"]],
  ["an expression of items", texts, of("repeated", { items: { cel: [expression] } }), [[]], [["a"], ["b"]]],
  [
    "an expression of a list",
    texts,
    { cel: [{ id: "one", expression: "this.size() == 1" }] },
    [],
    [[], ["a"]],
  ],
  ["a rule that is not known", text, of("string", { prefix: "a" }), [], ["a", "b"]],
  ["a known rule and another", text, of("string", { maxLen: 1n, const: "a" }), [], ["a", "b"]],
  ["a pattern of RE2 only", text, of("string", { pattern: "(?i)^a$" }), [], ["a", "b"]],
  ["rules of another type", text, of("bytes", { maxLen: 1n }), [], ["a"]],
  ["unique items", texts, of("repeated", { unique: true }), [], [["a"], ["a", "a"]]],
  ["a wrapped value", wrapped, of("string", { maxLen: 1n }), [undefined], ["a", "ab"]],
  ["any JSON", struct, {}, [undefined], [{ a: 1 }]],
];

const known = [file_google_protobuf_duration, file_google_protobuf_struct, file_google_protobuf_wrappers];
const protovalidate = createValidator();

describe("rules", () => {
  it.each(rules)("%s", (_, field, its, surelyValid, left) => {
    const desc = described(field, its);
    const check = messageChecks()(desc);
    const sure = (it: unknown) => check(holding(desc, it));
    expect(surelyValid.filter((it) => !sure(it))).toEqual([]);
    expect(left.filter(sure)).toEqual([]);
    for (const it of surelyValid) {
      expect(protovalidate.validate(desc, holding(desc, it)).error).toBeUndefined();
    }
  });

  it("a message with an expression is never sure", () => {
    const desc = described(text, {}, { cel: [{ id: "a", expression: "this.it != 'b'" }] });
    expect(messageChecks()(desc)(holding(desc, "a"))).toBe(false);
  });

  it("a message of another edition is never sure", () => {
    expect(messageChecks()(FeatureSetSchema)(create(FeatureSetSchema))).toBe(false);
  });

  it.each([
    [false, { it: "", other: "" }, true],
    [false, { it: "a", other: "" }, true],
    [false, { it: "a", other: "a" }, false],
    [true, { it: "", other: "" }, false],
    [true, { it: "", other: "a" }, true],
  ])("of fields of which one may be set, required: %s, %j: %s", (required, members, sure) => {
    const group = { oneof: [{ fields: ["it", "other"], required }] };
    const desc = described(text, of("string", { maxLen: 1n, minLen: 1n }), group);
    const message = create(desc, members as never);
    expect(messageChecks()(desc)(message)).toBe(sure);
    expect(protovalidate.validate(desc, message).kind).toBe(sure ? "valid" : "invalid");
  });
});

function holding(desc: DescMessage, it: unknown): Message {
  return create(desc, (it === undefined ? {} : { it }) as never);
}

/** A message `One` of the fields `it`, with these rules, and `other`. */
function described(field: Field, its: FieldRules, ofMessage: MessageRules = {}): DescMessage {
  const options = create(FieldOptionsSchema);
  setExtension(options, fieldOption, create(FieldRulesSchema, its));
  const messageOptions = create(MessageOptionsSchema);
  setExtension(messageOptions, messageOption, create(MessageRulesSchema, ofMessage));
  const entry = ["key", "value"].map((name, n) => ({ ...text, label: Label.OPTIONAL, name, number: n + 1 }));
  const file = create(FileDescriptorProtoSchema, {
    name: "test.proto",
    syntax: "proto3",
    package: "test",
    dependency: known.map(({ proto }) => proto.name),
    enumType: [{ name: "Colour", value: [0, 1, 5].map((number) => ({ name: `COLOUR_${number}`, number })) }],
    messageType: [
      {
        name: "One",
        options: messageOptions,
        field: [
          { label: Label.OPTIONAL, ...field, name: "it", number: 1, options },
          { label: Label.OPTIONAL, ...text, name: "other", number: 2 },
        ],
        oneofDecl: field.proto3Optional ? [{ name: "_it" }] : [],
        nestedType: [{ name: "ItEntry", field: entry, options: { mapEntry: true } }],
      },
    ],
  });
  const registry = createFileRegistry(file, (name) => known.find(({ proto }) => proto.name === name));
  const desc = registry.getMessage("test.One");
  if (desc === undefined) throw new Error("the message is not described");
  return desc;
}
