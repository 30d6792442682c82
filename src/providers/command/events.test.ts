import { describe, expect, it } from "vitest";
import { OutputLimitError } from "../lines.js";
import { PlainText, Records, valueAt } from "./events.js";

const paths = { text: "text", nativeId: "id", end: "end", endValue: "yes", error: "error" };

/** Reads records a line each, in one chunk. */
function readAll(records: readonly unknown[], more: Partial<typeof paths> = {}, asked?: string) {
  const reader = new Records({ ...paths, ...more }, asked);
  const lines = records.map((record) => (typeof record === "string" ? record : JSON.stringify(record)));
  const told = reader.read(Buffer.from(lines.join("\n"))) + reader.end();
  expect(told).toBe(reader.text);
  return reader;
}

describe("a record ends the turn", () => {
  it.each<[unknown, Partial<typeof paths>, boolean | undefined]>([
    [{ end: "yes" }, {}, true],
    [{ end: "no" }, {}, false],
    [{}, {}, false],
    [{ end: true }, { endValue: "true" }, true],
    [{ end: 1 }, { endValue: "1" }, true],
    [{ end: { yes: 1 } }, {}, false],
    [{ end: null }, { endValue: "" }, true],
    [{ a: { b: "yes" } }, { end: "a.b" }, true],
    [{ end: "yes" }, { end: "" }, undefined],
  ])("%j with %j: %s", (record, more, expected) => {
    expect(readAll([record], more).hasEnded).toBe(expected);
  });
});

describe("a record fails the turn", () => {
  it.each([
    [{ error: "no" }, "no"],
    [{ error: { message: "no" } }, '{"message":"no"}'],
    [{ error: 0 }, "0"],
    [{ error: "" }, undefined],
    [{ error: null }, undefined],
    [{ error: false }, undefined],
    ["not a record", undefined],
  ])("%j: %s", (record, message) => {
    const { failure } = readAll([record]);
    expect(failure?.message).toBe(
      message === undefined ? undefined : `The program reported a failure: ${message}`,
    );
  });
});

describe("the conversation", () => {
  it.each<[readonly unknown[], string | undefined, string | undefined, boolean]>([
    [[{ id: "a" }], undefined, "a", false],
    [[{ id: 7 }], undefined, "7", false],
    [[{ id: "" }, { id: null }], undefined, undefined, false],
    [[{ id: "a" }, { id: "a" }], "a", "a", false],
    [[{ id: "b" }], "a", undefined, true],
    [[{ id: "a" }, { id: "b" }], undefined, "a", true],
  ])("of %j, asked for %s, is %s", (records, asked, nativeId, fails) => {
    const reader = readAll(records, {}, asked);
    expect([reader.nativeId, reader.failure !== undefined]).toEqual([nativeId, fails]);
  });
});

it("nothing is read after the end, or after a failure", () => {
  expect(readAll([{ text: "a", end: "yes" }, { text: "b" }, { error: "c" }])).toMatchObject({
    text: "a",
    failure: undefined,
  });
  expect(readAll([{ text: "a" }, { error: "c", text: "x" }, { end: "yes" }])).toMatchObject({
    text: "a",
    hasEnded: false,
  });
});

it("an answer and a line have bounds, and what follows the end has none", () => {
  const limits = { maxLineBytes: 100, maxBytes: 1_000, maxLines: 10 };
  const long = Buffer.from("x".repeat(101));
  expect(() => new Records(paths, undefined, limits).read(long)).toThrow(OutputLimitError);
  expect(() => new PlainText(100).read(long)).toThrow(OutputLimitError);
  const ended = new Records(paths, undefined, limits);
  ended.read(Buffer.from('{"end":"yes"}\n'));
  expect(ended.read(Buffer.alloc(10_000, "x"))).toBe("");
});

it.each<[unknown, string, unknown]>([
  [{ a: { b: [{ c: 1 }] } }, "a.b.0.c", 1],
  [{ a: "text" }, "a.length", undefined],
  [{}, "constructor.name", undefined],
  [{}, "__proto__", undefined],
  [[1], "length", 1],
  [{ a: null }, "a.b", undefined],
])("in %j, %s is %j", (record, path, expected) => {
  expect(valueAt(record as object, path)).toEqual(expected);
});
