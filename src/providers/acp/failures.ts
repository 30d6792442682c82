/**
 * What a failed run was. Judged by the agent's errors, its exit and its standard
 * error; never by what a model or a tool has said.
 */
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Failure } from "../ending.js";
import { asNumber, asRecord, asString, parseRecord } from "../json.js";
import type { ChildExit } from "../process.js";

/** An error of JSON-RPC. */
export interface AgentError {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

/** How far the agent had come: `opening` until it has taken up the conversation. */
export type Phase = "opening" | "prompting";

const authRequired = -32000;
const resourceNotFound = -32002;
const invalidParams = -32602;

/** The agent's error as such; undefined if it is something else. */
export function agentErrorOf(error: unknown): AgentError | undefined {
  if (!(error instanceof Error) || error.name !== "RequestError" || !("code" in error)) return undefined;
  const { code, message } = error;
  return typeof code !== "number"
    ? undefined
    : { code, message, data: "data" in error ? error.data : undefined };
}

/** Whether an agent that was to load a conversation says that it does not know it. */
export function isSessionLost(error: AgentError): boolean {
  if (error.code === resourceNotFound) return true;
  return /\bsession\b.{0,60}\bnot found|\b(no|unknown|invalid) session\b|^No previous sessions found|^no rollout found|^thread not found/im.test(
    textsOf(error).join("\n"),
  );
}

export function classifyAgentError(error: AgentError, phase: Phase): Failure {
  const message = messageOf(error);
  const failed = (code: TurnErrorCode, retryable: boolean): Failure => ({
    code,
    message,
    retryable,
    modelNotAsked: phase === "opening",
  });
  const status = statusOf(error);
  const reported = asString(asRecord(error.data)?.errorKind);
  if (status === 413 || /token count.*exceeds|context (length|window)|prompt is too long/i.test(message)) {
    return failed(TurnErrorCode.CONTEXT_OVERFLOW, false);
  }
  if (
    error.code === authRequired ||
    status === 401 ||
    status === 403 ||
    reported === "authentication_failed"
  ) {
    return failed(TurnErrorCode.AUTH, false);
  }
  if (status === 429 || reported === "rate_limit") return failed(TurnErrorCode.RATE_LIMITED, true);
  if (status === 529 || status === 503 || reported === "overloaded") {
    return failed(TurnErrorCode.OVERLOADED, true);
  }
  if (status !== undefined && (status >= 500 || status === 408)) {
    return failed(TurnErrorCode.PROVIDER_ERROR, true);
  }
  if (status !== undefined || error.code === invalidParams || reported === "invalid_request") {
    return failed(TurnErrorCode.INVALID_REQUEST, false);
  }
  return failed(TurnErrorCode.PROVIDER_ERROR, error.code === -32603);
}

/** The process is gone, and nothing else is known. */
export function classifyExit(
  exit: ChildExit | undefined,
  errorOutput: string,
  phase: Phase | "starting",
): Failure {
  const said = lastLine(errorOutput);
  if (phase === "starting") {
    const message = `The agent ${describeExit(exit)} before it answered in the Agent Client Protocol.${said}`;
    return { code: TurnErrorCode.UNAVAILABLE, message, retryable: false, modelNotAsked: true };
  }
  const message = `The agent ${describeExit(exit)} without an answer.${said}`;
  return { code: TurnErrorCode.CRASHED, message, retryable: true, modelNotAsked: phase === "opening" };
}

export function describeExit(exit: ChildExit | undefined): string {
  if (exit === undefined) return "could not be ended";
  return exit.signal === null ? `ended with code ${exit.code}` : `was ended by ${exit.signal}`;
}

export function lastLine(errorOutput: string): string {
  const line = errorOutput.trim().split("\n").at(-1) ?? "";
  return line === "" ? "" : ` It said: ${line.slice(0, 500)}`;
}

/** The HTTP status of the model service: gemini uses it as the code, others add it. */
function statusOf({ code, data }: AgentError): number | undefined {
  const fields = asRecord(data) ?? {};
  const told = [code, asNumber(fields.status), asNumber(fields.statusCode), asNumber(fields.httpStatus)];
  return told.find((each) => each !== undefined && each >= 400 && each < 600);
}

function messageOf(error: AgentError): string {
  const [message = "", ...more] = textsOf(error);
  const inner = asString(asRecord(parseRecord(message)?.error)?.message) ?? message;
  return (
    [inner, ...more]
      .filter((text) => text !== "")
      .join(": ")
      .slice(0, 1_000) || `error ${error.code}`
  );
}

function textsOf({ message, data }: AgentError): string[] {
  const fields = asRecord(data) ?? {};
  const details = asString(fields.details) ?? asString(fields.message) ?? asString(data);
  return details === undefined ? [message] : [message, details];
}
