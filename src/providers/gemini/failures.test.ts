import { describe, expect, test } from "vitest";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { geminiCapture } from "../../../test/providers/gemini-captures.js";
import { classifyFailure } from "./failures.js";

function classify(name: string) {
  const { code, signal, stderr, records } = geminiCapture(name);
  const result = records.find(({ type }) => type === "result");
  return classifyFailure({
    exit: { code, signal },
    errorOutput: stderr,
    begun: records.some(({ type }) => type === "init"),
    ...(result === undefined ? {} : { result }),
  });
}

describe("captured runs of 0.61.0", () => {
  test.each([
    ["unknown id", "NATIVE_SESSION_LOST", true, true],
    ["id in use", "ID_IN_USE", false, true],
    ["empty", "INVALID_REQUEST", false, true],
    ["unknown option", "UNAVAILABLE", false, true],
    ["not trusted", "UNAVAILABLE", false, true],
    ["no key", "AUTH", false, true],
    ["status 400", "INVALID_REQUEST", false, false],
    ["status 401", "AUTH", false, false],
    ["status 429", "RATE_LIMITED", true, false],
    ["status 500", "PROVIDER_ERROR", true, false],
    ["status 529", "OVERLOADED", true, false],
    ["cut", "PROVIDER_ERROR", true, false],
    ["SIGTERM", "CRASHED", true, false],
    ["SIGINT", "CRASHED", true, false],
  ] as const)("%s: %s", (name, code, retryable, modelNotAsked) => {
    expect(classify(name)).toMatchObject({ code: TurnErrorCode[code], retryable, modelNotAsked });
  });

  test("the message is the model service's", () => {
    expect(classify("status 400").message).toBe("bad");
    expect(classify("cut").message).toBe("terminated");
  });
});

test("what a tool may have written on the standard error is no refusal", () => {
  const errorOutput = 'Error resuming session: Invalid session identifier "x".';
  const failure = classifyFailure({ exit: { code: 42, signal: null }, errorOutput, begun: true });
  expect(failure).toMatchObject({ code: TurnErrorCode.CRASHED, modelNotAsked: false });
});
