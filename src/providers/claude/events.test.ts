import { describe, expect, test } from "vitest";
import { capture, capturedVersions } from "../../../test/providers/captures.js";
import type { ProviderEvent } from "../../turns/provider.js";
import { EventReader } from "./events.js";
import { type ClaudeRecord, parseRecord, parseResult } from "./records.js";

function readAll(records: readonly ClaudeRecord[]) {
  const reader = new EventReader();
  const events = records
    .filter((record) => record.type !== "result")
    .flatMap((record) => reader.read(record));
  return { reader, events };
}

const kinds = (events: readonly ProviderEvent[]) => [...new Set(events.map((event) => event.kind))];

describe.each(capturedVersions)("records of %s", (version) => {
  test("an answer is its deltas, and reasoning is not part of it", () => {
    const { records } = capture(version, "first turn");
    const { reader, events } = readAll(records);
    const text = events.map((event) => (event.kind === "text" ? event.text : "")).join("");
    const reasoning = events.map((event) => (event.kind === "reasoning" ? event.text : "")).join("");
    expect(reader.text).toBe('turns=1 history=["my name is Ada [[think Let me see.]]"]');
    expect(text).toBe(reader.text);
    expect(events.filter((event) => event.kind === "text").length).toBeGreaterThan(1);
    expect(reasoning).toBe("Let me see.");
    expect(reader.model).toMatch(/^claude-opus-/);
  });

  test("a tool call is one event, and its result another", () => {
    const { events } = readAll(capture(version, "tool allowed").records);
    expect(events.filter((event) => event.kind.startsWith("tool"))).toEqual([
      {
        kind: "tool-call",
        id: expect.stringMatching(/^toolu_/),
        name: "Bash",
        input: JSON.stringify({ command: "echo hello", description: "d" }),
      },
      { kind: "tool-result", id: expect.stringMatching(/^toolu_/), output: "hello", isError: false },
    ]);
  });

  test("a denied tool has an error as its result", () => {
    const { events } = readAll(capture(version, "tool denied").records);
    const result = events.find((event) => event.kind === "tool-result");
    expect(result).toMatchObject({ isError: true, output: expect.stringContaining("denied") });
  });

  test("a retry is a notice, and a report of a failure is no text", () => {
    const { reader, events } = readAll(capture(version, "retried").records);
    expect(events).toEqual([
      {
        kind: "notice",
        message: "The model's service failed (529 overloaded); retry 1 of 1 follows.",
      },
    ]);
    expect(reader.text).toBe("");
    expect(reader.failure).toBe("server_error");
  });

  test("an interrupted answer keeps what was streamed", () => {
    const { reader, events } = readAll(capture(version, "interrupted").records);
    expect(reader.text).not.toBe("");
    expect(events[0]?.kind).toBe("text");
  });
});

const message = (id: string, content: unknown[], more = {}) => ({
  type: "assistant",
  message: { id, model: "m", content },
  ...more,
});
const start = (id: string) => ({ type: "stream_event", event: { type: "message_start", message: { id } } });
const delta = (text: string) => ({
  type: "stream_event",
  event: { type: "content_block_delta", delta: { type: "text_delta", text } },
});

test("a message that came without deltas is taken as a whole", () => {
  const { events } = readAll([message("a", [{ type: "text", text: "whole" }])]);
  expect(events).toEqual([{ kind: "text", text: "whole" }]);
});

test("a message that came with deltas is not taken again", () => {
  const { reader } = readAll([start("a"), delta("once"), message("a", [{ type: "text", text: "once" }])]);
  expect(reader.text).toBe("once");
});

test("texts of two messages are kept apart by an empty line", () => {
  const { reader } = readAll([start("a"), delta("one"), start("b"), delta("two"), delta(" three")]);
  expect(reader.text).toBe("one\n\ntwo three");
});

test("an answer that breaks off is told", () => {
  const stop = { type: "stream_event", event: { type: "message_stop" }, abandoned_blocks: {} };
  const { reader, events } = readAll([
    start("a"),
    delta("half"),
    stop,
    message("b", [{ type: "text", text: "all" }]),
  ]);
  expect(reader.text).toBe("half\n\nall");
  expect(kinds(events)).toEqual(["text", "notice"]);
});

test("the text of a sub-agent is no answer, but its tools are told", () => {
  const sub = { parent_tool_use_id: "toolu_1" };
  const call = { type: "tool_use", id: "toolu_2", name: "Read", input: {} };
  const { events } = readAll([
    { ...delta("inner"), ...sub },
    message("a", [{ type: "text", text: "inner" }, call], sub),
    message("a", [call], sub),
  ]);
  expect(events).toEqual([{ kind: "tool-call", id: "toolu_2", name: "Read", input: "{}" }]);
});

test("the failure of a request is forgotten when another line is taken up", () => {
  const reader = new EventReader();
  reader.read({ type: "assistant", message: { model: "<synthetic>" }, error: "rate_limit" });
  expect(reader.failure).toBe("rate_limit");
  reader.read({ type: "system", subtype: "init" });
  expect(reader.failure).toBeUndefined();
});

test("unknown and odd records are no events", () => {
  const odd: ClaudeRecord[] = [
    { type: "command_lifecycle" },
    { type: "stream_event" },
    { type: "stream_event", event: { type: "content_block_delta", delta: null } },
    { type: "assistant", message: { content: "text" } },
    { type: "assistant" },
    { type: "user", message: { content: "text" } },
    { type: "system", subtype: "unheard_of" },
    {},
  ];
  expect(readAll(odd).events).toEqual([]);
});

test.each(["", "no record", "{", "[1]", "null", '"text"', '{"type":'])("the line %j is no record", (line) => {
  expect(parseRecord(line)).toBeUndefined();
});

test("a result with nothing in it is an error", () => {
  expect(parseResult({ type: "result" })).toEqual({
    isError: true,
    subtype: "",
    text: "",
    errors: [],
    usage: {},
    modelUsage: {},
  });
});
