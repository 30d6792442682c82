/** The control records that the CLI and its caller send each other beside the messages. */
import { asList, asRecord, asString, type ClaudeRecord } from "./records.js";

export type ControlRecord =
  /** The agent wants to use a tool and waits for the answer. */
  | { readonly kind: "question"; readonly id: string; readonly tool: string; readonly input: ClaudeRecord }
  /** It waits no more. */
  | { readonly kind: "withdrawal"; readonly id: string }
  /** It asks for something that is not done here. */
  | { readonly kind: "other request"; readonly id: string }
  | {
      readonly kind: "answer";
      readonly id: string;
      readonly isError: boolean;
      readonly queued: readonly string[];
      readonly dropped: readonly string[];
    };

/** The record as a control record; undefined if it is none. */
export function parseControl(record: ClaudeRecord): ControlRecord | undefined {
  if (record.type === "control_request") return parseRequest(record);
  if (record.type === "control_cancel_request") {
    return { kind: "withdrawal", id: asString(record.request_id) ?? "" };
  }
  if (record.type !== "control_response") return undefined;
  const response = asRecord(record.response) ?? {};
  const body = asRecord(response.response) ?? {};
  return {
    kind: "answer",
    id: asString(response.request_id) ?? "",
    isError: response.subtype !== "success",
    queued: texts(body.still_queued),
    dropped: texts(body.cancelled),
  };
}

/** Stops what the agent does. Without `cancel_queued` it would go on with the lines that wait. */
export function interruptLine(id: string): string {
  return line({
    type: "control_request",
    request_id: id,
    request: { subtype: "interrupt", cancel_queued: true },
  });
}

/** The first line of a process, if there is something to append to its system prompt. */
export function initializeLine(id: string, system: string): string {
  return line({
    type: "control_request",
    request_id: id,
    request: { subtype: "initialize", appendSystemPrompt: system },
  });
}

/** Allows this one use of the tool. */
export function allowLine(id: string, input: ClaudeRecord): string {
  return responseLine(id, { behavior: "allow", updatedInput: input });
}

/** @param message told to the agent */
export function denyLine(id: string, message: string): string {
  return responseLine(id, { behavior: "deny", message: message || "The use of this tool was refused." });
}

/** Without it the agent would wait for ever. */
export function unsupportedLine(id: string): string {
  const error = "not supported";
  return line({ type: "control_response", response: { subtype: "error", request_id: id, error } });
}

function parseRequest(record: ClaudeRecord): ControlRecord {
  const id = asString(record.request_id) ?? "";
  const request = asRecord(record.request) ?? {};
  const tool = asString(request.tool_name);
  if (request.subtype !== "can_use_tool" || tool === undefined) return { kind: "other request", id };
  return { kind: "question", id, tool, input: asRecord(request.input) ?? {} };
}

function responseLine(id: string, response: ClaudeRecord): string {
  return line({ type: "control_response", response: { subtype: "success", request_id: id, response } });
}

function line(record: ClaudeRecord): string {
  return `${JSON.stringify(record)}\n`;
}

function texts(value: unknown): readonly string[] {
  return asList(value).filter((each) => typeof each === "string");
}
