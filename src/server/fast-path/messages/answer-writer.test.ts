/** What protobuf-es makes of a message is the measure of what is made here. */
import { create, type DescMessage, type Message, toBinary, toJsonString } from "@bufbuild/protobuf";
import { FeatureSetSchema, ValueSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, it } from "vitest";
import { Health } from "../../../../gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../../../gen/grpc/reflection/v1/reflection_pb.js";
import { SessionBroker } from "../../../../gen/sessionbroker/v1/session_broker_pb.js";
import {
  type ReserveResponse,
  ReserveResponseSchema,
  SessionSchema,
} from "../../../../gen/sessionbroker/v1/session_pb.js";
import { anyMessage } from "../../../../test/support/any-message.js";
import { answerWriter } from "./answer-writer.js";
import { binaryOf } from "./binary.js";
import { jsonTextOf } from "./json-text.js";

const answers = [SessionBroker, Health, ServerReflection].flatMap(({ methods }) =>
  methods.map(({ output }) => output),
);

/** How often protobuf-es had to be asked. */
function watched(desc: DescMessage) {
  let asked = 0;
  const library = (binary: boolean) => ({
    serialize(message: Message) {
      asked += 1;
      return binary ? toBinary(desc, message) : Buffer.from(toJsonString(desc, message));
    },
  });
  const write = answerWriter(desc, library, { jsonOptions: { ignoreUnknownFields: false } });
  return { write, asked: () => asked };
}

it.each(answers.map((desc) => [desc.typeName, desc] as const))("writes %s as protobuf-es does", (_, desc) => {
  const { write } = watched(desc);
  fc.assert(
    fc.property(anyMessage(desc), (message) => {
      expect(Buffer.from(write(message, true))).toEqual(Buffer.from(toBinary(desc, message)));
      expect(Buffer.from(write(message, false)).toString()).toBe(
        Buffer.from(toJsonString(desc, message)).toString(),
      );
    }),
    { numRuns: 100 },
  );
});

it("leaves no answer of a common call to protobuf-es", () => {
  const { write, asked } = watched(ReserveResponseSchema);
  const at = { seconds: 1_800_000_000n, nanos: 123_000_000 };
  const response: ReserveResponse = create(ReserveResponseSchema, {
    outcome: 2,
    session: {
      key: { scope: "acme", externalId: "chat-1", provider: "claude" },
      ...{ sessionId: "3b241101-e2bb-4255-8caf-4136c566a962", generation: 7, createdAt: at, startedAt: at },
      aliases: [{ id: "thread-1", kind: 1 }],
      labels: { team: "blue" },
      usage: { inputTokens: 12n, costUsd: 0.25 },
    },
  });
  write(response, true);
  write(response, false);
  expect(asked()).toBe(0);
});

it("writes types that hold themselves, and texts whose length takes several bytes", () => {
  const deep = (depth: number, text: string): Message =>
    create(ValueSchema, {
      kind:
        depth === 0
          ? { case: "stringValue", value: text }
          : { case: "listValue", value: { values: [deep(depth - 1, text)] as never } },
    });
  for (const length of [100, 127, 128, 16_383, 16_384, 100_000]) {
    const message = deep(30, "x".repeat(length));
    expect(Buffer.from(binaryOf(ValueSchema)(message as never))).toEqual(
      Buffer.from(toBinary(ValueSchema, message as never)),
    );
  }
});

it.each<[string, object]>([
  ["a text that is none", { sessionId: 5 }],
  ["a number that is none", { generation: "7" }],
  ["a number beyond its type", { generation: -1 }],
  ["a number that is not whole", { queuedTurns: 0.5 }],
  ["a flag that is none", { pinned: "yes" }],
  ["another message", { usage: create(SessionSchema) }],
  ["a moment in year 10000", { createdAt: { seconds: 253_402_300_800n, nanos: 0 } }],
])("fails with the error of protobuf-es for %s", (_, wrong) => {
  const { write, asked } = watched(SessionSchema);
  const outcome = (make: () => Uint8Array | string) => {
    try {
      return Buffer.from(make()).toString("hex");
    } catch (error) {
      return String(error);
    }
  };
  const message = Object.assign(create(SessionSchema), wrong);
  expect(outcome(() => write(message, true))).toBe(outcome(() => toBinary(SessionSchema, message)));
  expect(outcome(() => write(message, false))).toBe(outcome(() => toJsonString(SessionSchema, message)));
  expect(asked()).toBeGreaterThan(0);
});

it("leaves types of other editions, and options of writing, to protobuf-es", () => {
  expect(() => jsonTextOf(FeatureSetSchema)).not.toThrow();
  expect(() => binaryOf(FeatureSetSchema)).toThrow();
  const write = answerWriter(SessionSchema, () => ({ serialize: () => Buffer.from("theirs") }), {
    jsonOptions: { alwaysEmitImplicit: true },
  });
  expect(Buffer.from(write(create(SessionSchema), false)).toString()).toBe("theirs");
});
