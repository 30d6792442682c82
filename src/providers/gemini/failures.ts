/**
 * What a failed run was. Judged by the terminal record, the exit and the
 * standard error; never by what a model or a tool has said.
 */
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { classifyAgentError, describeExit, lastLine } from "../acp/failures.js";
import type { Failure } from "../ending.js";
import { asNumber, asRecord, asString, type JsonRecord, parseRecord } from "../json.js";
import type { ChildExit } from "../process.js";

export interface FailedRun {
  /** Absent: the process could not be ended. */
  readonly exit?: ChildExit;
  readonly errorOutput: string;
  /** The terminal record. */
  readonly result?: JsonRecord;
  /** Whether it got as far as to take up the prompt. */
  readonly begun: boolean;
}

/** What the CLI says on its standard error if it ends before it reads the prompt. */
const refusals: readonly { pattern: RegExp; code: TurnErrorCode; retryable: boolean }[] = [
  {
    pattern: /^Error resuming session: (?:Invalid session identifier|No previous sessions found).*/m,
    code: TurnErrorCode.NATIVE_SESSION_LOST,
    retryable: true,
  },
  {
    pattern: /^Error starting session: Session ID .* already exists.*/m,
    code: TurnErrorCode.ID_IN_USE,
    retryable: false,
  },
  { pattern: /^(?:Unknown argument|Invalid values).*/m, code: TurnErrorCode.UNAVAILABLE, retryable: false },
];

/** Exit codes of the CLI's own. */
const exitCodes: Readonly<Record<number, TurnErrorCode>> = {
  41: TurnErrorCode.AUTH,
  42: TurnErrorCode.INVALID_REQUEST,
  44: TurnErrorCode.UNAVAILABLE,
  52: TurnErrorCode.UNAVAILABLE,
  53: TurnErrorCode.PROVIDER_ERROR,
  55: TurnErrorCode.UNAVAILABLE,
};

/** The CLI exits with the lowest eight bits of the status that the model service answered. */
const statuses = [400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504, 529];

export function classifyFailure(run: FailedRun): Failure {
  const { exit, errorOutput, result, begun } = run;
  if (!begun) {
    for (const { pattern, code, retryable } of refusals) {
      const line = pattern.exec(errorOutput)?.[0];
      if (line !== undefined) return { code, message: line, retryable, modelNotAsked: true };
    }
    const code = exitCodes[exit?.code ?? 0];
    if (code !== undefined) {
      const message = `The agent ${describeExit(exit)}.${lastLine(errorOutput)}`;
      return { code, message, retryable: false, modelNotAsked: true };
    }
  }
  if (result?.status === "error") return classifyErrorResult(result, exit);
  const what = result === undefined ? "without an answer" : "after its answer";
  return {
    code: TurnErrorCode.CRASHED,
    message: `The agent ${describeExit(exit)} ${what}.${lastLine(errorOutput)}`,
    retryable: true,
    modelNotAsked: !begun,
  };
}

/** A run that ends as a success in the middle of its answer, or before it. */
export function brokenOff(complaint: string | undefined): Failure {
  const message = complaint ?? "The agent ended without an answer.";
  return { code: TurnErrorCode.PROVIDER_ERROR, message, retryable: true, modelNotAsked: false };
}

function classifyErrorResult(result: JsonRecord, exit: ChildExit | undefined): Failure {
  const said = asString(asRecord(result.error)?.message) ?? "The agent failed.";
  const told = /^\[API Error: ([\s\S]*?)\]/.exec(said)?.[1] ?? said;
  const inner = asRecord(parseRecord(told)?.error);
  const status = asNumber(inner?.code) ?? statuses.find((each) => (each & 0xff) === exit?.code);
  return classifyAgentError(
    { code: status ?? -32603, message: asString(inner?.message) ?? told },
    "prompting",
  );
}
