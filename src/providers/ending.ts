/** Endings that say the same whatever the agent is. */
import { TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, ProviderTurn, RunningTotal, TurnOutcome, TurnUsage } from "../turns/provider.js";
import { InputError } from "./input-error.js";
import { OutputLimitError } from "./lines.js";
import { SilenceError } from "./output-wait.js";
import type { StopReason } from "./stop-switch.js";

export type Failure = Pick<
  Extract<TurnOutcome, { status: "failed" }>,
  "code" | "message" | "retryable" | "retryAfterMs" | "modelNotAsked"
>;

/** What a turn took, as far as it is known. */
export interface Account {
  readonly usage?: TurnUsage;
  readonly total?: RunningTotal;
}

export interface TimeLimits {
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
}

export function allowedMs(limits: TimeLimits, turn: ProviderTurn): number {
  return Math.min(turn.timeoutMs, limits.timeoutMs);
}

/** @param account what the turn took until then */
export function stoppedOutcome(
  reason: StopReason,
  limits: TimeLimits,
  turn: ProviderTurn,
  account: Account = {},
): TurnOutcome {
  if (reason === "cancelled") return { status: "cancelled", ...account };
  const message = `The turn took longer than ${allowedMs(limits, turn)} ms.`;
  return failedOutcome(failureOf("TIMEOUT", message, { retryable: true }), account);
}

/** What an error that stopped the reading of an answer means; undefined if it is none of these. */
export function faultOf(error: InputError | OutputLimitError | SilenceError, limits: TimeLimits): Failure;
export function faultOf(error: unknown, limits: TimeLimits): Failure | undefined;
export function faultOf(error: unknown, limits: TimeLimits): Failure | undefined {
  if (error instanceof InputError) {
    return failureOf("INVALID_REQUEST", error.message, { modelNotAsked: true });
  }
  if (error instanceof OutputLimitError) {
    return failureOf("OUTPUT_LIMIT", `The agent was ended after ${error.message}.`);
  }
  if (error instanceof SilenceError) {
    const message = `The agent said nothing for ${limits.silenceTimeoutMs} ms.`;
    return failureOf("NO_OUTPUT_TIMEOUT", message, { retryable: true });
  }
  return undefined;
}

export function internalFailure(error: unknown): Failure {
  return failureOf("INTERNAL", error instanceof Error ? error.message : String(error));
}

/** Not retryable, and the model may have been asked, unless it is said. */
export function failureOf(
  code: keyof typeof TurnErrorCode,
  message: string,
  more: Partial<Omit<Failure, "code" | "message">> = {},
): Failure {
  return { code: TurnErrorCode[code], message, retryable: false, modelNotAsked: false, ...more };
}

export function failedOutcome(failure: Failure, account: Account = {}): TurnOutcome {
  return { status: "failed", ...failure, ...account };
}

/** @param survivors pids of what could not be ended */
export function endOf(
  outcome: TurnOutcome,
  survivors: readonly number[] = [],
): Extract<ProviderEvent, { kind: "end" }> {
  return { kind: "end", outcome, ...(survivors.length === 0 ? {} : { survivors }) };
}
