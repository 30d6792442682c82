/** One turn: in the process that the session has left, or in one of its own. */

import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, ProviderRun, ProviderTurn } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { allowedMs, failedOutcome, faultOf, stoppedOutcome } from "../ending.js";
import { turnVariables } from "../environment.js";
import type { CommonSettings } from "../kind.js";
import { OutputLimitError, type OutputLimits } from "../lines.js";
import type { EndingStep } from "../marks.js";
import { SilenceError } from "../output-wait.js";
import { type ChildEnd, settlesWithin, startChild } from "../process.js";
import { giveTo, type RunAs } from "../run-as.js";
import type { Spare, Spares } from "../spares.js";
import { steerableRun } from "../steerable.js";
import { StopSwitch } from "../stop-switch.js";
import type { TakeUps } from "../take-ups.js";
import { SurvivorsError, type WarmPool } from "../warm-pool.js";
import { claudeArguments } from "./args.js";
import { ClaudeProcess } from "./claude-process.js";
import { initializeLine } from "./control.js";
import { EventReader } from "./events.js";
import { userLine } from "./input.js";
import { failureOf, judge, otherConversation, type RunEnd, unusableId } from "./outcome.js";
import { asString, type ClaudeRecord, parseRecord, parseResult } from "./records.js";
import {
  type ConversationStart,
  chooseStart,
  hasTranscript,
  isNativeId,
  startAfterIdInUse,
} from "./resume.js";
import { Talk } from "./talk.js";

type ChildVariables = Readonly<Record<string, string>>;

export interface RunSettings {
  readonly executable: string;
  readonly defaultModel?: string;
  readonly extraArgs: readonly string[];
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  /** Environment of the child, without the mark. */
  readonly environment: () => Promise<ChildVariables>;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
  /** How long the CLI may take to end after its terminal record. */
  readonly lingerMs: number;
  readonly limits: Partial<OutputLimits>;
  /** What becomes of a tool that needs a permission. */
  readonly permissions: CommonSettings["permissions"];
  /** How long the CLI may take to stop when it is asked to, before signals end it. */
  readonly interruptMs: number;
  readonly interrupt: EndingStep;
  readonly endingSteps: readonly EndingStep[];
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
  /** The processes that run. */
  readonly pool: WarmPool<ClaudeProcess>;
  /** The processes that read a message. */
  readonly takeUps: TakeUps;
  /** Started before their session. */
  readonly spares: Spares<ClaudeProcess>;
  /** Whether a process may stay for the session's next turn. */
  readonly warm: boolean;
}

/** Runs the turn. Never throws; what it started is gone, or rests in the pool, before `end` is given out. */
export function runTurn(settings: RunSettings, turn: ProviderTurn): ProviderRun {
  return steerableRun((onTalk) => turnEvents(settings, turn, onTalk));
}

/** @param onTalk told of each process that takes up the turn */
async function* turnEvents(
  settings: RunSettings,
  turn: ProviderTurn,
  onTalk: (talk: Talk) => void,
): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  /** Not in the pool, or not to stay in it. */
  const used = new Set<ClaudeProcess>();
  const isStopped = () => stop.reason !== undefined;
  const letNextIn = await settings.takeUps.begin();
  try {
    const { state } = turn.binding;
    const uuid = randomUUID();
    const line = userLine(uuid, turn.input, turn.unseen, turn.systemNotice);
    const spare = await takeSpare(settings, turn, line);
    if (spare !== undefined) used.add(spare.process);
    const nativeId = spare?.nativeId ?? turn.binding.nativeId ?? randomUUID();
    if (!isNativeId(nativeId)) {
      yield failed(unusableId(state));
      return;
    }
    const environment = await settings.environment();
    const fingerprint = fingerprintOf(settings, turn, nativeId, environment);

    let start: ConversationStart | undefined = chooseStart(nativeId, state, () =>
      hasTranscript(environment, turn.workspace, nativeId),
    );
    let kept =
      spare?.process ??
      (isStopped() ? undefined : await takeKept(settings, turn.recordNo, fingerprint, line));
    if (spare !== undefined) settings.pool.add(turn.recordNo, fingerprint, spare.process);
    // What starts anew has other things to wait for.
    if (kept === undefined) letNextIn();
    while (start !== undefined) {
      if (isStopped() && kept === undefined) {
        yield { kind: "end", outcome: stoppedOutcome(stop.reason ?? "cancelled", settings, turn) };
        return;
      }
      const process = kept ?? (await startProcess(settings, turn, start, line, environment));
      const warm = kept !== undefined;
      kept = undefined;
      used.add(process);
      if (!warm) settings.pool.add(turn.recordNo, fingerprint, process);
      const talk = new Talk(process.child, uuid, settings);
      onTalk(talk);
      const asked = { ...start, warm, isNew: process === spare?.process };
      const end: RunEnd = yield* readRun(process, talk, asked, settings, stop, letNextIn);
      if (end.stays) used.delete(process);
      // It was about to end when the line was written, as if it had ended while it rested.
      if (warm && diedMute(end) && !isStopped()) continue;
      const outcome = judge(end, nativeId, settings, turn, stop.reason);
      start =
        outcome.status === "failed" && outcome.code === TurnErrorCode.ID_IN_USE && end.survivors.length === 0
          ? startAfterIdInUse(start, state)
          : undefined;
      if (start !== undefined) continue;
      if (end.stays) {
        process.rest();
        if (!settings.pool.giveBack(turn.recordNo, process)) await process.end();
      }
      yield { kind: "end", outcome, ...(end.survivors.length === 0 ? {} : { survivors: end.survivors }) };
    }
  } catch (error) {
    const ends = await Promise.all([...used].map((process) => process.end()));
    const survivors = error instanceof SurvivorsError ? error.pids : ends.flatMap((end) => end.survivors);
    yield {
      ...failed(await failureOf(error, settings, turn)),
      ...(survivors.length === 0 ? {} : { survivors }),
    };
  } finally {
    letNextIn();
    stop.dispose();
    const unused = settings.spares.take(turn.recordNo);
    if (unused !== undefined) used.add(unused.process);
    for (const process of used) await process.end();
  }
}

/**
 * The process that was reserved for the session, if it takes the message. The
 * system prompt goes before it: the CLI takes one until it was first asked.
 */
async function takeSpare(
  settings: RunSettings,
  turn: ProviderTurn,
  line: string,
): Promise<Spare<ClaudeProcess> | undefined> {
  const spare = settings.spares.take(turn.recordNo);
  if (spare === undefined) return undefined;
  const { process, directory } = spare;
  const isUsable = directory === turn.workspace && !turn.signal.aborted;
  const system = turn.system ? initializeLine(randomUUID(), turn.system) : "";
  process.begin();
  if (isUsable && (await process.child.write(system + line)) !== "refused") return spare;
  const { survivors } = await process.end();
  if (survivors.length > 0) throw new SurvivorsError(survivors);
  return undefined;
}

/** The process that the session's last turn has left, if it takes the message. */
async function takeKept(
  settings: RunSettings,
  recordNo: number,
  fingerprint: string,
  line: string,
): Promise<ClaudeProcess | undefined> {
  const process = await settings.pool.take(recordNo, fingerprint);
  if (process === undefined) return undefined;
  process.begin();
  if ((await process.child.write(line)) !== "refused") return process;
  // It ended while it rested, which costs nothing.
  const survivors = await settings.pool.release(recordNo);
  if (survivors.length > 0) throw new SurvivorsError(survivors);
  return undefined;
}

function diedMute(end: RunEnd): boolean {
  return end.wasMute && end.fault === undefined && !end.lingered && end.survivors.length === 0;
}

async function* readRun(
  process: ClaudeProcess,
  talk: Talk,
  start: ConversationStart & { readonly warm: boolean; readonly isNew: boolean },
  settings: RunSettings,
  stop: StopSwitch,
  letNextIn: () => void,
): AsyncGenerator<ProviderEvent, RunEnd> {
  const { child } = process;
  const reader = new EventReader();
  let started = false;
  let wasMute = true;
  let fault: Failure | undefined;
  /** How much text there was before the answer that is being read. */
  let textBefore = 0;
  process.begin(() => talk.isAsked);
  stop.attach(() => talk.stop());
  try {
    while (!talk.mayStay) {
      const { done, value } = await process.next();
      if (done === true) break;
      const record = parseRecord(value);
      if (hasAsked(record)) letNextIn();
      // The last words about the turn before may come late.
      const isLate = record?.type === "command_lifecycle" && !talk.isAbout(asString(record.command_uuid));
      wasMute &&= isLate;
      if (record === undefined || talk.standing === "over" || fault !== undefined) continue;
      if (record.type === "result") {
        const result = parseResult(record);
        if (!talk.takeResult(result)) {
          if (started) yield unsolicited;
          continue;
        }
        if (started && stop.reason === undefined && !result.isError && reader.text.length === textBefore) {
          yield* reader.addText(result.text, "");
        }
        textBefore = reader.text.length;
        continue;
      }
      if (record.type === "system" && record.subtype === "init") {
        if (asString(record.session_id) !== start.nativeId) {
          fault = otherConversation(start.nativeId);
          void child.end();
          continue;
        }
        talk.versionIs(asString(record.claude_code_version));
        if (!started) {
          started = true;
          const resumed = start.flag === "resume" || (start.warm && !start.isNew);
          yield { kind: "started", nativeId: start.nativeId, resumed, warm: start.warm };
          await process.hasBegun();
        }
      }
      const asked = talk.takeControl(record);
      if (started && stop.reason === undefined) yield* asked ?? reader.read(record);
    }
  } catch (error) {
    if (!(error instanceof OutputLimitError || error instanceof SilenceError)) throw error;
    fault ??= faultOf(error, settings);
  } finally {
    talk.dispose();
  }
  const stays = fault === undefined && talk.mayStay;
  let { lingered } = talk;
  if (!stays && fault === undefined && !(await settlesWithin(child.exit, settings.lingerMs))) lingered = true;
  const ended: ChildEnd = stays ? { survivors: [] } : await child.end();
  return {
    ...ended,
    stays,
    wasMute,
    reader,
    lingered,
    cutShort: talk.wasInterrupted,
    results: talk.results,
    isAnswered: talk.standing === "over",
    errorOutput: child.errorOutput(),
    ...(fault === undefined ? {} : { fault }),
  };
}

/** Older versions do not tell that they ask their model. */
function hasAsked(record: ClaudeRecord | undefined): boolean {
  return record?.status === "requesting" || record?.type === "stream_event" || record?.type === "result";
}

const unsolicited = {
  kind: "notice",
  message: "the agent answered something that nobody asked; its process is replaced after this turn",
  unsolicited: true,
} as const satisfies ProviderEvent;

/** Whatever a process cannot be told later, and nothing of a turn (rulings 27 and 30). */
function fingerprintOf(
  settings: RunSettings,
  turn: ProviderTurn,
  nativeId: string,
  environment: ChildVariables,
): string {
  const { executable, extraArgs, permissions } = settings;
  const model = turn.model ?? settings.defaultModel ?? "";
  const parts = [executable, extraArgs, permissions, model, turn.workspace, nativeId, environment];
  return JSON.stringify(parts);
}

async function startProcess(
  settings: RunSettings,
  turn: ProviderTurn,
  start: ConversationStart,
  line: string,
  environment: ChildVariables,
): Promise<ClaudeProcess> {
  const systemFolder = await writeSystem(turn.system, settings.runAs);
  const forget = async () => {
    if (systemFolder !== undefined) await rm(systemFolder, { recursive: true, force: true }).catch(() => {});
  };
  try {
    const child = await startChild(childOptions(settings, turn, start, line, environment, systemFolder));
    void child.exit.then(forget);
    return new ClaudeProcess(child, forget);
  } catch (error) {
    await forget();
    throw error;
  }
}

/** A process that has been asked nothing yet. */
export async function startSpare(
  settings: RunSettings,
  spare: { readonly directory: string; readonly nativeId: string; readonly mark: string },
): Promise<ClaudeProcess> {
  const turn = { workspace: spare.directory, childMark: spare.mark };
  const start = { flag: "session-id", nativeId: spare.nativeId } as const;
  const environment = await settings.environment();
  const child = await startChild(childOptions(settings, turn, start, "", environment, undefined));
  const process = new ClaudeProcess(child, () => {});
  process.rest();
  return process;
}

function childOptions(
  settings: RunSettings,
  turn: Pick<ProviderTurn, "model" | "workspace" | "childMark">,
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
      ask: settings.permissions !== "deny",
      extra: settings.extraArgs,
      ...(model === undefined ? {} : { model }),
      ...(systemFolder === undefined ? {} : { systemFile: systemFileIn(systemFolder) }),
    }),
    cwd: turn.workspace,
    runAs: settings.runAs,
    environment: { ...environment, ...turnVariables(turn) },
    mark: turn.childMark,
    input,
    keepInputOpen: true,
    silenceMs: settings.silenceTimeoutMs,
    limits: settings.limits,
    interrupt: settings.interrupt,
    steps: settings.endingSteps,
  };
}

/** A file only for the agent's user: an argument could be read by every user of the machine. */
async function writeSystem(system: string | undefined, user: RunAs | undefined): Promise<string | undefined> {
  if (system === undefined || system === "") return undefined;
  const folder = await mkdtemp(join(tmpdir(), "session-broker-"));
  await writeFile(systemFileIn(folder), system, { mode: 0o600, flag: "wx" });
  for (const path of [systemFileIn(folder), folder]) giveTo(user, path);
  return folder;
}

function systemFileIn(folder: string): string {
  return join(folder, "system.txt");
}

function failed(failure: Failure): Extract<ProviderEvent, { kind: "end" }> {
  return { kind: "end", outcome: failedOutcome(failure) };
}
