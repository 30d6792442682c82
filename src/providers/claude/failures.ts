/**
 * What a failed run was. Judged by the exit, the standard error and the
 * terminal record; never by what a model or a tool has said.
 */
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Failure } from "../ending.js";
import type { ChildExit } from "../process.js";
import type { ClaudeResult } from "./records.js";

export interface FailedRun {
  /** Absent: the process could not be ended. */
  readonly exit?: ChildExit;
  readonly errorOutput: string;
  readonly result?: ClaudeResult;
  /** The CLI's own name of the failure. */
  readonly reported?: string;
}

/** What the CLI says if it ends before it reads the prompt: on the standard error, or as `errors`. */
const refusals: readonly { pattern: RegExp; code: TurnErrorCode; retryable: boolean }[] = [
  {
    pattern: /^No conversation found with session ID: .*/m,
    code: TurnErrorCode.NATIVE_SESSION_LOST,
    retryable: true,
  },
  { pattern: /^Error: Session ID \S+ is already in use.*/m, code: TurnErrorCode.ID_IN_USE, retryable: false },
  {
    pattern: /^Error: claude native binary not installed.*/m,
    code: TurnErrorCode.UNAVAILABLE,
    retryable: false,
  },
  { pattern: /^Error: Invalid session ID.*/m, code: TurnErrorCode.INVALID_REQUEST, retryable: false },
  { pattern: /^error: (?:unknown )?option .*/m, code: TurnErrorCode.UNAVAILABLE, retryable: false },
];

export function classifyFailure(run: FailedRun): Failure {
  const refusal = classifyRefusal(run);
  if (refusal !== undefined) return refusal;
  const { result } = run;
  if (result === undefined) return classifyCrash(run);
  if (result.isError) return classifyErrorResult(result, run.reported);
  return classifyOddSuccess(result, run);
}

function classifyRefusal({ errorOutput, result }: FailedRun): Failure | undefined {
  // In a run that came as far as a turn, a tool could have written the same words.
  if (result !== undefined && result.numTurns !== 0) return undefined;
  const said = result === undefined ? errorOutput : result.errors.join("\n");
  for (const { pattern, code, retryable } of refusals) {
    const line = pattern.exec(said)?.[0];
    if (line !== undefined) return { code, message: line, retryable, modelNotAsked: true };
  }
  return undefined;
}

function classifyCrash({ exit, errorOutput }: FailedRun): Failure {
  const message = `The agent ${describeExit(exit)} without an answer.${lastLine(errorOutput)}`;
  return asked(TurnErrorCode.CRASHED, true, message);
}

function classifyOddSuccess(result: ClaudeResult, { exit, errorOutput }: FailedRun): Failure {
  if (result.numTurns === 0) {
    const message = "The agent took the message for a command of its own.";
    return { ...asked(TurnErrorCode.INVALID_REQUEST, false, message), modelNotAsked: true };
  }
  const message = `The agent answered, but ${describeExit(exit)}.${lastLine(errorOutput)}`;
  return asked(TurnErrorCode.CRASHED, true, message);
}

function classifyErrorResult(result: ClaudeResult, reported: string | undefined): Failure {
  const message = result.text || result.errors.join("; ") || result.subtype || "The agent failed.";
  const { apiStatus, terminalReason } = result;
  if (terminalReason === "prompt_too_long" || apiStatus === 413) {
    return asked(TurnErrorCode.CONTEXT_OVERFLOW, false, message);
  }
  if (terminalReason?.startsWith("aborted_")) {
    return asked(TurnErrorCode.CRASHED, true, "The agent was interrupted from outside.");
  }
  if (apiStatus === 401 || apiStatus === 403 || reported === "authentication_failed") {
    return asked(TurnErrorCode.AUTH, false, message);
  }
  if (apiStatus === 429 || reported === "rate_limit") {
    return asked(TurnErrorCode.RATE_LIMITED, true, message);
  }
  if (apiStatus === 529 || result.apiErrorType === "overloaded_error") {
    return asked(TurnErrorCode.OVERLOADED, true, message);
  }
  if (apiStatus === 408 || (apiStatus !== undefined && apiStatus >= 500)) {
    return asked(TurnErrorCode.PROVIDER_ERROR, true, message);
  }
  if (apiStatus !== undefined || reported === "invalid_request") {
    return asked(TurnErrorCode.INVALID_REQUEST, false, message);
  }
  // A connection that failed may hold the next time; a limit that the configuration sets is met again.
  return asked(TurnErrorCode.PROVIDER_ERROR, result.subtype === "success", message);
}

function asked(code: TurnErrorCode, retryable: boolean, message: string): Failure {
  return { code, message, retryable, modelNotAsked: false };
}

function describeExit(exit: ChildExit | undefined): string {
  if (exit === undefined) return "could not be ended";
  return exit.signal === null ? `ended with code ${exit.code}` : `was ended by ${exit.signal}`;
}

function lastLine(errorOutput: string): string {
  const line = errorOutput.trim().split("\n").at(-1) ?? "";
  return line === "" ? "" : ` It said: ${line.slice(0, 500)}`;
}
