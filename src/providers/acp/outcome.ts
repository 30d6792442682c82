/** What a prompt came to. */
import { stat } from "node:fs/promises";
import { FinishReason, TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { failedOutcome, faultOf } from "../ending.js";
import { asString, type JsonRecord } from "../json.js";
import { SpawnError } from "../process.js";
import { SurvivorsError } from "../warm-pool.js";
import type { AcpAgent } from "./agent.js";
import type { EventReader } from "./events.js";
import { agentErrorOf, classifyAgentError, classifyExit, type Phase } from "./failures.js";
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
