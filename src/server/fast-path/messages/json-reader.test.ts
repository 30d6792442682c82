/** What protobuf-es makes of a text is the measure of what is made here. */
import { create, type DescMessage, fromJsonString, type Message, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, it } from "vitest";
import { Health } from "../../../../gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../../../gen/grpc/reflection/v1/reflection_pb.js";
import { ResolveSelectionRequestSchema } from "../../../../gen/sessionbroker/v1/selection_pb.js";
import { SessionBroker } from "../../../../gen/sessionbroker/v1/session_broker_pb.js";
import { ReserveRequestSchema } from "../../../../gen/sessionbroker/v1/session_pb.js";
import { anyMessage } from "../../../../test/support/any-message.js";
import { outcome } from "../../../../test/support/outcome.js";
import { whatIsSet } from "../../../../test/support/what-is-set.js";
import { jsonReader } from "./json-reader.js";
import { requestReader } from "./request-reader.js";

const requests = [SessionBroker, Health, ServerReflection].flatMap(({ methods }) =>
  methods.map(({ input }) => input),
);

const options = { ignoreUnknownFields: false };

/** Reads like a server; counts what is left to protobuf-es. */
function watched(desc: DescMessage) {
  let asked = 0;
  const library = () => ({
    parse(bytes: Uint8Array): object {
      asked += 1;
      return fromJsonString(desc, Buffer.from(bytes).toString(), options);
    },
  });
  const read = requestReader(desc, library, { jsonOptions: options });
  return { read: (text: string) => read(Buffer.from(text), false), asked: () => asked };
}

/** The same message; strictly, so that no field is set that protobuf-es leaves out. */
function expectAsLibrary(desc: DescMessage, given: string): boolean {
  // Half of a pair of surrogates is no UTF-8.
  const text = Buffer.from(given).toString();
  const { read, asked } = watched(desc);
  const theirs = outcome(() => fromJsonString(desc, text, options));
  expect(whatIsSet(outcome(() => read(text)))).toStrictEqual(whatIsSet(theirs));
  return asked() === 0;
}

it.each(requests.map((desc) => [desc.typeName, desc] as const))("reads %s as protobuf-es does", (_, desc) => {
  fc.assert(
    fc.property(anyMessage(desc), (message) => {
      // What cannot be written, as lone surrogates, cannot be sent.
      const text = outcome(() => ({ text: toJsonString(desc, message) }));
      if (typeof text === "object") expectAsLibrary(desc, (text as { text: string }).text);
    }),
    { numRuns: 100 },
  );
});

const reserve: Message = create(ReserveRequestSchema, {
  key: { scope: "acme/team", externalId: "chat-1 \u00e9", provider: "claude" },
  aliases: ["thread-1", "thread-2"],
  labels: { team: "blue", "": "x" },
  idempotencyKey: "key-1",
});
const plain = toJsonString(ReserveRequestSchema, reserve as never);

it("leaves no request of a common call to protobuf-es", () => {
  expect(expectAsLibrary(ReserveRequestSchema, plain)).toBe(true);
  expect(expectAsLibrary(ReserveRequestSchema, plain.replaceAll(/([:,])/g, "$1 "))).toBe(true);
  expect(expectAsLibrary(ReserveRequestSchema, "{}")).toBe(true);
  for (const [name, value] of [
    ["sessionId", '"a"'],
    ["key", '{"scope":"a","externalId":"b","provider":"c"}'],
    ["alias", '"c"'],
  ]) {
    expect(expectAsLibrary(ResolveSelectionRequestSchema, `{"${name}":${value},"scope":"a"}`)).toBe(true);
  }
});

it.each([
  ["a name twice", '{"idempotencyKey":"a","idempotencyKey":"b"}'],
  ["a name twice, with space before the colon", '{"idempotencyKey":"a","idempotencyKey" :"b"}'],
  ["a name twice, escaped", '{"idempotencyKey":"a","idempotency\\u004bey":"b"}'],
  ["a name twice in a map", '{"labels":{"a":"b","a":"c"}}'],
  ["a name twice, and a value that looks like one", '{"idempotencyKey":"a","idempotencyKey":":"}'],
  ["a field by both its names", '{"idempotencyKey":"a","idempotency_key":"b"}'],
  ["the name of the contract", '{"idempotency_key":"a"}'],
  ["an unknown field", '{"unknown":1}'],
  ["a field of Object", '{"constructor":1,"toString":2}'],
  ["__proto__", '{"__proto__":{"scope":"a"}}'],
  ["__proto__ in a map", '{"labels":{"__proto__":"a"}}'],
  ["null", '{"key":null,"aliases":null,"idempotencyKey":null}'],
  ["null in a list", '{"aliases":[null]}'],
  ["an object for a list", '{"aliases":{}}'],
  ["a list for an object", '{"key":[]}'],
  ["a text for an object", '{"key":"a"}'],
  ["a number for a text", '{"idempotencyKey":1}'],
  ["a text that is none", "null"],
  ["a list", "[]"],
  ["nothing", ""],
  ["half", '{"key":'],
  ["a comma too many", '{"idempotencyKey":"a",}'],
  ["a byte order mark", '\ufeff{"idempotencyKey":"a"}'],
  ["what was no UTF-8", '{"idempotencyKey":"\ufffd"}'],
])("says of %s what protobuf-es says", (_, text) => {
  expectAsLibrary(ReserveRequestSchema, text);
});

it("says of two of a group what protobuf-es says", () => {
  expectAsLibrary(ResolveSelectionRequestSchema, '{"sessionId":"a","alias":"b"}');
  expectAsLibrary(ResolveSelectionRequestSchema, '{"sessionId":null,"alias":"b"}');
});

it("says of numbers, enumerations and damaged texts what protobuf-es says", () => {
  const pieces = fc.constantFrom(
    ...[
      "0",
      "-0",
      "1",
      "1.0",
      "1e2",
      "-1",
      "1.5",
      "4294967295",
      "4294967296",
      "9007199254740993",
      '"1"',
      '"x"',
    ],
    ...["true", '"true"', "null", "{}", "[]", '"":', '":', '" :', '"', "\\", " ", ",", ":", "}", "{"],
    ...['"REQUEST_ORIGIN_INTERNAL"', '"ORIGIN_UNSPECIFIED"', "\u00e9", "\ufffd"],
  );
  for (const desc of requests) {
    fc.assert(
      fc.property(anyMessage(desc), pieces, fc.nat(), fc.nat({ max: 6 }), (message, piece, at, removed) => {
        const text = outcome(() => ({ text: toJsonString(desc, message) }));
        if (typeof text === "string") return;
        const whole = (text as { text: string }).text;
        const from = at % (whole.length + 1);
        expectAsLibrary(desc, whole.slice(0, from) + piece + whole.slice(from + removed));
      }),
      { numRuns: 60 },
    );
  }
});

it("gives each message lists, maps and groups of its own", () => {
  const read = jsonReader(ReserveRequestSchema);
  const [one, two] = [read(Buffer.from("{}")), read(new Uint8Array([0x7b, 0x7d]))] as {
    aliases: unknown[];
    labels: object;
  }[];
  expect(one?.aliases).not.toBe(two?.aliases);
  expect(one?.labels).not.toBe(two?.labels);
});

it("leaves other options of reading to protobuf-es", () => {
  const theirs = create(ReserveRequestSchema);
  const library = () => ({ parse: () => theirs });
  const jsonOptions = { ignoreUnknownFields: false, alwaysEmitImplicit: true };
  const binaryOptions = { recursionLimit: 5 };
  const read = requestReader(ReserveRequestSchema, library, { jsonOptions, binaryOptions });
  expect(read(Buffer.from("{}"), false)).toBe(theirs);
  expect(read(Buffer.alloc(0), true)).toBe(theirs);
  expect(requestReader(ReserveRequestSchema, library, {})(Buffer.from("{}"), false)).not.toBe(theirs);
  expect(requestReader(ReserveRequestSchema, library, {})(Buffer.alloc(0), true)).not.toBe(theirs);
});
