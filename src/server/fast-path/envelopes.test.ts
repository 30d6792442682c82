import { expect, it } from "vitest";
import { EnvelopeBuffer, onlyEnvelope, onlyMessage, readEnvelopes } from "./envelopes.js";

const reader = {
  parse: (data: Uint8Array) => ({ text: Buffer.from(data).toString() }),
  readMaxBytes: 10,
};
const envelope = (text: string, flags = 0, length = text.length) =>
  Buffer.from([flags, 0, 0, 0, length, ...Buffer.from(text)]);

it.each<[string, Buffer, string | undefined]>([
  ["one message", envelope("abc"), "abc"],
  ["an empty message", envelope(""), ""],
  ["nothing", Buffer.alloc(0), undefined],
  ["half a head", Buffer.alloc(4), undefined],
  ["a flag", envelope("abc", 1), undefined],
  ["less than promised", envelope("abc", 0, 4), undefined],
  ["more than promised", envelope("abc", 0, 2), undefined],
  ["two messages", Buffer.concat([envelope("a"), envelope("b")]), undefined],
])("the only envelope of %s", (_, body, text) => {
  const found = onlyEnvelope(body);
  expect(found === undefined ? undefined : Buffer.from(found).toString()).toBe(text);
});

it.each<[string, Buffer, "connect" | "grpc", RegExp]>([
  ["nothing", Buffer.alloc(0), "grpc", /unimplemented.*missing input message/],
  ["two", Buffer.concat([envelope("a"), envelope("b")]), "grpc", /unimplemented.*extra input message/],
  ["a part", envelope("abc", 0, 4), "connect", /invalid_argument.*incomplete envelope/],
  ["too large", envelope("abcdefghijk"), "connect", /resource_exhausted.*size 11 is larger .* 10/],
  ["compressed", envelope("abc", 1), "grpc", /internal.*compressed/],
])("%s is refused as connect-node does", async (_, body, protocol, error) => {
  await expect(onlyMessage(readEnvelopes(body, reader, { protocol, binary: true }), "unary")).rejects.toThrow(
    error,
  );
});

it("an end of stream of Connect's is passed over", async () => {
  const body = Buffer.concat([envelope("abc"), envelope("{}", 2)]);
  expect(
    await onlyMessage(readEnvelopes(body, reader, { protocol: "connect", binary: false }), "unary"),
  ).toEqual({ text: "abc" });
});

it("messages are put together in their order, once", () => {
  const buffer = new EnvelopeBuffer();
  buffer.add(Buffer.from("abc"));
  buffer.add(Buffer.alloc(0));
  expect(buffer.bytes).toBe(13);
  expect(buffer.take()).toEqual(Buffer.concat([envelope("abc"), envelope("")]));
  expect(buffer.bytes).toBe(0);
  expect(buffer.take()).toHaveLength(0);
});
