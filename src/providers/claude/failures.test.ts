import { expect, test } from "vitest";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { capture, capturedVersions } from "../../../test/providers/captures.js";
import { EventReader } from "./events.js";
import { classifyFailure } from "./failures.js";
import { type ClaudeRecord, parseResult } from "./records.js";

const table = [
  // capture, code, retryable, model not asked
  ["unknown conversation", "NATIVE_SESSION_LOST", true, true],
  ["id in use", "ID_IN_USE", false, true],
  ["id that is no uuid", "INVALID_REQUEST", false, true],
  ["command of its own", "INVALID_REQUEST", false, true],
  ["no key", "AUTH", false, false],
  ["status 401", "AUTH", false, false],
  ["status 403", "AUTH", false, false],
  ["status 400", "INVALID_REQUEST", false, false],
  ["status 404", "INVALID_REQUEST", false, false],
  ["status prompt too long", "CONTEXT_OVERFLOW", false, false],
  ["status 413", "CONTEXT_OVERFLOW", false, false],
  ["status 429", "RATE_LIMITED", true, false],
  ["status 500", "PROVIDER_ERROR", true, false],
  ["status 529", "OVERLOADED", true, false],
  ["retried", "OVERLOADED", true, false],
  ["resumed turn that fails", "OVERLOADED", true, false],
  ["connection refused", "PROVIDER_ERROR", true, false],
  ["connection cut", "PROVIDER_ERROR", true, false],
  ["turn limit", "PROVIDER_ERROR", false, false],
  ["interrupted", "CRASHED", true, false],
] as const;

test.each(capturedVersions.flatMap((version) => table.map((row) => [version, ...row] as const)))(
  "%s: %s is %s",
  (version, name, code, retryable, modelNotAsked) => {
    const { records, stderr, ...exit } = capture(version, name);
    const reader = new EventReader();
    for (const record of records) reader.read(record);
    const terminal = records.find((record) => record.type === "result");
    const failure = classifyFailure({
      exit,
      errorOutput: stderr,
      ...(terminal === undefined ? {} : { result: parseResult(terminal) }),
      ...(reader.failure === undefined ? {} : { reported: reader.failure }),
    });
    expect(failure).toMatchObject({ code: TurnErrorCode[code], retryable, modelNotAsked });
    expect(failure.message).not.toBe("");
  },
);

const exit = { code: 0, signal: null };

test.each([
  [{ code: 1, signal: null }, "", "The agent ended with code 1 without an answer."],
  [{ code: 0, signal: null }, "a\nb\n", "The agent ended with code 0 without an answer. It said: b"],
  [{ code: null, signal: "SIGKILL" }, "", "The agent was ended by SIGKILL without an answer."],
  [undefined, "", "The agent could not be ended without an answer."],
] as const)("an end without a result is a crash: %j", (how, errorOutput, message) => {
  const failure = classifyFailure({ errorOutput, ...(how === undefined ? {} : { exit: how }) });
  expect(failure).toMatchObject({ code: TurnErrorCode.CRASHED, message, modelNotAsked: false });
});

test("an answer with a bad exit is a crash", () => {
  const result = parseResult({ is_error: false, num_turns: 1, result: "answer" });
  const failure = classifyFailure({ exit: { code: 7, signal: null }, errorOutput: "", result });
  expect(failure).toMatchObject({ code: TurnErrorCode.CRASHED, modelNotAsked: false });
});

test("what a model or a tool has said is not judged", () => {
  const lost = "No conversation found with session ID: 11111111-1111-4111-8111-111111111111";
  const fields: ClaudeRecord = {
    is_error: true,
    num_turns: 3,
    subtype: "success",
    result: lost,
    errors: [lost],
  };
  const failure = classifyFailure({ exit, errorOutput: lost, result: parseResult(fields) });
  expect(failure).toMatchObject({ code: TurnErrorCode.PROVIDER_ERROR, modelNotAsked: false });
});

test("a launcher without its executable is unavailable", () => {
  const errorOutput = "Error: claude native binary not installed.\n\nmore\n";
  const failure = classifyFailure({ exit: { code: 1, signal: null }, errorOutput });
  expect(failure).toMatchObject({ code: TurnErrorCode.UNAVAILABLE, modelNotAsked: true });
});
