import { describe, expect, test } from "vitest";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { agentErrorOf, classifyAgentError, classifyExit, isSessionLost } from "./failures.js";

/** Answers of real agents to a prompt. */
const answers = [
  [
    "gemini 0.61.0",
    '{"code":401,"message":"{\\"error\\":{\\"code\\":401,\\"message\\":\\"no\\",\\"status\\":\\"UNAUTHENTICATED\\"}}"}',
    "AUTH",
    false,
    "no",
  ],
  ["gemini 0.61.0", '{"code":429,"message":"slow down"}', "RATE_LIMITED", true, "slow down"],
  [
    "gemini 0.61.0",
    '{"code":500,"message":"{\\"error\\":{\\"code\\":500,\\"message\\":\\"broken\\",\\"status\\":\\"INTERNAL\\"}}"}',
    "PROVIDER_ERROR",
    true,
    "broken",
  ],
  ["gemini 0.61.0, cut", '{"code":500,"message":"terminated"}', "PROVIDER_ERROR", true, "terminated"],
  [
    "gemini 0.61.0",
    '{"code":529,"message":"{\\"error\\":{\\"code\\":529,\\"message\\":\\"busy\\",\\"status\\":\\"INTERNAL\\"}}"}',
    "OVERLOADED",
    true,
    "busy",
  ],
  [
    "gemini 0.61.0",
    '{"code":400,"message":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"bad\\",\\"status\\":\\"INVALID_ARGUMENT\\"}}"}',
    "INVALID_REQUEST",
    false,
    "bad",
  ],
  [
    "gemini 0.61.0",
    '{"code":-32602,"message":"Session not found: x"}',
    "INVALID_REQUEST",
    false,
    "Session not found: x",
  ],
  [
    "codex-acp 2.6.0",
    '{"code":-32000,"message":"Authentication required"}',
    "AUTH",
    false,
    "Authentication required",
  ],
  [
    "claude-agent-acp 0.49.0",
    '{"code":-32603,"message":"Internal error","data":{"errorKind":"authentication_failed"}}',
    "AUTH",
    false,
    "Internal error",
  ],
] as const;

test.each(answers)("%s: %s", (_, error, code, retryable, message) => {
  expect(classifyAgentError(JSON.parse(error), "prompting")).toEqual({
    code: TurnErrorCode[code],
    retryable,
    message,
    modelNotAsked: false,
  });
});

test.each([
  [{ code: 413, message: "too much" }, "CONTEXT_OVERFLOW", false],
  [{ code: 400, message: "The input token count (9) exceeds the maximum" }, "CONTEXT_OVERFLOW", false],
  [{ code: -32603, message: "Internal error", data: { status: 429 } }, "RATE_LIMITED", true],
  [{ code: -32603, message: "Internal error", data: { details: "fetch failed" } }, "PROVIDER_ERROR", true],
  [{ code: -32601, message: "Method not found" }, "PROVIDER_ERROR", false],
  [{ code: 404, message: "no such model" }, "INVALID_REQUEST", false],
] as const)("%j", (error, code, retryable) => {
  expect(classifyAgentError(error, "prompting")).toMatchObject({ code: TurnErrorCode[code], retryable });
});

test("what fails before the prompt has asked no model", () => {
  expect(classifyAgentError({ code: -32603, message: "x" }, "opening")).toMatchObject({
    modelNotAsked: true,
  });
});

describe("an unknown conversation", () => {
  test.each([
    '{"code":-32002,"message":"Resource not found: x","data":{"uri":"x"}}',
    '{"code":-32002,"message":"Resource not found","data":{"sessionId":"x"}}',
    '{"code":-32603,"message":"Internal error","data":{"details":"Session not found"}}',
    '{"code":-32603,"message":"Internal error","data":{"details":"no rollout found for thread id x"}}',
    '{"code":-32603,"message":"Internal error","data":{"details":"Invalid session identifier \\"x\\".\\n  Searched"}}',
    '{"code":-32603,"message":"Internal error","data":{"details":"No previous sessions found for this project."}}',
  ])("%s", (error) => {
    expect(isSessionLost(JSON.parse(error))).toBe(true);
  });

  test.each([
    '{"code":-32603,"message":"Internal error"}',
    '{"code":-32000,"message":"Authentication required"}',
    '{"code":-32603,"message":"Internal error","data":{"details":"ENOSPC: no space left on device"}}',
    '{"code":-32603,"message":"Internal error","data":{"details":"file not found"}}',
  ])("is not meant by %s", (error) => {
    expect(isSessionLost(JSON.parse(error))).toBe(false);
  });
});

test("an exit before the first answer says that the agent cannot be run", () => {
  const exit = { code: 127, signal: null };
  expect(classifyExit(exit, "sh: x: not found\n", "starting")).toMatchObject({
    code: TurnErrorCode.UNAVAILABLE,
    message: expect.stringContaining("sh: x: not found"),
    modelNotAsked: true,
  });
  expect(classifyExit(exit, "", "opening")).toMatchObject({
    code: TurnErrorCode.CRASHED,
    modelNotAsked: true,
  });
  expect(classifyExit({ code: null, signal: "SIGKILL" }, "", "prompting")).toMatchObject({
    code: TurnErrorCode.CRASHED,
    message: expect.stringContaining("SIGKILL"),
    modelNotAsked: false,
  });
});

test("only an error of the protocol is the agent's", () => {
  const error = Object.assign(new Error("no"), { name: "RequestError", code: 401, data: { a: 1 } });
  expect(agentErrorOf(error)).toEqual({ code: 401, message: "no", data: { a: 1 } });
  expect(agentErrorOf(new Error("ACP connection closed"))).toBeUndefined();
  expect(agentErrorOf(Object.assign(new Error("x"), { code: "EPIPE" }))).toBeUndefined();
});
