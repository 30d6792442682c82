/** One turn as one run of `codex exec`. */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProviderEvent, ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { allowedMs, endOf, failedOutcome, faultOf, stoppedOutcome } from "../ending.js";
import { turnVariables } from "../environment.js";
import { asRecord, asString, type JsonRecord, parseRecord } from "../json.js";
import { OutputLimitError, type OutputLimits } from "../lines.js";
import type { EndingStep } from "../marks.js";
import { SilenceError } from "../output-wait.js";
import { type Child, type ChildEnd, settlesWithin, startChild } from "../process.js";
import { giveTo, type RunAs } from "../run-as.js";
import { StopSwitch } from "../stop-switch.js";
import { type ExecArguments, execArguments, type PermissionSetting } from "./args.js";
import { EventReader } from "./events.js";
import { classifyCrash, classifyExecStart, classifyTurnError, isLoss } from "./failures.js";
import { answerSchema, type ExecInput, execInput } from "./input.js";
import {
  checkWorkspace,
  completedOutcome,
  failureOf,
  isNativeId,
  type Limits,
  otherConversation,
  unusableId,
} from "./outcome.js";
import { accountOf, execTotalOf, type TurnAccount } from "./usage.js";

export interface ExecSettings extends Limits {
  readonly defaultModel?: string;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  readonly permissions: PermissionSetting;
  readonly extraArgs: readonly string[];
  /** Without the mark. */
  readonly environment: Readonly<Record<string, string>>;
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
  readonly nativeId: string | undefined;
  /** The record that ends the turn. */
  readonly terminal: JsonRecord | undefined;
  readonly errorOutput: string;
  readonly fault?: Failure;
  /** It gave its answer and had to be ended. */
  readonly lingered: boolean;
}

/** Runs the turn. Never throws; all processes are gone before `end` is given out. */
export async function* runExec(settings: ExecSettings, turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  let folder: string | undefined;
  let child: Child | undefined;
  try {
    const { state, nativeId } = turn.binding;
    if (state === "bound" && !isNativeId(nativeId ?? "")) {
      yield endOf(failedOutcome(unusableId()));
      return;
    }
    await checkWorkspace(turn);
    const known = state !== "fresh" && isNativeId(nativeId ?? "") ? nativeId : undefined;
    // A conversation of which nothing was written down yet is begun anew.
    for (const resume of state === "provisional" && known !== undefined ? [known, undefined] : [known]) {
      const input = execInput(turn, resume === undefined ? turn.system : undefined);
      folder ??= await mkdtemp(join(tmpdir(), "session-broker-"));
      const files = await writeFiles(folder, input, answerSchema(turn), settings.runAs);
      if (stop.reason !== undefined) {
        yield endOf(stoppedOutcome(stop.reason, settings, turn));
        return;
      }
      child = await startChild(childOptions(settings, turn, input.prompt, files, resume));
      settings.children.add(child);
      const end: RunEnd = yield* readRun(child, resume, settings, stop);
      settings.children.delete(child);
      const outcome = judge(end, resume, settings, turn, stop);
      const isNotBegun = outcome.status === "failed" && isLoss(outcome) && end.survivors.length === 0;
      if (isNotBegun && resume !== undefined && state === "provisional") continue;
      yield endOf(outcome, end.survivors);
      return;
    }
  } catch (error) {
    const ended = await child?.end();
    yield endOf(failedOutcome(failureOf(error, settings)), ended?.survivors);
  } finally {
    stop.dispose();
    await child?.end();
    if (child !== undefined) settings.children.delete(child);
    if (folder !== undefined) await rm(folder, { recursive: true, force: true }).catch(() => {});
  }
}

async function* readRun(
  child: Child,
  resume: string | undefined,
  settings: ExecSettings,
  stop: StopSwitch,
): AsyncGenerator<ProviderEvent, RunEnd> {
  const reader = new EventReader();
  let nativeId: string | undefined;
  let terminal: JsonRecord | undefined;
  let fault: Failure | undefined;
  let lingered = false;
  stop.attach(() => void child.end());
  try {
    for await (const line of child.lines()) {
      const record = parseRecord(line);
      // Whatever follows the terminal record is none of the turn's.
      if (record === undefined || terminal !== undefined || fault !== undefined) continue;
      if (record.type === "turn.completed" || record.type === "turn.failed") {
        terminal = record;
        lingered = !(await settlesWithin(child.exit, settings.lingerMs));
        if (lingered) void child.end();
        continue;
      }
      if (record.type === "thread.started" && nativeId === undefined) {
        nativeId = asString(record.thread_id);
        if (resume !== undefined && nativeId !== resume) {
          fault = otherConversation(resume);
          void child.end();
          continue;
        }
        if (nativeId !== undefined) {
          yield { kind: "started", nativeId, resumed: resume !== undefined, warm: false };
        }
      }
      if (nativeId !== undefined && stop.reason === undefined) yield* reader.readExec(record);
    }
  } catch (error) {
    if (!(error instanceof OutputLimitError || error instanceof SilenceError)) throw error;
    fault ??= faultOf(error, settings);
  }
  const ended = await child.end();
  const errorOutput = child.errorOutput();
  return {
    ...ended,
    reader,
    nativeId,
    terminal,
    errorOutput,
    lingered,
    ...(fault === undefined ? {} : { fault }),
  };
}

function judge(
  end: RunEnd,
  resume: string | undefined,
  settings: ExecSettings,
  turn: ProviderTurn,
  { reason }: StopSwitch,
): TurnOutcome {
  const { terminal, exit, fault, nativeId, errorOutput } = end;
  const reported = asRecord(terminal?.usage);
  const before = resume === undefined ? {} : turn.previousTotal;
  const account: Partial<TurnAccount> =
    reported === undefined ? {} : accountOf(execTotalOf(reported), before);
  const hasEnded = exit?.code === 0 || (end.lingered && exit !== undefined);
  if (terminal?.type === "turn.completed" && hasEnded && fault === undefined && nativeId !== undefined) {
    return completedOutcome(end.reader.text, nativeId, turn.model ?? settings.defaultModel, account);
  }
  if (reason !== undefined) return stoppedOutcome(reason, settings, turn, account);
  if (fault !== undefined) return failedOutcome(fault, account);
  const error = asRecord(terminal?.error);
  if (error !== undefined) return failedOutcome(classifyTurnError(error), account);
  // It names the conversation before it asks the model.
  return failedOutcome(
    nativeId === undefined ? classifyExecStart(exit, errorOutput) : classifyCrash(exit, errorOutput),
    account,
  );
}

function childOptions(
  settings: ExecSettings,
  turn: ProviderTurn,
  input: string,
  files: TurnFiles,
  resume: string | undefined,
) {
  const model = turn.model ?? settings.defaultModel;
  return {
    executable: settings.executable,
    runAs: settings.runAs,
    args: execArguments({
      permissions: settings.permissions,
      extra: settings.extraArgs,
      ...files,
      ...(model === undefined ? {} : { model }),
      ...(resume === undefined ? {} : { resume }),
    }),
    cwd: turn.workspace,
    environment: { ...settings.environment, ...turnVariables(turn) },
    mark: turn.childMark,
    // The agent asks nobody in this mode. Closed after the prompt: it reads to the end.
    input,
    silenceMs: settings.silenceTimeoutMs,
    limits: settings.limits,
    interrupt: settings.interrupt,
    steps: settings.endingSteps,
  };
}

type TurnFiles = Pick<ExecArguments, "images" | "schema">;

/** Files only for the agent's user, in a folder that is removed with the turn. */
async function writeFiles(
  folder: string,
  { images }: ExecInput,
  schema: string | undefined,
  user: RunAs | undefined,
): Promise<TurnFiles> {
  const write = async (name: string, data: string | Uint8Array) => {
    const path = join(folder, name);
    await writeFile(path, data, { mode: 0o600 });
    giveTo(user, path);
    return path;
  };
  const files = {
    images: await Promise.all(
      images.map(({ extension, data }, at) => write(`image-${at + 1}.${extension}`, data)),
    ),
    ...(schema === undefined ? {} : { schema: await write("schema.json", schema) }),
  };
  giveTo(user, folder);
  return files;
}
