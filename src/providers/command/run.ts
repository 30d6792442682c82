/** One turn as one run of a program. */

import { randomUUID } from "node:crypto";
import type { Command } from "../../../gen/sessionbroker/config/v1/config_pb.js";
import type { ProviderEvent, ProviderTurn } from "../../turns/provider.js";
import { allowedMs, type Failure, failedOutcome, faultOf, stoppedOutcome } from "../ending.js";
import { turnVariables } from "../environment.js";
import { InputError } from "../input-error.js";
import { defaultOutputLimits, mostAnswerBytes, type OutputLimits } from "../lines.js";
import type { EndingStep } from "../marks.js";
import { type Child, settlesWithin, startChild } from "../process.js";
import type { RunAs } from "../run-as.js";
import { StopSwitch } from "../stop-switch.js";
import { type Conversation, chooseConversation, type Memory } from "./conversation.js";
import { type OutputReader, PlainText, Records } from "./events.js";
import { promptOf } from "./input.js";
import { failureOfError, judge, type RunEnd } from "./outcome.js";
import { fillTemplate } from "./template.js";

export interface RunSettings {
  readonly command: Pick<Command, "first" | "resumed" | "jsonLines">;
  readonly memory: Memory;
  readonly models: readonly string[];
  /** Environment of the program, without the mark. */
  readonly environment: Readonly<Record<string, string>>;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
  /** How long the program may take to end after its terminal record. */
  readonly lingerMs: number;
  readonly limits: Partial<OutputLimits>;
  readonly endingSteps: readonly EndingStep[];
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
  /** The processes that run, for the provider to end them. */
  readonly children: Set<Child>;
}

/** Runs the turn. Never throws; all processes are gone before `end` is given out. */
export async function* runTurn(settings: RunSettings, turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  let child: Child | undefined;
  let executable = "";
  try {
    const conversation = chooseConversation(turn.binding, settings.memory, randomUUID);
    const [program = "", ...args] = fillTemplate(settings.command[conversation.template], {
      ...(conversation.nativeId === undefined ? {} : { native_id: conversation.nativeId }),
      ...modelOf(settings, turn),
      session_id: turn.sessionId,
      workspace: turn.workspace,
    });
    executable = program;
    const input = promptOf(turn, conversation.template === "first");
    if (stop.reason !== undefined) {
      yield { kind: "end", outcome: stoppedOutcome(stop.reason, settings, turn) };
      return;
    }
    child = await startChild({
      executable,
      args,
      cwd: turn.workspace,
      runAs: settings.runAs,
      environment: { ...settings.environment, ...turnVariables(turn) },
      mark: turn.childMark,
      input,
      silenceMs: settings.silenceTimeoutMs,
      steps: settings.endingSteps,
    });
    settings.children.add(child);
    const running = child;
    stop.attach(() => void running.end());
    const { end, nativeId } = yield* readRun(child, conversation, settings);
    const stopped = stop.reason === undefined ? undefined : stoppedOutcome(stop.reason, settings, turn);
    const { survivors } = end;
    yield {
      kind: "end",
      outcome: judge(end, nativeId, stopped),
      ...(survivors.length === 0 ? {} : { survivors }),
    };
  } catch (error) {
    const survivors = (await child?.end())?.survivors ?? [];
    const failure = await failureOfError(error, executable, turn, settings);
    yield { kind: "end", outcome: failedOutcome(failure), ...(survivors.length === 0 ? {} : { survivors }) };
  } finally {
    stop.dispose();
    if (child !== undefined) {
      await child.end();
      settings.children.delete(child);
    }
  }
}

interface Ran {
  readonly end: RunEnd;
  /** The conversation that the turn was in. */
  readonly nativeId: string | undefined;
}

async function* readRun(
  child: Child,
  conversation: Conversation,
  settings: RunSettings,
): AsyncGenerator<ProviderEvent, Ran> {
  const { memory, lingerMs, command } = settings;
  const asked = memory.namesConversations ? conversation.nativeId : undefined;
  const reader: OutputReader =
    command.jsonLines === undefined
      ? new PlainText(Math.min(mostAnswerBytes, settings.limits.maxBytes ?? mostAnswerBytes))
      : new Records(command.jsonLines, asked, { ...defaultOutputLimits, ...settings.limits });
  const nameOf = () => conversation.nativeId ?? reader.nativeId;
  let started = false;
  let lingered = false;
  let linger: NodeJS.Timeout | undefined;
  let fault: Failure | undefined;
  const letGo = () => {
    lingered = true;
    void child.end();
  };
  const tell = function* (text: string): Generator<ProviderEvent> {
    const nativeId = nameOf();
    if (!started && (nativeId !== undefined || text !== "")) {
      started = true;
      const resumed = conversation.template === "resumed";
      yield { kind: "started", resumed, warm: false, ...(nativeId === undefined ? {} : { nativeId }) };
    }
    if (text !== "") yield { kind: "text", text };
  };
  try {
    yield* tell("");
    for await (const chunk of child.bytes()) {
      yield* tell(reader.read(chunk));
      if (reader.hasEnded === true || reader.failure !== undefined) linger ??= setTimeout(letGo, lingerMs);
    }
    yield* tell(reader.end());
  } catch (error) {
    fault = faultOf(error, settings);
    if (fault === undefined) throw error;
    // Nothing is waited for after the terminal record.
    if (reader.hasEnded === true) fault = undefined;
  } finally {
    clearTimeout(linger);
  }
  if (fault === undefined && !(await settlesWithin(child.exit, lingerMs))) lingered = true;
  const ended = await child.end();
  fault = reader.failure ?? fault;
  return {
    nativeId: nameOf(),
    end: {
      ...ended,
      text: reader.text,
      isEnded: reader.hasEnded,
      lingered,
      isUnnamed: memory.resumes && nameOf() === undefined,
      errorOutput: child.errorOutput(),
      ...(fault === undefined ? {} : { fault }),
    },
  };
}

function modelOf({ models }: RunSettings, { model }: ProviderTurn): { readonly model?: string } {
  const [first] = models;
  if (model !== undefined && !models.includes(model)) {
    throw new InputError(
      `The program has no model ${JSON.stringify(model)}; those that it has are named in the configuration.`,
    );
  }
  const chosen = model ?? first;
  return chosen === undefined ? {} : { model: chosen };
}
