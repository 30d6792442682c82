/** What a prompt came to. */
import { stat } from "node:fs/promises";
import { FinishReason, TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import { asString, type JsonRecord } from "../json.js";
import { OutputLimitError } from "../lines.js";
import { SilenceError, SpawnError } from "../process.js";
import type { StopReason } from "../stop-switch.js";
import { SurvivorsError } from "../warm-pool.js";
import type { AcpAgent } from "./agent.js";
import type { EventReader } from "./events.js";
import { agentErrorOf, classifyAgentError, classifyExit, type Failure, type Phase } from "./failures.js";
import { InputError } from "./input.js";
import { accountOf, countsNothing, modelOf } from "./usage.js";

export interface Limits {
  readonly executable: string;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
}

/** A failure that was found out here. */
export class FailureError extends Error {
  override readonly name = "FailureError";
  constructor(readonly failure: Failure) {
    super(failure.message);
  }
}

/** Of a prompt that the agent has answered. */
export function judge(
  result: JsonRecord,
  reader: EventReader,
  agent: AcpAgent,
  turn: ProviderTurn,
): TurnOutcome {
  const account = accountOf(result, reader.costUsd, turn.previousTotal);
  const stopReason = asString(result.stopReason);
  if (stopReason === "cancelled") {
    return {
      ...failedOutcome(broken("The agent was interrupted from outside.", TurnErrorCode.CRASHED)),
      ...account,
    };
  }
  if (stopReason === undefined || countsNothing(result)) {
    return { ...failedOutcome(broken("The answer of the model broke off.")), ...account };
  }
  const model = modelOf(result) ?? agent.model;
  return {
    status: "completed",
    text: reader.text,
    finishReason: finishReasonOf(stopReason),
    ...(agent.sessionId === undefined ? {} : { nativeId: agent.sessionId }),
    ...(model === undefined ? {} : { model }),
    ...account,
  };
}

export function allowedMs(limits: Limits, turn: ProviderTurn): number {
  return Math.min(turn.timeoutMs, limits.timeoutMs);
}

export function stoppedOutcome(reason: StopReason, limits: Limits, turn: ProviderTurn): TurnOutcome {
  if (reason === "cancelled") return { status: "cancelled" };
  const message = `The turn took longer than ${allowedMs(limits, turn)} ms.`;
  return failedOutcome({ code: TurnErrorCode.TIMEOUT, message, retryable: true, modelNotAsked: false });
}

export function failedOutcome(failure: Failure): TurnOutcome {
  return { status: "failed", ...failure };
}

/** Of a turn that an error has ended. The agent's process is ended if it is that which failed. */
export async function failureOf(
  error: unknown,
  phase: Phase | "starting",
  agent: AcpAgent | undefined,
  limits: Limits,
  turn: ProviderTurn,
): Promise<Failure> {
  if (error instanceof FailureError) return error.failure;
  if (error instanceof InputError) {
    const code = TurnErrorCode.INVALID_REQUEST;
    return { code, message: error.message, retryable: false, modelNotAsked: true };
  }
  if (error instanceof SpawnError) return await spawnFailure(error, limits, turn);
  if (error instanceof SurvivorsError) {
    return { code: TurnErrorCode.UNAVAILABLE, message: error.message, retryable: true, modelNotAsked: true };
  }
  const agentError = agentErrorOf(error);
  if (agentError !== undefined) {
    return classifyAgentError(agentError, phase === "prompting" ? "prompting" : "opening");
  }
  if (agent !== undefined) {
    const { exit } = await agent.end();
    const fault = faultOf(agent.fault, limits);
    return fault === undefined
      ? classifyExit(exit, agent.child.errorOutput(), phase)
      : { ...fault, modelNotAsked: phase !== "prompting" };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: TurnErrorCode.INTERNAL, message, retryable: false, modelNotAsked: false };
}

/** Of a process that was ended for what it said, or did not say. */
export function faultOf(fault: unknown, limits: Limits): Failure | undefined {
  if (fault instanceof OutputLimitError) {
    const message = `The agent was ended after ${fault.message}.`;
    return { code: TurnErrorCode.OUTPUT_LIMIT, message, retryable: false, modelNotAsked: false };
  }
  if (fault instanceof SilenceError) {
    const message = `The agent said nothing for ${limits.silenceTimeoutMs} ms.`;
    return { code: TurnErrorCode.NO_OUTPUT_TIMEOUT, message, retryable: true, modelNotAsked: false };
  }
  return undefined;
}

export async function spawnFailure(error: SpawnError, limits: Limits, turn: ProviderTurn): Promise<Failure> {
  const workspace = await stat(turn.workspace).catch(() => undefined);
  const message =
    workspace?.isDirectory() === true
      ? `Cannot start ${limits.executable} (${error.message}). Install it, or name another executable in the configuration of the provider.`
      : `The workspace ${turn.workspace} is no directory.`;
  return { code: TurnErrorCode.UNAVAILABLE, message, retryable: false, modelNotAsked: true };
}

function broken(message: string, code = TurnErrorCode.PROVIDER_ERROR): Failure {
  return { code, message, retryable: true, modelNotAsked: false };
}

function finishReasonOf(stopReason: string): FinishReason {
  if (stopReason === "max_tokens" || stopReason === "max_turn_requests") return FinishReason.LENGTH;
  return stopReason === "refusal" ? FinishReason.REFUSAL : FinishReason.STOP;
}
