/** One turn as one run of the CLI, with the prompt on its standard input. */

import { randomUUID } from "node:crypto";
import { FinishReason, TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import { InputError, withoutCommand } from "../acp/input.js";
import { spawnFailure } from "../acp/outcome.js";
import { allowedMs, failedOutcome, faultOf, stoppedOutcome } from "../ending.js";
import { turnVariables } from "../environment.js";
import { asString, type JsonRecord, parseRecord } from "../json.js";
import type { OutputLimits } from "../lines.js";
import type { EndingStep } from "../marks.js";
import { prefaceOf } from "../preface.js";
import { type Child, type ChildEnd, SpawnError, settlesWithin, startChild } from "../process.js";
import type { RunAs } from "../run-as.js";
import { StopSwitch } from "../stop-switch.js";
import { type ConversationStart, onceArguments } from "./args.js";
import { EventReader } from "./events.js";
import { brokenOff, classifyFailure } from "./failures.js";
import { modelOf, usageOf } from "./usage.js";

export interface OnceSettings {
  readonly executable: string;
  readonly models: readonly string[];
  readonly extraArgs: readonly string[];
  /** Environment of the child, without the mark. */
  readonly environment: Readonly<Record<string, string>>;
  readonly allow: boolean;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
  /** How long the CLI may take to end after its terminal record. */
  readonly lingerMs: number;
  readonly limits: Partial<OutputLimits>;
  readonly endingSteps: readonly EndingStep[];
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
  /** The processes that run, for the provider to end them. */
  readonly children: Set<Child>;
}

interface RunEnd extends ChildEnd {
  readonly outcome: TurnOutcome;
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Runs the turn. Never throws; all processes are gone before `end` is given out. */
export async function* runOnce(settings: OnceSettings, turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  let survivors: readonly number[] = [];
  let outcome: TurnOutcome;
  try {
    const input = textOf(turn);
    const { nativeId = "", state } = turn.binding;
    const isBegun = state !== "fresh" && uuid.test(nativeId);
    if (state === "bound" && !isBegun) {
      const message = "The native id is no UUID, and the agent knows conversations by UUID.";
      const code = TurnErrorCode.NATIVE_SESSION_LOST;
      yield { kind: "end", outcome: failedOutcome({ code, message, retryable: true, modelNotAsked: true }) };
      return;
    }
    const first: ConversationStart = isBegun
      ? { flag: "resume", nativeId }
      : { flag: "session-id", nativeId: randomUUID() };
    let end: RunEnd = yield* runCli(settings, turn, stop, first, input);
    // A conversation without an answer can neither be resumed nor begun anew under its id.
    if (state === "provisional" && isBegun && wasRefused(end)) {
      end = yield* runCli(settings, turn, stop, { flag: "session-id", nativeId: randomUUID() }, input);
    }
    ({ outcome, survivors } = end);
  } catch (error) {
    outcome = failedOutcome(
      error instanceof SpawnError
        ? await spawnFailure(error, settings, turn)
        : {
            code: error instanceof InputError ? TurnErrorCode.INVALID_REQUEST : TurnErrorCode.INTERNAL,
            message: error instanceof Error ? error.message : String(error),
            retryable: false,
            modelNotAsked: error instanceof InputError,
          },
    );
  } finally {
    stop.dispose();
  }
  yield { kind: "end", outcome, ...(survivors.length === 0 ? {} : { survivors }) };
}

async function* runCli(
  settings: OnceSettings,
  turn: ProviderTurn,
  stop: StopSwitch,
  start: ConversationStart,
  input: string,
): AsyncGenerator<ProviderEvent, RunEnd> {
  if (stop.reason !== undefined) {
    return { outcome: stoppedOutcome(stop.reason, settings, turn), survivors: [] };
  }
  const child = await startChild(childOptions(settings, turn, start, input));
  settings.children.add(child);
  const reader = new EventReader();
  let begun = false;
  let wrongId = false;
  let result: JsonRecord | undefined;
  let fault: unknown;
  stop.attach(() => void child.end());
  try {
    for await (const line of child.lines()) {
      const record = parseRecord(line);
      // Whatever follows the terminal record belongs to no turn.
      if (record === undefined || result !== undefined || wrongId) continue;
      if (record.type === "init") {
        wrongId = asString(record.session_id) !== start.nativeId;
        if (wrongId) void child.end();
        else if (!begun) {
          begun = true;
          yield { kind: "started", nativeId: start.nativeId, resumed: start.flag === "resume", warm: false };
        }
      } else if (record.type === "result") result = record;
      else if (begun && stop.reason === undefined) yield* reader.read(record);
    }
  } catch (error) {
    fault = error;
  } finally {
    if (fault === undefined) await settlesWithin(child.exit, settings.lingerMs);
    await child.end();
    settings.children.delete(child);
  }
  const end = await child.end();
  const run = { begun, errorOutput: child.errorOutput(), ...present(end, result) };
  const outcome = (): TurnOutcome => {
    const usage = result === undefined ? undefined : usageOf(result);
    const spent = usage === undefined ? {} : { usage };
    if (result?.status === "success" && end.exit?.code === 0 && begun) {
      // The CLI calls it a success, too, when it ends a loop of the model, or has no room left to ask it.
      if (reader.complaint !== undefined || reader.text === "") {
        return { ...failedOutcome(brokenOff(reader.complaint)), ...spent };
      }
      const model = modelOf(result);
      return {
        status: "completed",
        text: reader.text,
        finishReason: FinishReason.STOP,
        nativeId: start.nativeId,
        ...(model === undefined ? {} : { model }),
        ...spent,
      };
    }
    if (stop.reason !== undefined) return { ...stoppedOutcome(stop.reason, settings, turn), ...spent };
    if (wrongId) {
      const message = `The agent did not answer in conversation ${start.nativeId}.`;
      const code = TurnErrorCode.PROVIDER_ERROR;
      return failedOutcome({ code, message, retryable: false, modelNotAsked: false });
    }
    const found = faultOf(fault, settings);
    if (fault !== undefined && found === undefined) throw fault;
    return { ...failedOutcome(found ?? classifyFailure(run)), ...spent };
  };
  return { ...end, outcome: outcome() };
}

function wasRefused({ outcome, survivors }: RunEnd): boolean {
  return (
    outcome.status === "failed" &&
    outcome.code === TurnErrorCode.NATIVE_SESSION_LOST &&
    outcome.modelNotAsked &&
    survivors.length === 0
  );
}

function present({ exit }: ChildEnd, result: JsonRecord | undefined) {
  return { ...(exit === undefined ? {} : { exit }), ...(result === undefined ? {} : { result }) };
}

/**
 * The CLI puts a file into the message that `@path` names, and gives it to the
 * agent that `@name` does; a backslash before the sign is its own way to say no.
 */
export function withoutMentions(text: string): string {
  return text.replace(/(?<!\\)@/g, "\\@");
}

/** Throws InputError. */
function textOf(turn: ProviderTurn): string {
  const texts = turn.input.map((part) => {
    if (part.kind === "text") return part.text;
    throw new InputError(`The agent cannot take an attachment of type ${part.mediaType}.`);
  });
  const input = texts.join("\n");
  if (input.trim() === "") throw new InputError("The message is empty.");
  return withoutMentions(withoutCommand([...prefaceOf(turn), input].join("\n\n")));
}

function childOptions(settings: OnceSettings, turn: ProviderTurn, start: ConversationStart, input: string) {
  const model = turn.model ?? settings.models[0];
  const { allow, extraArgs: extra } = settings;
  return {
    executable: settings.executable,
    args: onceArguments({ start, allow, extra, ...(model === undefined ? {} : { model }) }),
    cwd: turn.workspace,
    runAs: settings.runAs,
    environment: { ...settings.environment, ...turnVariables(turn) },
    mark: turn.childMark,
    input,
    silenceMs: settings.silenceTimeoutMs,
    limits: settings.limits,
    steps: settings.endingSteps,
  };
}
