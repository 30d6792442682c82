import { describe, expect, it } from "vitest";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { classifyError, errorIn, errorOf, retryAfterOf } from "./failures.js";

const now = Date.parse("2026-01-01T00:00:00Z");

describe("an error in a stream is judged by its code", () => {
  it.each<[Record<string, unknown>, keyof typeof TurnErrorCode, boolean]>([
    [{ code: "rate_limit_exceeded", message: "m" }, "RATE_LIMITED", true],
    [{ code: "insufficient_quota", message: "m" }, "RATE_LIMITED", false],
    [{ code: "context_length_exceeded", message: "m" }, "CONTEXT_OVERFLOW", false],
    [{ code: "server_is_overloaded", message: "m" }, "OVERLOADED", true],
    [{ code: "server_error", message: "m" }, "PROVIDER_ERROR", true],
    [{ code: "invalid_prompt", message: "m" }, "INVALID_REQUEST", false],
    [{ code: "invalid_api_key", message: "m" }, "AUTH", false],
    [{ code: 529, message: "m" }, "OVERLOADED", true],
    [{ code: 400, message: "exceeds the context window" }, "CONTEXT_OVERFLOW", false],
    [{ message: "the connection's context length was lost" }, "PROVIDER_ERROR", true],
    [{}, "PROVIDER_ERROR", true],
  ])("%j", (error, code, retryable) => {
    const failure = classifyError(errorIn({ error }) ?? { message: "" });
    expect(failure).toMatchObject({ code: TurnErrorCode[code], retryable, modelNotAsked: false });
  });
});

describe("an error is found", () => {
  it.each([
    ['{"error":{"message":"m","code":"c","type":"t"}}', { message: "m", code: "c", type: "t" }],
    ['{"error":{"message":"m","code":null}}', { message: "m" }],
    ['{"error":"m"}', { message: "m" }],
    ['{"message":"m","type":"t"}', { message: "m", type: "t" }],
    ['{"detail":"m"}', { message: "m" }],
    ["plain words", { message: "plain words" }],
    ["[1]", { message: "[1]" }],
    ["", { message: "" }],
  ])("in %s", (body, expected) => {
    expect(errorOf(418, {}, body, now)).toEqual({ status: 418, ...expected });
  });
});

it.each([
  [{}, undefined],
  [{ "retry-after": "2" }, 2_000],
  [{ "retry-after": "0.5" }, 500],
  [{ "retry-after": "Thu, 01 Jan 2026 00:00:05 GMT" }, 5_000],
  [{ "retry-after": "Thu, 01 Jan 2025 00:00:05 GMT" }, 0],
  [{ "retry-after": "soon" }, undefined],
  [{ "retry-after": "-1" }, undefined],
  [{ "retry-after-ms": "20", "retry-after": "9" }, 20],
  [{ "retry-after-ms": "x", "retry-after": "9" }, 9_000],
])("the time to wait is read from %j", (headers, expected) => {
  expect(retryAfterOf(headers, now)).toBe(expected);
});
