import { expect, test } from "vitest";
import { EventReader } from "./events.js";
import { describeQuestion, optionFor } from "./permissions.js";

const read = (...updates: object[]) => {
  const reader = new EventReader();
  return { reader, events: updates.flatMap((update) => reader.read(update as Record<string, unknown>)) };
};
const text = (said: string) => ({
  sessionUpdate: "agent_message_chunk",
  content: { type: "text", text: said },
});

test("text around a tool call is set apart, and other text is not", () => {
  const { reader, events } = read(
    text("a"),
    text("b"),
    { sessionUpdate: "tool_call", toolCallId: "1", title: "T", status: "completed" },
    text("c"),
    text(""),
  );
  expect(reader.text).toBe("ab\n\nc");
  expect(events.flatMap((event) => (event.kind === "text" ? [event.text] : []))).toEqual(["a", "b", "\n\nc"]);
});

test("a tool is called when its input is known, and has one result", () => {
  const update = (fields: object) => ({ sessionUpdate: "tool_call_update", toolCallId: "1", ...fields });
  const done = update({ status: "failed", rawOutput: { error: "no" } });
  const { events } = read(
    { sessionUpdate: "tool_call", toolCallId: "1", title: "Read", status: "pending", rawInput: {} },
    update({ rawInput: { path: "a" } }),
    update({ status: "in_progress" }),
    done,
    done,
  );
  expect(events).toEqual([
    { kind: "tool-call", id: "1", name: "Read", input: '{"path":"a"}' },
    { kind: "tool-result", id: "1", output: '{"error":"no"}', isError: true },
  ]);
});

test("gemini tells only the result of a tool that it has asked about", () => {
  const reader = new EventReader();
  const asked = { toolCallId: "w", title: "Writing to a.txt", kind: "edit", status: "pending", content: [] };
  const diff = { type: "diff", path: "/w/a.txt", oldText: "", newText: "hi" };
  const done = { sessionUpdate: "tool_call_update", toolCallId: "w", status: "completed", content: [diff] };
  expect([...reader.readAsked(asked), ...reader.read(done)]).toEqual([
    { kind: "tool-call", id: "w", name: "Writing to a.txt", input: '{"kind":"edit"}' },
    { kind: "tool-result", id: "w", output: "[changed /w/a.txt]", isError: false },
  ]);
});

test.each([
  { sessionUpdate: "available_commands_update", availableCommands: [] },
  { sessionUpdate: "user_message_chunk", content: { type: "text", text: "replayed" } },
  { sessionUpdate: "plan", entries: [] },
  { sessionUpdate: "something_new" },
  {},
  { sessionUpdate: "agent_message_chunk", content: { type: "image", data: "" } },
  { sessionUpdate: "usage_update", cost: { amount: 1, currency: "EUR" } },
])("%j is no event", (update) => {
  const { reader, events } = read(update);
  expect([events, reader.text, reader.costUsd]).toEqual([[], "", undefined]);
});

/** As gemini 0.61.0 offers them. */
const options = [
  { optionId: "proceed_always", name: "Allow for this session", kind: "allow_always" },
  { optionId: "proceed_once", name: "Allow", kind: "allow_once" },
  { optionId: "cancel", name: "Reject", kind: "reject_once" },
];

test("an answer is for once", () => {
  expect([optionFor({ options }, true), optionFor({ options }, false)]).toEqual(["proceed_once", "cancel"]);
  expect(optionFor({ options: options.slice(0, 1) }, true)).toBeUndefined();
  expect(optionFor({}, false)).toBeUndefined();
});

test("a question says what it is about", () => {
  const toolCall = { toolCallId: "1", title: "rm x", kind: "execute", rawInput: { command: "rm x" } };
  expect(describeQuestion({ toolCall })).toEqual({
    tool: "rm x",
    input: '{"kind":"execute","rawInput":{"command":"rm x"}}',
  });
});
