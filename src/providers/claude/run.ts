/** One turn as one run of the CLI. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, ProviderRun, ProviderTurn } from "../../turns/provider.js";
import { childMarkVariable } from "../environment.js";
import { OutputLimitError, type OutputLimits } from "../lines.js";
import type { EndingStep } from "../marks.js";
import { type Child, SilenceError, settlesWithin, startChild } from "../process.js";
import { StopSwitch } from "../stop-switch.js";
import { claudeArguments } from "./args.js";
import { EventReader } from "./events.js";
import type { Failure } from "./failures.js";
import { userLine } from "./input.js";
import {
  allowedMs,
  failedOutcome,
  failureOf,
  faultOf,
  judge,
  otherConversation,
  type RunEnd,
  stoppedOutcome,
  unusableId,
} from "./outcome.js";
import { asString, parseRecord, parseResult } from "./records.js";
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
  /** Environment of the child, without the mark. */
  readonly environment: () => Promise<ChildVariables>;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
  /** How long the CLI may take to end after its terminal record. */
  readonly lingerMs: number;
  readonly limits: Partial<OutputLimits>;
  /** Whether somebody can be asked whether a tool may be used. */
  readonly ask: boolean;
  /** How long the CLI may take to stop when it is asked to, before signals end it. */
  readonly interruptMs: number;
  readonly interrupt: EndingStep;
  readonly endingSteps: readonly EndingStep[];
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
  /** The processes that run, for the provider to end them. */
  readonly children: Set<Child>;
}

/** Runs the turn. Never throws; all processes are gone before `end` is given out. */
export function runTurn(settings: RunSettings, turn: ProviderTurn): ProviderRun {
  let talk: Talk | undefined;
  const events = turnEvents(settings, turn, (begun) => {
    talk = begun;
  });
  return {
    [Symbol.asyncIterator]: () => events,
    steer: async (input) => (await talk?.steer(input)) ?? false,
  };
}

/** @param onTalk told of each process that takes up the turn */
async function* turnEvents(
  settings: RunSettings,
  turn: ProviderTurn,
  onTalk: (talk: Talk) => void,
): AsyncGenerator<ProviderEvent> {
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
      const talk = new Talk(child, uuid, settings);
      onTalk(talk);
      const end: RunEnd = yield* readRun(child, talk, start, settings, stop);
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
  talk: Talk,
  start: ConversationStart,
  settings: RunSettings,
  stop: StopSwitch,
): AsyncGenerator<ProviderEvent, RunEnd> {
  const reader = new EventReader();
  let started = false;
  let fault: Failure | undefined;
  /** How much text there was before the answer that is being read. */
  let textBefore = 0;
  stop.attach(() => talk.stop());
  try {
    for await (const line of child.lines(() => talk.isAsked)) {
      const record = parseRecord(line);
      if (record === undefined || talk.standing === "over" || fault !== undefined) continue;
      if (record.type === "result") {
        const result = parseResult(record);
        if (!talk.takeResult(result)) continue;
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
          yield { kind: "started", nativeId: start.nativeId, resumed: start.flag === "resume", warm: false };
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
  let { lingered } = talk;
  if (fault === undefined && !(await settlesWithin(child.exit, settings.lingerMs))) lingered = true;
  const ended = await child.end();
  return {
    ...ended,
    reader,
    lingered,
    cutShort: talk.wasInterrupted,
    results: talk.results,
    isAnswered: talk.standing === "over",
    errorOutput: child.errorOutput(),
    ...(fault === undefined ? {} : { fault }),
  };
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
      ask: settings.ask,
      extra: settings.extraArgs,
      ...(model === undefined ? {} : { model }),
      ...(systemFolder === undefined ? {} : { systemFile: systemFileIn(systemFolder) }),
    }),
    cwd: turn.workspace,
    environment: { ...environment, [childMarkVariable]: turn.childMark },
    mark: turn.childMark,
    input,
    keepInputOpen: true,
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

function failed(failure: Failure): Extract<ProviderEvent, { kind: "end" }> {
  return { kind: "end", outcome: failedOutcome(failure) };
}
