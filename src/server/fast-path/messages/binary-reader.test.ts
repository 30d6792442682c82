/** What protobuf-es makes of bytes is the measure of what is made here. */
import {
  create,
  createFileRegistry,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  DurationSchema,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorProtoSchema,
  StructSchema,
} from "@bufbuild/protobuf/wkt";
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
import { binaryReader } from "./binary-reader.js";
import { requestReader } from "./request-reader.js";

const requests = [SessionBroker, Health, ServerReflection].flatMap(({ methods }) =>
  methods.map(({ input }) => input),
);

/** Reads like a server; counts what is left to protobuf-es. */
function watched(desc: DescMessage) {
  let asked = 0;
  const library = () => ({
    parse(bytes: Uint8Array): object {
      asked += 1;
      return fromBinary(desc, bytes);
    },
  });
  const read = requestReader(desc, library, {});
  return { read: (bytes: Uint8Array) => read(bytes, true), asked: () => asked };
}

/** The same message; strictly, so that no field is set that protobuf-es leaves out. */
function expectAsLibrary(desc: DescMessage, bytes: Uint8Array): boolean {
  const { read, asked } = watched(desc);
  const theirs = outcome(() => fromBinary(desc, bytes));
  expect(whatIsSet(outcome(() => read(bytes)))).toStrictEqual(whatIsSet(theirs));
  return asked() === 0;
}

/** Undefined for what cannot be sent, as lone surrogates. */
function written(desc: DescMessage, message: object): Uint8Array | undefined {
  const bytes = outcome(() => toBinary(desc, message as never));
  return typeof bytes === "string" ? undefined : (bytes as Uint8Array);
}

it.each(requests.map((desc) => [desc.typeName, desc] as const))("reads %s as protobuf-es does", (_, desc) => {
  fc.assert(
    fc.property(anyMessage(desc), (message) => {
      const bytes = written(desc, message);
      if (bytes !== undefined) expectAsLibrary(desc, bytes);
    }),
    { numRuns: 100 },
  );
});

it.each(requests.map((desc) => [desc.typeName, desc] as const))(
  "says of damaged bytes of %s what protobuf-es says",
  (_, desc) => {
    const piece = fc.uint8Array({ maxLength: 6 });
    fc.assert(
      fc.property(anyMessage(desc), piece, fc.nat(), fc.nat({ max: 6 }), (message, inserted, at, removed) => {
        const bytes = written(desc, message);
        if (bytes === undefined) return;
        const from = at % (bytes.length + 1);
        const rest = bytes.subarray(Math.min(from + removed, bytes.length));
        expectAsLibrary(desc, Uint8Array.of(...bytes.subarray(0, from), ...inserted, ...rest));
      }),
      { numRuns: 200 },
    );
  },
);

const reserve = {
  key: { scope: "acme/team", externalId: "chat-1 \u00e9", provider: "claude" },
  aliases: ["thread-1", "\ufeffthread-2", "x".repeat(300)],
  labels: { team: "blue", "": "x" },
  resetPolicy: { idle: { seconds: 3_600n, nanos: 5 }, daily: { hour: 4, timeZone: "Europe/Berlin" } },
  idempotencyKey: "key-1",
  expectedGeneration: 300,
} satisfies MessageInitShape<typeof ReserveRequestSchema>;

it("leaves no request of a common call to protobuf-es", () => {
  const bytes = toBinary(ReserveRequestSchema, create(ReserveRequestSchema, reserve));
  expect(expectAsLibrary(ReserveRequestSchema, bytes)).toBe(true);
  expect(expectAsLibrary(ReserveRequestSchema, new Uint8Array())).toBe(true);
  for (const selector of [
    { case: "sessionId" as const, value: "a" },
    { case: "key" as const, value: { ...reserve.key } },
    { case: "alias" as const, value: "c" },
  ]) {
    const message = create(ResolveSelectionRequestSchema, { selector, scope: "a" });
    expect(
      expectAsLibrary(ResolveSelectionRequestSchema, toBinary(ResolveSelectionRequestSchema, message)),
    ).toBe(true);
  }
});

/** Fields of a Reserve as the writer makes them. */
const fields = (write: (writer: BinaryWriter) => void): Uint8Array => {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
};
const text = (writer: BinaryWriter, field: number, value: string) =>
  writer.tag(field, WireType.LengthDelimited).string(value);
const numberOf = (localName: string, desc: DescMessage = ReserveRequestSchema) =>
  desc.field[localName]?.number ?? Number.NaN;
const key = (writer: BinaryWriter, field: number, value: string) => {
  writer.tag(numberOf("key"), WireType.LengthDelimited).fork();
  text(writer, field, value);
  writer.join();
};
const entry = (writer: BinaryWriter, ...parts: readonly (readonly [number, string])[]) => {
  writer.tag(numberOf("labels"), WireType.LengthDelimited).fork();
  for (const [field, value] of parts) text(writer, field, value);
  writer.join();
};

it.each<[string, Uint8Array]>([
  [
    "a field twice",
    fields((to) => {
      text(to, numberOf("idempotencyKey"), "a");
      text(to, numberOf("idempotencyKey"), "b");
    }),
  ],
  [
    "a message in two pieces",
    fields((to) => {
      key(to, 1, "acme");
      key(to, 2, "chat");
    }),
  ],
  ["an unknown field", fields((to) => text(to, 1_000, "a"))],
  ["a field of another type", fields((to) => to.tag(numberOf("idempotencyKey"), WireType.Varint).uint32(1))],
  ["a zero that is written", fields((to) => text(to, numberOf("idempotencyKey"), ""))],
  [
    "a map's name twice",
    fields((to) => {
      entry(to, [1, "a"], [2, "b"]);
      entry(to, [1, "a"], [2, "c"]);
    }),
  ],
  ["an entry without a value", fields((to) => entry(to, [1, "a"]))],
  ["an entry without a name", fields((to) => entry(to, [2, "a"]))],
  ["an empty entry", fields((to) => entry(to))],
  ["an entry backwards", fields((to) => entry(to, [2, "a"], [1, "b"]))],
  ["an entry with two values", fields((to) => entry(to, [1, "a"], [2, "b"], [2, "c"]))],
  ["__proto__ in a map", fields((to) => entry(to, [1, "__proto__"], [2, "b"]))],
  ["no UTF-8", Uint8Array.of(numberOf("idempotencyKey") * 8 + 2, 2, 0xc3, 0x28)],
  ["a varint without an end", Uint8Array.of(0xff, 0xff)],
  [
    "a varint of eleven bytes",
    Uint8Array.of(numberOf("expectedGeneration") * 8, ...new Array(10).fill(0x80), 1),
  ],
  [
    "a number beyond 32 bits",
    Uint8Array.of(numberOf("expectedGeneration") * 8, 0x80, 0x80, 0x80, 0x80, 0x20),
  ],
  ["a field number of zero", Uint8Array.of(0, 0)],
  ["a group", Uint8Array.of(numberOf("key") * 8 + 3, numberOf("key") * 8 + 4)],
  ["a text that is cut off", Uint8Array.of(numberOf("idempotencyKey") * 8 + 2, 5, 0x61)],
  [
    "a message that ends within a field",
    Uint8Array.of(numberOf("key") * 8 + 2, 2, 0x0a, 5, 0x61, 0x61, 0x61),
  ],
])("says of %s what protobuf-es says", (_, bytes) => {
  expectAsLibrary(ReserveRequestSchema, bytes);
});

it("says of two of a group what protobuf-es says", () => {
  const named = (localName: string) => numberOf(localName, ResolveSelectionRequestSchema);
  const scope = Uint8Array.of(10, 1, 0x61);
  const twice = fields((to) => {
    text(to, named("sessionId"), "a");
    text(to, named("alias"), "b");
    to.tag(named("key"), WireType.LengthDelimited).bytes(scope);
    to.tag(named("key"), WireType.LengthDelimited).bytes(scope);
  });
  expectAsLibrary(ResolveSelectionRequestSchema, twice);
});

function holdsItself(): DescMessage {
  const inner = {
    ...{ name: "inner", number: 1, type: FieldDescriptorProto_Type.MESSAGE, typeName: ".test.Nested" },
    label: FieldDescriptorProto_Label.OPTIONAL,
  };
  const file = create(FileDescriptorProtoSchema, {
    ...{ name: "nested.proto", package: "test", syntax: "proto3" },
    messageType: [{ name: "Nested", field: [inner] }],
  });
  const registry = createFileRegistry(file, () => undefined);
  return registry.getMessage("test.Nested") as DescMessage;
}

it("leaves types that have a form of their own, and those that hold themselves, to protobuf-es", () => {
  expect(() => binaryReader(StructSchema)(new Uint8Array())).toThrow("google.protobuf.Struct");
  expect(() => binaryReader(holdsItself())).toThrow("test.Nested");
  const duration = create(DurationSchema, { seconds: 5n, nanos: 7 });
  expect(binaryReader(DurationSchema)(toBinary(DurationSchema, duration))).toEqual({ ...duration });
});

it("gives each message lists, maps and groups of its own", () => {
  const read = binaryReader(ReserveRequestSchema);
  const [one, two] = [read(Buffer.alloc(0)), read(new Uint8Array())] as {
    aliases: unknown[];
    labels: object;
  }[];
  expect(one?.aliases).not.toBe(two?.aliases);
  expect(one?.labels).not.toBe(two?.labels);
});
