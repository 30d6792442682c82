/**
 * One turn as one prompt to a process that speaks the protocol.
 *
 *     warm process ──ready────────────────────▶ prompt ──answer, if only that it is cancelled──▶ kept
 *     none ──start──▶ initialize ──▶ open ────▶ prompt ──no answer, or more than one prompt's──▶ ended
 */

import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, ProviderRun, ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import { allowedMs, failedOutcome, stoppedOutcome } from "../ending.js";
import { turnVariables } from "../environment.js";
import { asRecord, type JsonRecord } from "../json.js";
import type { OutputLimits } from "../lines.js";
import type { EndingStep } from "../marks.js";
import { startChild } from "../process.js";
import type { RunAs } from "../run-as.js";
import { StopSwitch } from "../stop-switch.js";
import type { WarmPool } from "../warm-pool.js";
import { AcpAgent } from "./agent.js";
import { EventReader } from "./events.js";
import type { Phase } from "./failures.js";
import type { Inbox, InboxItem } from "./inbox.js";
import { promptOf } from "./input.js";
import { chooseModel, currentModel } from "./model.js";
import { initialize, openConversation } from "./open.js";
import { FailureError, failureOf, judge } from "./outcome.js";
import { describeQuestion, optionFor } from "./permissions.js";

export interface RunSettings {
  readonly executable: string;
  readonly args: readonly string[];
  /** Environment of the child, without the mark. */
  readonly environment: Readonly<Record<string, string>>;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  readonly models: readonly string[];
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
  readonly permissions: "deny" | "ask" | "allow";
  /** How long the agent may take to answer after it was asked to stop, before signals end it. */
  readonly interruptMs: number;
  readonly limits: Partial<OutputLimits>;
  readonly endingSteps: readonly EndingStep[];
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
  readonly pool: WarmPool<AcpAgent>;
  /** Processes that are not in the pool yet. */
  readonly starting: Set<AcpAgent>;
  /** Runs the turn of a conversation that no process holds, if a new process is not to load it. */
  readonly resume?: (turn: ProviderTurn) => ProviderRun;
}

/** Where a turn is, for judging what it failed by. */
interface Progress {
  phase: Phase | "starting";
  agent?: AcpAgent;
}

/** Runs the turn. Never throws; its process is idle in the pool or gone before `end` is given out. */
export async function* runTurn(settings: RunSettings, turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
  const progress: Progress = { phase: "starting" };
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  let outcome: TurnOutcome | undefined;
  let survivors: readonly number[] = [];
  try {
    const warm = await takeWarm(settings, turn);
    if (warm !== undefined) progress.agent = warm;
    else if (settings.resume !== undefined && turn.binding.nativeId && turn.binding.state !== "fresh") {
      yield* settings.resume(turn);
      return;
    }
    outcome = yield* converse(settings, turn, stop, progress);
  } catch (error) {
    const failure = await failureOf(error, progress.phase, progress.agent, settings, turn);
    outcome =
      stop.reason === undefined ? failedOutcome(failure) : stoppedOutcome(stop.reason, settings, turn);
    survivors = error instanceof Error && "pids" in error ? (error.pids as readonly number[]) : [];
  } finally {
    stop.dispose();
    const { agent } = progress;
    if (agent !== undefined) {
      settings.starting.delete(agent);
      const isKept = agent.isFit && outcome !== undefined && settings.pool.giveBack(turn.recordNo, agent);
      if (!isKept) survivors = (await agent.end()).survivors;
    }
  }
  yield { kind: "end", outcome, ...(survivors.length === 0 ? {} : { survivors }) };
}

async function* converse(
  settings: RunSettings,
  turn: ProviderTurn,
  stop: StopSwitch,
  progress: Progress,
): AsyncGenerator<ProviderEvent, TurnOutcome> {
  const warm = progress.agent;
  let resumed = true;
  if (warm === undefined) {
    const agent = await AcpAgent.over(await startChild(childOptions(settings, turn)));
    progress.agent = agent;
    settings.starting.add(agent);
    stop.attach(() => void agent.end());
    await initialize(agent);
    progress.phase = "opening";
    resumed = await openConversation(agent, turn);
    settings.pool.add(turn.recordNo, fingerprintOf(settings, turn, agent.sessionId), agent);
    settings.starting.delete(agent);
  }
  const agent = progress.agent as AcpAgent;
  progress.phase = "opening";
  if (stop.reason !== undefined) throw new Error("stopped");
  stop.attach(() => void agent.end());
  const takesImages = asRecord(agent.capabilities.promptCapabilities)?.image === true;
  const prompt = promptOf(turn, takesImages);
  await useModel(agent, turn.model ?? settings.models[0], settings.models);
  yield {
    kind: "started",
    ...(agent.sessionId === undefined ? {} : { nativeId: agent.sessionId }),
    resumed,
    warm: warm !== undefined,
  };
  if (stop.reason !== undefined) throw new Error("stopped");
  progress.phase = "prompting";
  const { inbox, answer } = agent.prompt(prompt);
  return yield* readAnswer(settings, turn, stop, agent, inbox, answer);
}

async function* readAnswer(
  settings: RunSettings,
  turn: ProviderTurn,
  stop: StopSwitch,
  agent: AcpAgent,
  inbox: Inbox,
  answer: Promise<JsonRecord>,
): AsyncGenerator<ProviderEvent, TurnOutcome> {
  const reader = new EventReader();
  let cutShort = false;
  let timer: NodeJS.Timeout | undefined;
  stop.attach(() => {
    if (!agent.isPrompted) return;
    cutShort = true;
    agent.cancel();
    timer = setTimeout(() => void agent.end(), settings.interruptMs);
  });
  try {
    for await (const item of inbox) {
      if (item.kind === "update") {
        const events = reader.read(item.update);
        if (!cutShort) yield* events;
      } else if (cutShort) item.choose(undefined);
      else yield* ask(settings, item, reader);
    }
    const result = await answer;
    if (cutShort && stop.reason !== undefined) return stoppedOutcome(stop.reason, settings, turn);
    return judge(result, reader, agent, turn);
  } finally {
    clearTimeout(timer);
  }
}

function* ask(
  settings: RunSettings,
  question: Extract<InboxItem, { kind: "question" }>,
  reader: EventReader,
): Generator<ProviderEvent> {
  const { params, withdrawn } = question;
  yield* reader.readAsked(asRecord(params.toolCall) ?? {});
  if (settings.permissions !== "ask") {
    question.choose(optionFor(params, settings.permissions === "allow"));
    return;
  }
  const decide = ({ allowed }: { readonly allowed: boolean }) => question.choose(optionFor(params, allowed));
  yield { kind: "permission", ...describeQuestion(params), decide, withdrawn };
}

/** The session's process, if it holds the conversation of the turn. Throws SurvivorsError. */
async function takeWarm(settings: RunSettings, turn: ProviderTurn): Promise<AcpAgent | undefined> {
  const { nativeId, state } = turn.binding;
  const wanted = state === "fresh" ? undefined : nativeId;
  const agent = await settings.pool.take(turn.recordNo, fingerprintOf(settings, turn, wanted));
  if (agent === undefined || (await agent.isReady())) return agent;
  // It has ended, or is to: asked once more, the pool waits until it is gone.
  return await settings.pool.take(turn.recordNo, "");
}

async function useModel(
  agent: AcpAgent,
  wanted: string | undefined,
  models: readonly string[],
): Promise<void> {
  agent.model ??= currentModel(agent.opened);
  if (wanted === undefined || wanted === agent.model) return;
  const choice = chooseModel(agent.opened, wanted, models.includes(wanted));
  if (choice !== undefined) {
    await agent.call(choice.method, { ...choice.params, sessionId: agent.sessionId });
    agent.model = wanted;
  } else if (wanted !== models[0]) {
    const message = `The agent cannot be told to use the model ${wanted}.`;
    const code = TurnErrorCode.INVALID_REQUEST;
    throw new FailureError({ code, message, retryable: false, modelNotAsked: true });
  }
}

/** All that a process was started with and that it cannot be told later; nothing that is a single turn's. */
function fingerprintOf(settings: RunSettings, turn: ProviderTurn, nativeId: string | undefined): string {
  const { executable, args, environment } = settings;
  return JSON.stringify([executable, args, environment, turn.workspace, nativeId ?? null]);
}

function childOptions(settings: RunSettings, turn: ProviderTurn) {
  return {
    executable: settings.executable,
    args: settings.args,
    cwd: turn.workspace,
    runAs: settings.runAs,
    environment: { ...settings.environment, ...turnVariables(turn) },
    mark: turn.childMark,
    input: "",
    keepInputOpen: true,
    silenceMs: settings.silenceTimeoutMs,
    limits: settings.limits,
    steps: settings.endingSteps,
  };
}
