import { expect, test } from "vitest";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { codexCapture, paramsOf } from "../../../test/providers/codex-captures.js";
import { asRecord, asString } from "../json.js";
import {
  classifyCrash,
  classifyExecStart,
  classifyRequestError,
  classifyStart,
  classifyTurnError,
} from "./failures.js";

const turns = [
  // capture, code, retryable, model not asked
  ["status 400 bad", "INVALID_REQUEST", false, false],
  ["status 400 it is too long for the context window", "CONTEXT_OVERFLOW", false, false],
  ["status 401 no", "AUTH", false, false],
  ["status 403 no", "AUTH", false, false],
  ["status 404 no", "INVALID_REQUEST", false, false],
  ["status 413 no", "CONTEXT_OVERFLOW", false, false],
  ["status 429 slow down", "RATE_LIMITED", true, false],
  ["status 500 boom", "PROVIDER_ERROR", true, false],
  ["status 503 busy", "OVERLOADED", true, false],
  ["status 529 busy", "OVERLOADED", true, false],
  ["cut", "PROVIDER_ERROR", true, false],
  ["max_tokens", "PROVIDER_ERROR", false, false],
  ["connection refused", "PROVIDER_ERROR", true, false],
  ["no key", "AUTH", false, true],
] as const;

test.each(turns)("app server: %s is %s", (name, code, retryable, modelNotAsked) => {
  const [completed] = paramsOf(codexCapture("app-server", name), "turn/completed");
  const error = asRecord(asRecord(completed?.turn)?.error) ?? {};
  const failure = classifyTurnError(error);
  expect(failure).toMatchObject({ code: TurnErrorCode[code], retryable, modelNotAsked });
  expect(failure.message).not.toBe("");
});

test.each(turns)("exec: %s is %s", (name, code, retryable, modelNotAsked) => {
  const { records, code: exitCode } = codexCapture("exec", name);
  expect(exitCode).toBe(1);
  const error = asRecord(records.find(({ type }) => type === "turn.failed")?.error) ?? {};
  const failure = classifyTurnError(error);
  expect(failure).toMatchObject({ code: TurnErrorCode[code], retryable, modelNotAsked });
});

test("of a body that is passed on, the message is told", () => {
  const message = '{"error":{"message":"bad","type":"invalid_request_error"}}';
  expect(classifyTurnError({ message, codexErrorInfo: "other" }).message).toBe("bad");
});

test.each([
  ["unauthorized", "AUTH"],
  ["usageLimitExceeded", "RATE_LIMITED"],
  ["serverOverloaded", "OVERLOADED"],
  ["badRequest", "INVALID_REQUEST"],
  ["sessionBudgetExceeded", "PROVIDER_ERROR"],
  ["neverHeardOf", "PROVIDER_ERROR"],
  [{ responseStreamDisconnected: { httpStatusCode: null } }, "PROVIDER_ERROR"],
  [{ responseStreamConnectionFailed: { httpStatusCode: 529 } }, "OVERLOADED"],
  [undefined, "PROVIDER_ERROR"],
] as const)("the agent's own name %j is %s", (codexErrorInfo, code) => {
  expect(classifyTurnError({ message: "m", codexErrorInfo })).toMatchObject({ code: TurnErrorCode[code] });
});

test.each([
  ["unknown conversation", "NATIVE_SESSION_LOST", true],
  ["not loaded", "NATIVE_SESSION_LOST", true],
  ["another has the conversation", "UNAVAILABLE", true],
] as const)("a request that is refused: %s is %s", (name, code, retryable) => {
  const { records } = codexCapture("app-server", name);
  const message = asString(asRecord(records[0]?.error)?.message) ?? "";
  const failure = classifyRequestError(message);
  expect(failure).toMatchObject({ code: TurnErrorCode[code], retryable, modelNotAsked: true });
});

test.each([
  ["unknown conversation", "NATIVE_SESSION_LOST", true],
  ["unknown option", "UNAVAILABLE", false],
  ["unknown model provider", "UNAVAILABLE", false],
] as const)("exec that begins no turn: %s is %s", (name, code, retryable) => {
  const { stderr, ...exit } = codexCapture("exec", name);
  const failure = classifyExecStart(exit, stderr);
  expect(failure).toMatchObject({ code: TurnErrorCode[code], retryable, modelNotAsked: true });
});

test("what a model's service has said is not judged", () => {
  const message = "unexpected status 500 Internal Server Error: no rollout found for thread id 1";
  const failure = classifyTurnError({ message, codexErrorInfo: "other" });
  expect(failure).toMatchObject({ code: TurnErrorCode.PROVIDER_ERROR, modelNotAsked: false });
});

test.each([
  [{ code: 3, signal: null }, "a\nb\n", "The agent ended with code 3 without an answer. It said: b"],
  [{ code: null, signal: "SIGKILL" }, "", "The agent was ended by SIGKILL without an answer."],
  [undefined, "", "The agent could not be ended without an answer."],
] as const)("an end in a turn is a crash: %j", (exit, errorOutput, message) => {
  expect(classifyCrash(exit, errorOutput)).toMatchObject({
    code: TurnErrorCode.CRASHED,
    message,
    modelNotAsked: false,
  });
});

test("exec that a signal ended has crashed; one that could not begin is unavailable", () => {
  expect(classifyExecStart({ code: null, signal: "SIGKILL" }, "").code).toBe(TurnErrorCode.CRASHED);
  const advice = "error: unexpected argument '--x' found\n\nUsage: codex\n";
  expect(classifyStart({ code: 2, signal: null }, advice).message).toContain("unexpected argument '--x'");
});
