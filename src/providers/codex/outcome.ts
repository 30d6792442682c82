/** What a turn came to, in both modes. */
import { stat } from "node:fs/promises";
import { FinishReason, TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { InputError } from "../input-error.js";
import { SpawnError } from "../process.js";
import type { TurnAccount } from "./usage.js";

export interface Limits {
  readonly executable: string;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
}

export function completedOutcome(
  text: string,
  nativeId: string,
  model: string | undefined,
  account: Partial<TurnAccount>,
): TurnOutcome {
  return {
    status: "completed",
    text,
    finishReason: FinishReason.STOP,
    nativeId,
    ...(model === undefined ? {} : { model }),
    ...account,
  };
}

export function otherConversation(nativeId: string): Failure {
  const message = `The agent did not answer in conversation ${nativeId}.`;
  return { code: TurnErrorCode.PROVIDER_ERROR, message, retryable: false, modelNotAsked: false };
}

export function unusableId(): Failure {
  return {
    code: TurnErrorCode.NATIVE_SESSION_LOST,
    message: "The native id is no UUID, and the agent knows conversations by UUID.",
    retryable: true,
    modelNotAsked: true,
  };
}

/** Of an error that no other rule knows. */
export function failureOf(error: unknown, limits: Limits): Failure {
  if (error instanceof InputError) {
    const code = TurnErrorCode.INVALID_REQUEST;
    return { code, message: error.message, retryable: false, modelNotAsked: true };
  }
  if (error instanceof WorkspaceError) {
    return { code: TurnErrorCode.UNAVAILABLE, message: error.message, retryable: false, modelNotAsked: true };
  }
  if (error instanceof SpawnError) {
    const message = `Cannot start ${limits.executable} (${error.message}). Install Codex CLI, or name its executable in the configuration of the provider.`;
    return { code: TurnErrorCode.UNAVAILABLE, message, retryable: false, modelNotAsked: true };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: TurnErrorCode.INTERNAL, message, retryable: false, modelNotAsked: false };
}

export class WorkspaceError extends Error {
  override readonly name = "WorkspaceError";
}

/** Throws WorkspaceError. */
export async function checkWorkspace({ workspace }: ProviderTurn): Promise<void> {
  const found = await stat(workspace).catch(() => undefined);
  if (found?.isDirectory() !== true) throw new WorkspaceError(`The workspace ${workspace} is no directory.`);
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The agent takes other names too, but resumes a conversation by its title then. */
export function isNativeId(value: string): boolean {
  return uuid.test(value);
}
