/** One turn as one run of the CLI. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FinishReason, TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import { childMarkVariable } from "../environment.js";
import { OutputLimitError, type OutputLimits } from "../lines.js";
import type { EndingStep } from "../marks.js";
import {
  type Child,
  type ChildEnd,
  SilenceError,
  SpawnError,
  settlesWithin,
  startChild,
} from "../process.js";
import { type StopReason, StopSwitch } from "../stop-switch.js";
import { claudeArguments } from "./args.js";
import { EventReader } from "./events.js";
import { classifyFailure, type Failure } from "./failures.js";
import { InputError, userLine } from "./input.js";
import { asString, type ClaudeResult, parseRecord, parseResult } from "./records.js";
import {
  type ConversationStart,
  chooseStart,
  hasTranscript,
  isNativeId,
  startAfterIdInUse,
} from "./resume.js";
import { accountOf } from "./usage.js";

type ChildVariables = Readonly<Record<string, string>>;

export interface RunSettings {
  readonly executable: string;
  readonly defaultModel?: string;
  readonly extraArgs: readonly string[];
  /** Environment of the child, without the mark. */
  readonly environment: () => Promise<ChildVariables>;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
  /** How long the CLI may take to end after its terminal record. */
  readonly lingerMs: number;
  readonly limits: Partial<OutputLimits>;
  readonly interrupt: EndingStep;
  readonly endingSteps: readonly EndingStep[];
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
  /** The processes that run, for the provider to end them. */
  readonly children: Set<Child>;
}

interface RunEnd extends ChildEnd {
  readonly reader: EventReader;
  readonly errorOutput: string;
  readonly result?: ClaudeResult;
  /** The turn was to stop before there was a result, so that its last events may be missing. */
  readonly cutShort: boolean;
  /** The run was ended because of this. */
  readonly fault?: Failure;
  /** It gave its answer and had to be ended. */
  readonly lingered: boolean;
}

/** Runs the turn. Never throws; all processes are gone before `end` is given out. */
export async function* runTurn(settings: RunSettings, turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  let systemFolder: string | undefined;
  const children: Child[] = [];
  try {
    const { state } = turn.binding;
    const nativeId = turn.binding.nativeId ?? randomUUID();
    if (!isNativeId(nativeId)) {
      yield failed(unusableId(state));
      return;
    }
    const uuid = randomUUID();
    const input = userLine(uuid, turn.input, turn.unseen);
    const environment = await settings.environment();
    systemFolder = await writeSystem(turn.system);

    let start: ConversationStart | undefined = chooseStart(nativeId, state, () =>
      hasTranscript(environment, turn.workspace, nativeId),
    );
    while (start !== undefined) {
      if (stop.reason !== undefined) {
        yield { kind: "end", outcome: stoppedOutcome(stop.reason, settings, turn) };
        return;
      }
      const child = await startChild(childOptions(settings, turn, start, input, environment, systemFolder));
      children.push(child);
      settings.children.add(child);
      const end: RunEnd = yield* readRun(child, start, uuid, settings, stop);
      const outcome = judge(end, nativeId, settings, turn, stop.reason);
      start =
        outcome.status === "failed" && outcome.code === TurnErrorCode.ID_IN_USE && end.survivors.length === 0
          ? startAfterIdInUse(start, state)
          : undefined;
      if (start === undefined) {
        yield { kind: "end", outcome, ...(end.survivors.length === 0 ? {} : { survivors: end.survivors }) };
      }
    }
  } catch (error) {
    const ends = await Promise.all(children.map((child) => child.end()));
    const survivors = ends.flatMap((end) => end.survivors);
    yield {
      ...failed(await failureOf(error, settings, turn)),
      ...(survivors.length === 0 ? {} : { survivors }),
    };
  } finally {
    stop.dispose();
    for (const child of children) {
      await child.end();
      settings.children.delete(child);
    }
    if (systemFolder !== undefined) await rm(systemFolder, { recursive: true, force: true }).catch(() => {});
  }
}

async function* readRun(
  child: Child,
  start: ConversationStart,
  uuid: string,
  settings: RunSettings,
  stop: StopSwitch,
): AsyncGenerator<ProviderEvent, RunEnd> {
  const reader = new EventReader();
  let started = false;
  let result: ClaudeResult | undefined;
  let fault: Failure | undefined;
  let lingered = false;
  let cutShort = false;
  let linger: NodeJS.Timeout | undefined;
  stop.attach(child);
  try {
    for await (const line of child.lines()) {
      const record = parseRecord(line);
      if (record === undefined || result !== undefined || fault !== undefined) continue;
      if (record.type === "result") {
        const read = parseResult(record);
        if (read.inputUuids?.includes(uuid) === false) continue;
        result = read;
        cutShort = stop.reason !== undefined;
        linger = setTimeout(() => {
          lingered = true;
          void child.end();
        }, settings.lingerMs);
        continue;
      }
      if (record.type === "system" && record.subtype === "init" && !started) {
        if (asString(record.session_id) !== start.nativeId) {
          fault = otherConversation(start.nativeId);
          void child.end();
          continue;
        }
        started = true;
        yield { kind: "started", nativeId: start.nativeId, resumed: start.flag === "resume", warm: false };
      }
      if (started && stop.reason === undefined) yield* reader.read(record);
    }
  } catch (error) {
    if (!(error instanceof OutputLimitError || error instanceof SilenceError)) throw error;
    fault ??= faultOf(error, settings);
  } finally {
    clearTimeout(linger);
  }
  if (fault === undefined && !(await settlesWithin(child.exit, settings.lingerMs))) lingered = true;
  const ended = await child.end();
  if (result?.isError === false && started && !cutShort && reader.text === "") {
    yield* reader.addText(result.text, "");
  }
  return {
    ...ended,
    reader,
    lingered,
    cutShort,
    errorOutput: child.errorOutput(),
    ...(result === undefined ? {} : { result }),
    ...(fault === undefined ? {} : { fault }),
  };
}

function judge(
  end: RunEnd,
  nativeId: string,
  settings: RunSettings,
  turn: ProviderTurn,
  stopped: StopReason | undefined,
): TurnOutcome {
  const { result, exit, reader } = end;
  const account = result === undefined ? {} : accountOf(result, turn.previousTotal);
  const hasEnded = exit?.code === 0 || (end.lingered && exit !== undefined);
  const isSuccess = result?.isError === false && result.numTurns !== 0 && hasEnded;
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
  if (stopped !== undefined) return { ...stoppedOutcome(stopped, settings, turn), ...account };
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

function childOptions(
  settings: RunSettings,
  turn: ProviderTurn,
  start: ConversationStart,
  input: string,
  environment: ChildVariables,
  systemFolder: string | undefined,
) {
  const model = turn.model ?? settings.defaultModel;
  return {
    executable: settings.executable,
    args: claudeArguments({
      start,
      extra: settings.extraArgs,
      ...(model === undefined ? {} : { model }),
      ...(systemFolder === undefined ? {} : { systemFile: systemFileIn(systemFolder) }),
    }),
    cwd: turn.workspace,
    environment: { ...environment, [childMarkVariable]: turn.childMark },
    mark: turn.childMark,
    input,
    silenceMs: settings.silenceTimeoutMs,
    limits: settings.limits,
    interrupt: settings.interrupt,
    steps: settings.endingSteps,
  };
}

/** A file only for this user: an argument could be read by every user of the machine. */
async function writeSystem(system: string | undefined): Promise<string | undefined> {
  if (system === undefined || system === "") return undefined;
  const folder = await mkdtemp(join(tmpdir(), "session-broker-"));
  await writeFile(systemFileIn(folder), system, { mode: 0o600, flag: "wx" });
  return folder;
}

function systemFileIn(folder: string): string {
  return join(folder, "system.txt");
}

function finishReasonOf(stopReason: string | undefined): FinishReason {
  if (stopReason === "max_tokens" || stopReason === "model_context_window_exceeded")
    return FinishReason.LENGTH;
  return stopReason === "refusal" ? FinishReason.REFUSAL : FinishReason.STOP;
}

function allowedMs(settings: RunSettings, turn: ProviderTurn): number {
  return Math.min(turn.timeoutMs, settings.timeoutMs);
}

function stoppedOutcome(reason: StopReason, settings: RunSettings, turn: ProviderTurn): TurnOutcome {
  if (reason === "cancelled") return { status: "cancelled" };
  const message = `The turn took longer than ${allowedMs(settings, turn)} ms.`;
  return failedOutcome({ code: TurnErrorCode.TIMEOUT, message, retryable: true, modelNotAsked: false });
}

function failedOutcome(failure: Failure): TurnOutcome {
  return { status: "failed", ...failure };
}

function failed(failure: Failure): Extract<ProviderEvent, { kind: "end" }> {
  return { kind: "end", outcome: failedOutcome(failure) };
}

function otherConversation(nativeId: string): Failure {
  const message = `The agent did not answer in conversation ${nativeId}.`;
  return { code: TurnErrorCode.PROVIDER_ERROR, message, retryable: false, modelNotAsked: false };
}

function unusableId(state: ProviderTurn["binding"]["state"]): Failure {
  const isLost = state === "bound";
  return {
    code: isLost ? TurnErrorCode.NATIVE_SESSION_LOST : TurnErrorCode.INVALID_REQUEST,
    message: "The native id is no UUID, and the agent knows conversations by UUID.",
    retryable: isLost,
    modelNotAsked: true,
  };
}

function faultOf(error: OutputLimitError | SilenceError, settings: RunSettings): Failure {
  if (error instanceof OutputLimitError) {
    const message = `The agent was ended after ${error.message}.`;
    return { code: TurnErrorCode.OUTPUT_LIMIT, message, retryable: false, modelNotAsked: false };
  }
  const message = `The agent said nothing for ${settings.silenceTimeoutMs} ms.`;
  return { code: TurnErrorCode.NO_OUTPUT_TIMEOUT, message, retryable: true, modelNotAsked: false };
}

async function failureOf(error: unknown, settings: RunSettings, turn: ProviderTurn): Promise<Failure> {
  if (error instanceof InputError) {
    const code = TurnErrorCode.INVALID_REQUEST;
    return { code, message: error.message, retryable: false, modelNotAsked: true };
  }
  if (error instanceof SpawnError) {
    const workspace = await stat(turn.workspace).catch(() => undefined);
    const message =
      workspace?.isDirectory() === true
        ? `Cannot start ${settings.executable} (${error.message}). Install Claude Code, or name its executable in the configuration of the provider.`
        : `The workspace ${turn.workspace} is no directory.`;
    return { code: TurnErrorCode.UNAVAILABLE, message, retryable: false, modelNotAsked: true };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: TurnErrorCode.INTERNAL, message, retryable: false, modelNotAsked: false };
}
