import { expect, test } from "vitest";
import { codexCapture } from "../../../test/providers/codex-captures.js";
import { asRecord, asString } from "../json.js";
import { EventReader } from "./events.js";

function read(mode: "exec" | "app-server", name: string) {
  const reader = new EventReader();
  const events = codexCapture(mode, name).records.flatMap((record) =>
    mode === "exec"
      ? reader.readExec(record)
      : reader.read(asString(record.method) ?? "", asRecord(record.params) ?? {}),
  );
  const text = events.map((event) => (event.kind === "text" ? event.text : "")).join("");
  expect(reader.text).toBe(text);
  return { events, text };
}

test("the text of the app server comes in deltas, and the whole message not again", () => {
  const { events, text } = read("app-server", "first turn");
  expect(text).toBe('turns=1 history=["[[think Hm.]] hello"]');
  expect(events.filter(({ kind }) => kind === "text").length).toBeGreaterThan(1);
});

test.each(["exec", "app-server"] as const)("%s: reasoning comes once", (mode) => {
  const { events } = read(mode, "first turn");
  const reasoning = events.flatMap((event) => (event.kind === "reasoning" ? [event.text] : []));
  expect(reasoning.join("")).toBe("Hm.");
});

test.each(["exec", "app-server"] as const)("%s: a tool is called once and has one result", (mode) => {
  const { events } = read(mode, "tool");
  const tools = events.filter(({ kind }) => kind.startsWith("tool-"));
  expect(tools).toMatchObject([
    { kind: "tool-call", name: "commandExecution", input: expect.stringContaining("echo hi") },
    { kind: "tool-result", output: "hi\n", isError: false },
  ]);
});

test("a patch is a tool with its changes", () => {
  const { events } = read("app-server", "asks for a patch");
  expect(events.find(({ kind }) => kind === "tool-call")).toMatchObject({
    name: "fileChange",
    input: expect.stringContaining("b.txt"),
  });
});

test("two messages are set apart, and one without deltas is taken whole", () => {
  const reader = new EventReader();
  const delta = (itemId: string, text: string) =>
    reader.read("item/agentMessage/delta", { itemId, delta: text });
  delta("a", "one");
  delta("a", "!");
  delta("b", "two");
  reader.read("item/completed", { item: { type: "agentMessage", id: "b", text: "two" } });
  reader.read("item/completed", { item: { type: "agentMessage", id: "c", text: "three" } });
  expect(reader.text).toBe("one!\n\ntwo\n\nthree");
});

test.each([
  [
    { type: "commandExecution", id: "1", status: "declined", aggregatedOutput: null, exitCode: null },
    { output: "", isError: true },
  ],
  [
    { type: "command_execution", id: "1", status: "completed", aggregated_output: "x", exit_code: 3 },
    { output: "x", isError: true },
  ],
  [
    {
      type: "mcpToolCall",
      id: "1",
      server: "s",
      tool: "t",
      status: "completed",
      result: { content: [{ type: "text", text: "said" }] },
    },
    { output: "said", isError: false },
  ],
  [
    { type: "mcpToolCall", id: "1", server: "s", tool: "t", status: "failed", error: { message: "no" } },
    { output: "no", isError: true },
  ],
])("the result of %j", (item, expected) => {
  const events = new EventReader().read("item/completed", { item });
  expect(events).toMatchObject([{ kind: "tool-call" }, { kind: "tool-result", ...expected }]);
});

test("a retry and a warning are notices, and the last failure is none", () => {
  const reader = new EventReader();
  const error = { message: "Reconnecting... 1/5", additionalDetails: "connection reset" };
  expect(reader.read("error", { error, willRetry: true })).toMatchObject([
    { kind: "notice", message: expect.stringContaining("connection reset") },
  ]);
  expect(reader.read("error", { error, willRetry: false })).toEqual([]);
  expect(reader.read("warning", { message: "careful" })).toEqual([{ kind: "notice", message: "careful" }]);
  expect(reader.read("something/else", { item: null })).toEqual([]);
});
