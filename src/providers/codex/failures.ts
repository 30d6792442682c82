/**
 * What a failed turn was. Judged by what the agent itself says about it, in
 * the fields for failures and on the standard error; never by what a model or
 * a tool has said.
 */
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Failure } from "../ending.js";
import { asNumber, asRecord, asString, type JsonRecord, parseRecord } from "../json.js";
import type { ChildExit } from "../process.js";

type Verdict = readonly [code: TurnErrorCode, retryable: boolean];

const { AUTH, RATE_LIMITED, OVERLOADED, CONTEXT_OVERFLOW, INVALID_REQUEST, PROVIDER_ERROR } = TurnErrorCode;

/** By `codexErrorInfo`, where that is a name. */
const named = new Map<string, Verdict>([
  ["contextWindowExceeded", [CONTEXT_OVERFLOW, false]],
  ["sessionBudgetExceeded", [PROVIDER_ERROR, false]],
  ["usageLimitExceeded", [RATE_LIMITED, true]],
  ["rateLimitExceeded", [RATE_LIMITED, true]],
  ["flexUnavailable", [OVERLOADED, true]],
  ["serverOverloaded", [OVERLOADED, true]],
  ["policyCapacityUnavailable", [OVERLOADED, true]],
  ["internalServerError", [PROVIDER_ERROR, true]],
  ["unauthorized", [AUTH, false]],
  ["badRequest", [INVALID_REQUEST, false]],
  ["modelNotFound", [INVALID_REQUEST, false]],
  ["cyberPolicy", [INVALID_REQUEST, false]],
  ["misalignmentPolicyViolation", [INVALID_REQUEST, false]],
  ["inferenceHookDenied", [INVALID_REQUEST, false]],
  ["tooManyDenials", [PROVIDER_ERROR, false]],
  ["sandboxError", [PROVIDER_ERROR, false]],
]);

/** By what the message begins with, where there is nothing else to go by. */
const worded: readonly { readonly pattern: RegExp; readonly verdict: Verdict }[] = [
  { pattern: /^Codex ran out of room in the model's context window/, verdict: [CONTEXT_OVERFLOW, false] },
  { pattern: /^Incomplete response returned, reason: max_output_tokens/, verdict: [PROVIDER_ERROR, false] },
];

/** Said before any model is asked. */
const refusals: readonly {
  readonly pattern: RegExp;
  readonly code: TurnErrorCode;
  readonly retryable: boolean;
}[] = [
  {
    pattern: /no rollout found for thread id|thread not found: |invalid (?:session|thread) id: /,
    code: TurnErrorCode.NATIVE_SESSION_LOST,
    retryable: true,
  },
  // Another process has the conversation; it may be let go.
  { pattern: /already has an active writer/, code: TurnErrorCode.UNAVAILABLE, retryable: true },
];

/** What a turn says that has no key for its model. */
const noKey = /^Missing environment variable: /;

/** The `error` of a turn of the app server that failed, or the failure that `codex exec` reports. */
export function classifyTurnError(error: JsonRecord): Failure {
  const text = asString(error.message) || "The agent failed.";
  if (noKey.test(text)) return { code: AUTH, message: text, retryable: false, modelNotAsked: true };
  const body = asRecord(parseRecord(text)?.error);
  const info = error.codexErrorInfo;
  const [code, retryable] =
    named.get(asString(info) ?? "") ??
    byStatus(statusIn(info) ?? statusOf(text)) ??
    worded.find(({ pattern }) => pattern.test(text))?.verdict ??
    // The body of an answer with status 400 is all that is told of it.
    (body === undefined ? ([PROVIDER_ERROR, true] as const) : ([INVALID_REQUEST, false] as const));
  return { code, message: asString(body?.message) ?? text, retryable, modelNotAsked: false };
}

/** An error response of the app server, before a turn has begun. */
export function classifyRequestError(message: string): Failure {
  return classifyRefusal(message) ?? { code: PROVIDER_ERROR, message, retryable: false, modelNotAsked: true };
}

/** The agent does not know the conversation. */
export function isLoss({ code }: Failure): boolean {
  return code === TurnErrorCode.NATIVE_SESSION_LOST;
}

/** A process that ended before it took a turn: its arguments or its configuration are wrong. */
export function classifyStart(exit: ChildExit | undefined, errorOutput: string): Failure {
  const message = `The agent ${describeExit(exit)} at its start.${lastErrorLine(errorOutput)}`;
  return { code: TurnErrorCode.UNAVAILABLE, message, retryable: false, modelNotAsked: true };
}

/** A process that ended in a turn. */
export function classifyCrash(exit: ChildExit | undefined, errorOutput: string): Failure {
  const message = `The agent ${describeExit(exit)} without an answer.${lastErrorLine(errorOutput)}`;
  return { code: TurnErrorCode.CRASHED, message, retryable: true, modelNotAsked: false };
}

/** `codex exec` that ended before it began a turn. */
export function classifyExecStart(exit: ChildExit | undefined, errorOutput: string): Failure {
  const line = lastLine(errorOutput);
  const refusal = classifyRefusal(line);
  if (refusal !== undefined) return refusal;
  return exit?.code === 1 || exit?.code === 2
    ? classifyStart(exit, errorOutput)
    : classifyCrash(exit, errorOutput);
}

function classifyRefusal(message: string): Failure | undefined {
  const found = refusals.find(({ pattern }) => pattern.test(message));
  if (found === undefined) return undefined;
  return { code: found.code, message, retryable: found.retryable, modelNotAsked: true };
}

/** Of `{ httpConnectionFailed: { httpStatusCode: 401 } }` and its like. */
function statusIn(info: unknown): number | undefined {
  const [details] = Object.values(asRecord(info) ?? {});
  return asNumber(asRecord(details)?.httpStatusCode);
}

function statusOf(text: string): number | undefined {
  const status = /^(?:unexpected status|exceeded retry limit, last status:) (\d{3})\b/.exec(text)?.[1];
  return status === undefined ? undefined : Number(status);
}

function byStatus(status: number | undefined): Verdict | undefined {
  if (status === undefined || status < 400) return undefined;
  if (status === 401 || status === 403) return [AUTH, false];
  if (status === 413) return [CONTEXT_OVERFLOW, false];
  if (status === 429) return [RATE_LIMITED, true];
  if (status === 503 || status === 529) return [OVERLOADED, true];
  return status === 408 || status >= 500 ? [PROVIDER_ERROR, true] : [INVALID_REQUEST, false];
}

function describeExit(exit: ChildExit | undefined): string {
  if (exit === undefined) return "could not be ended";
  return exit.signal === null ? `ended with code ${exit.code}` : `was ended by ${exit.signal}`;
}

function lastErrorLine(errorOutput: string): string {
  const line = lastLine(errorOutput);
  return line === "" ? "" : ` It said: ${line.slice(0, 500)}`;
}

/** A complaint about an argument is followed by advice. */
function lastLine(errorOutput: string): string {
  const lines = errorOutput.trim().split("\n");
  return lines.findLast((line) => /^error: /i.test(line)) ?? lines.at(-1) ?? "";
}
