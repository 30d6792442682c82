/** What a run of a program came to. */
import { stat } from "node:fs/promises";
import { FinishReason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import {
  type Failure,
  failedOutcome,
  failureOf,
  faultOf,
  internalFailure,
  type TimeLimits,
} from "../ending.js";
import { type ChildEnd, type ChildExit, SpawnError } from "../process.js";

export interface RunEnd extends ChildEnd {
  readonly text: string;
  /** The terminal record has come; undefined if none is configured. */
  readonly isEnded: boolean | undefined;
  /** It had to be ended after its terminal record. */
  readonly lingered: boolean;
  /** The program was to name its conversation, and has not. */
  readonly isUnnamed: boolean;
  readonly errorOutput: string;
  /** The run was ended because of this, or the program reported it. */
  readonly fault?: Failure;
}

/** `stopped`: what the turn comes to if it was stopped before it was over. */
export function judge(
  end: RunEnd,
  nativeId: string | undefined,
  stopped: TurnOutcome | undefined,
): TurnOutcome {
  const { exit } = end;
  const hasEnded = exit?.code === 0 || (end.lingered && end.isEnded === true && exit !== undefined);
  const isAnswered = end.isEnded ?? end.text !== "";
  if (end.fault === undefined && hasEnded && isAnswered && (stopped === undefined || end.isEnded === true)) {
    if (end.isUnnamed) return failedOutcome(unnamed);
    return {
      status: "completed",
      text: end.text,
      finishReason: FinishReason.STOP,
      ...(nativeId === undefined ? {} : { nativeId }),
    };
  }
  return stopped ?? failedOutcome(end.fault ?? crash(exit, end.errorOutput, isAnswered));
}

const unnamed = failureOf(
  "PROVIDER_ERROR",
  "The program answered, but did not name its conversation at json_lines.native_id.",
);

function crash(exit: ChildExit | undefined, errorOutput: string, isAnswered: boolean): Failure {
  const how = describeExit(exit);
  const said = lastLine(errorOutput);
  const message = isAnswered ? `The program answered, but ${how}.` : `The program ${how} without an answer.`;
  return failureOf("CRASHED", said === "" ? message : `${message} It said: ${said}`, { retryable: true });
}

export async function failureOfError(
  error: unknown,
  executable: string,
  turn: ProviderTurn,
  limits: TimeLimits,
): Promise<Failure> {
  if (error instanceof SpawnError) {
    const workspace = await stat(turn.workspace).catch(() => undefined);
    const message =
      workspace?.isDirectory() === true
        ? `Cannot start ${executable} (${error.message}). Install it, or name another program in the configuration of the provider.`
        : `The workspace ${turn.workspace} is no directory.`;
    return failureOf("UNAVAILABLE", message, { modelNotAsked: true });
  }
  return faultOf(error, limits) ?? internalFailure(error);
}

function describeExit(exit: ChildExit | undefined): string {
  if (exit === undefined) return "could not be ended";
  return exit.signal === null ? `ended with code ${exit.code}` : `was ended by ${exit.signal}`;
}

function lastLine(errorOutput: string): string {
  return (errorOutput.trim().split("\n").at(-1) ?? "").slice(0, 500);
}
