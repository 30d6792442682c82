import { expect, test } from "vitest";
import { geminiCapture } from "../../../test/providers/gemini-captures.js";
import { EventReader } from "./events.js";
import { modelOf, usageOf } from "./usage.js";

function read(name: string) {
  const reader = new EventReader();
  const events = geminiCapture(name).records.flatMap((record) => reader.read(record));
  return { events, text: reader.text };
}

test("a captured answer is its pieces", () => {
  const { events, text } = read("resumed");
  expect(text).toBe('turns=2 history=["hello","and now?"]');
  expect(events.every(({ kind }) => kind === "text")).toBe(true);
});

test("a captured tool call has its result", () => {
  const { events } = read("tool");
  expect(events.slice(0, 2)).toEqual([
    expect.objectContaining({ kind: "tool-call", name: "list_directory", input: '{"dir_path":"."}' }),
    expect.objectContaining({ kind: "tool-result", isError: false }),
  ]);
});

test("a complaint stands until something follows it", () => {
  const reader = new EventReader();
  const said = { type: "message", role: "assistant", content: "half", delta: true };
  reader.read(said);
  expect(reader.complaint).toBeUndefined();
  const loop = { type: "error", severity: "warning", message: "Loop detected, stopping execution" };
  expect(reader.read(loop)).toEqual([{ kind: "notice", message: loop.message }]);
  expect(reader.complaint).toBe(loop.message);
  reader.read(said);
  expect(reader.complaint).toBeUndefined();
});

test("usage is the run's, each token in one field", () => {
  const result = geminiCapture("first").records.at(-1) ?? {};
  const usage = usageOf(result);
  expect(usage).toMatchObject({
    cacheReadTokens: 3,
    cacheWriteTokens: 0,
    outputTokens: 11,
    reasoningTokens: 0,
  });
  expect(usageOf({ stats: { input_tokens: 10, cached: 4, output_tokens: 1 } })).toMatchObject({
    inputTokens: 6,
  });
  expect(usageOf({})).toBeUndefined();
  expect(modelOf(result)).toBe("gemini-2.5-flash");
});
