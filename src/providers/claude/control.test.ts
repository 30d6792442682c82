import { describe, expect, test } from "vitest";
import { allowLine, denyLine, interruptLine, parseControl, unsupportedLine } from "./control.js";

describe("a control record", () => {
  test.each<readonly [string, Record<string, unknown>, unknown]>([
    [
      "is a question",
      {
        type: "control_request",
        request_id: "q",
        request: {
          subtype: "can_use_tool",
          tool_name: "Bash",
          input: { command: "make" },
          permission_suggestions: [{ type: "setMode", mode: "acceptEdits" }],
        },
      },
      { kind: "question", id: "q", tool: "Bash", input: { command: "make" } },
    ],
    [
      "is a question about a tool without input",
      { type: "control_request", request_id: "q", request: { subtype: "can_use_tool", tool_name: "List" } },
      { kind: "question", id: "q", tool: "List", input: {} },
    ],
    [
      "asks for something else",
      { type: "control_request", request_id: "h", request: { subtype: "hook_callback" } },
      { kind: "other request", id: "h" },
    ],
    ["asks for nothing that is known", { type: "control_request" }, { kind: "other request", id: "" }],
    [
      "takes a question back",
      { type: "control_cancel_request", request_id: "q" },
      { kind: "withdrawal", id: "q" },
    ],
    [
      "answers an interrupt",
      {
        type: "control_response",
        response: {
          subtype: "success",
          request_id: "i",
          response: { still_queued: ["a", 1], cancelled: ["b"] },
        },
      },
      { kind: "answer", id: "i", isError: false, queued: ["a"], dropped: ["b"] },
    ],
    [
      "answers an interrupt, in an older version",
      { type: "control_response", response: { subtype: "success", request_id: "i" } },
      { kind: "answer", id: "i", isError: false, queued: [], dropped: [] },
    ],
    [
      "refuses a request",
      { type: "control_response", response: { subtype: "error", request_id: "i", error: "no" } },
      { kind: "answer", id: "i", isError: true, queued: [], dropped: [] },
    ],
    ["is none", { type: "assistant", message: {} }, undefined],
  ])("%s", (_, record, expected) => {
    expect(parseControl(record)).toEqual(expected);
  });
});

test.each<readonly [string, unknown]>([
  [
    interruptLine("i"),
    { type: "control_request", request_id: "i", request: { subtype: "interrupt", cancel_queued: true } },
  ],
  [
    allowLine("q", { command: "a\nb" }),
    {
      type: "control_response",
      response: {
        subtype: "success",
        request_id: "q",
        response: { behavior: "allow", updatedInput: { command: "a\nb" } },
      },
    },
  ],
  [
    denyLine("q", "no"),
    {
      type: "control_response",
      response: { subtype: "success", request_id: "q", response: { behavior: "deny", message: "no" } },
    },
  ],
  [
    unsupportedLine("h"),
    { type: "control_response", response: { subtype: "error", request_id: "h", error: "not supported" } },
  ],
])("%s is one line", (line, expected) => {
  expect(line.indexOf("\n")).toBe(line.length - 1);
  expect(JSON.parse(line)).toEqual(expected);
});
