/** What a run of the CLI came to. */
import { stat } from "node:fs/promises";
import { FinishReason, TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { failedOutcome, stoppedOutcome } from "../ending.js";
import { InputError } from "../input-error.js";
import { type ChildEnd, SpawnError } from "../process.js";
import type { StopReason } from "../stop-switch.js";
import type { EventReader } from "./events.js";
import { classifyFailure } from "./failures.js";
import type { ClaudeResult } from "./records.js";
import { accountOfAll } from "./usage.js";

export interface RunEnd extends ChildEnd {
  readonly reader: EventReader;
  readonly errorOutput: string;
  /** The results of the turn, oldest first. As with the exit code, the last one decides. */
  readonly results: readonly ClaudeResult[];
  /** Each line that was written has been answered. */
  readonly isAnswered: boolean;
  /** The turn was to stop before that, so that its last events may be missing. */
  readonly cutShort: boolean;
  /** The run was ended because of this. */
  readonly fault?: Failure;
  /** It gave its answer and had to be ended. */
  readonly lingered: boolean;
  /** It waits for another turn. */
  readonly stays: boolean;
  /** It said nothing at all, not even that it has taken the line, as it does before it asks the model. */
  readonly wasMute: boolean;
}

export interface Limits {
  readonly executable: string;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
}

export function judge(
  end: RunEnd,
  nativeId: string,
  limits: Limits,
  turn: ProviderTurn,
  stopped: StopReason | undefined,
): TurnOutcome {
  const { results, exit, reader } = end;
  const result = results.at(-1);
  const account = accountOfAll(results, turn.previousTotal);
  const hasEnded = end.stays || exit?.code === 0 || (end.lingered && exit !== undefined);
  const isSuccess = result?.isError === false && result.numTurns !== 0 && end.isAnswered && hasEnded;
  if (isSuccess && end.fault === undefined && !end.cutShort) {
    if (result.sessionId !== nativeId) return { ...failedOutcome(otherConversation(nativeId)), ...account };
    return {
      status: "completed",
      text: reader.text,
      finishReason: finishReasonOf(result.stopReason),
      nativeId,
      ...(reader.model === undefined ? {} : { model: reader.model }),
      ...account,
    };
  }
  if (stopped !== undefined) return { ...stoppedOutcome(stopped, limits, turn), ...account };
  if (end.fault !== undefined) return { ...failedOutcome(end.fault), ...account };
  const { errorOutput } = end;
  const reported = reader.failure;
  const failure = classifyFailure({
    errorOutput,
    ...(exit === undefined ? {} : { exit }),
    ...(result === undefined ? {} : { result }),
    ...(reported === undefined ? {} : { reported }),
  });
  return { ...failedOutcome(failure), ...account };
}

export function otherConversation(nativeId: string): Failure {
  const message = `The agent did not answer in conversation ${nativeId}.`;
  return { code: TurnErrorCode.PROVIDER_ERROR, message, retryable: false, modelNotAsked: false };
}

export function unusableId(state: ProviderTurn["binding"]["state"]): Failure {
  const isLost = state === "bound";
  return {
    code: isLost ? TurnErrorCode.NATIVE_SESSION_LOST : TurnErrorCode.INVALID_REQUEST,
    message: "The native id is no UUID, and the agent knows conversations by UUID.",
    retryable: isLost,
    modelNotAsked: true,
  };
}

export async function failureOf(error: unknown, limits: Limits, turn: ProviderTurn): Promise<Failure> {
  if (error instanceof InputError) {
    const code = TurnErrorCode.INVALID_REQUEST;
    return { code, message: error.message, retryable: false, modelNotAsked: true };
  }
  if (error instanceof SpawnError) {
    const workspace = await stat(turn.workspace).catch(() => undefined);
    const message =
      workspace?.isDirectory() === true
        ? `Cannot start ${limits.executable} (${error.message}). Install Claude Code, or name its executable in the configuration of the provider.`
        : `The workspace ${turn.workspace} is no directory.`;
    return { code: TurnErrorCode.UNAVAILABLE, message, retryable: false, modelNotAsked: true };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: TurnErrorCode.INTERNAL, message, retryable: false, modelNotAsked: false };
}

function finishReasonOf(stopReason: string | undefined): FinishReason {
  if (stopReason === "max_tokens" || stopReason === "model_context_window_exceeded")
    return FinishReason.LENGTH;
  return stopReason === "refusal" ? FinishReason.REFUSAL : FinishReason.STOP;
}
