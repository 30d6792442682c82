/** One child process: started in a group of its own, read line by line, and ended for certain. */
import { closeSync, openSync } from "node:fs";
import { constants, devNull, getPriority, setPriority } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import { inheritedDescriptors, overlay } from "./descriptors.js";
import { defaultOutputLimits, LineSplitter, type OutputLimits } from "./lines.js";
import { type EndingStep, endingSteps, endProcesses } from "./marks.js";
import { OutputWait } from "./output-wait.js";
import { commandAs, type RunAs } from "./run-as.js";

export interface ChildOptions {
  readonly executable: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  /** All of it: nothing is inherited. */
  readonly environment: Readonly<Record<string, string>>;
  /** Value of SESSION_BROKER_CHILD in `environment`; finds what left the process group. */
  readonly mark?: string;
  /** Written to the standard input. */
  readonly input: string;
  /** The input stays open for more, until `closeInput`. Default: it is closed after `input`. */
  readonly keepInputOpen?: boolean;
  /** Longest time without any output. */
  readonly silenceMs: number;
  readonly limits?: Partial<OutputLimits>;
  /** A polite signal for the child alone, before its group is ended. */
  readonly interrupt?: EndingStep;
  /** Default: SIGTERM, and SIGKILL 5 s later. */
  readonly steps?: readonly EndingStep[];
}

export interface ChildExit {
  /** Null if a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Child {
  /**
   * Lines of the standard output. To be read once and to its end; throws
   * OutputLimitError and SilenceError. Reading slowly slows the child down.
   *
   * @param isAnswerOurs true while the child waits for us; its silence is no fault then
   */
  lines(isAnswerOurs?: () => boolean): AsyncIterable<string>;
  /**
   * The bytes of the standard output as they come, in place of `lines`. Throws
   * SilenceError; how much is too much is the reader's to say.
   */
  bytes(): AsyncIterable<Buffer>;
  /** A new turn of a process that stays: its output and its silence are counted from now on. */
  countAnew(): void;
  /** Writes whole lines to the standard input; the time that the child may say nothing begins anew. */
  write(text: string): Promise<Written>;
  closeInput(): void;
  /** Resolves when the child has exited; what it started may still run. */
  readonly exit: Promise<ChildExit>;
  /** The last 64 KiB of the standard error. */
  errorOutput(): string;
  /**
   * Ends the child, its group and all that carries its mark; does so by itself
   * once the child has exited. Any number of calls is one.
   */
  end(): Promise<ChildEnd>;
}

/**
 * `taken`: it is written, and the child lives. `refused`: the child was gone, or
 * without an input, before the end of the line was written. `lost`: the child is
 * gone, and may have read it before.
 */
export type Written = "taken" | "refused" | "lost";

export interface ChildEnd {
  /** Absent if the child itself could not be ended. */
  readonly exit?: ChildExit;
  /** Pids that are left; none, unless the system cannot end them. */
  readonly survivors: readonly number[];
}

/** The executable cannot be started. */
export class SpawnError extends Error {
  override readonly name = "SpawnError";
}

const errorTailBytes = 64 * 1024;
/** Above the broker's own. */
const niceness = 5;
/** How long to wait for the end of the output after every known process is gone: a stranger may hold the pipe. */
const afterEndMs = 1_000;

/** Starts the child. Throws SpawnError. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const [program, args] = commandAs(options.runAs, options.executable, options.args);
  // Another user must not get at the broker's files by descriptors that are open.
  const nothing = options.runAs === undefined ? undefined : openSync(devNull, "r");
  const hidden = nothing === undefined ? [] : overlay(inheritedDescriptors(), nothing);
  const subprocess = execa(program, [...args], {
    cwd: options.cwd,
    env: options.environment,
    extendEnv: false,
    detached: true,
    cleanup: false,
    buffer: false,
    reject: false,
    encoding: "buffer",
    // Descriptors are taken, and its types leave them out.
    stdio: ["pipe", "pipe", "pipe", ...(hidden as "ignore"[])],
  });
  if (nothing !== undefined) closeSync(nothing);
  const { pid, stdin, stdout, stderr } = subprocess;
  if (pid === undefined) {
    const result = await subprocess;
    throw new SpawnError(result.code ?? result.shortMessage ?? "it did not start");
  }
  yieldTo(pid);

  const exit = new Promise<ChildExit>((resolve) => {
    subprocess.once("exit", (code, signal) => resolve({ code, signal }));
  });
  const hasExited = () => subprocess.exitCode !== null || subprocess.signalCode !== null;
  let lastOutputAt = performance.now();
  const tail = new Tail(errorTailBytes);
  stderr.on("data", (chunk: Buffer) => {
    lastOutputAt = performance.now();
    tail.push(chunk);
  });
  const errorOutputEnded = new Promise<void>((resolve) => {
    stderr.once("close", resolve);
  });
  // A child that does not read its input, or is gone, is judged by its exit.
  stdin.on("error", () => {});
  stdin.write(options.input);
  const closeInput = () => void stdin.end();
  if (options.keepInputOpen !== true) closeInput();
  const write = async (text: string): Promise<Written> => {
    if (!stdin.writable || hasExited()) return "refused";
    lastOutputAt = performance.now();
    const failure = await new Promise<unknown>((resolve) => stdin.write(text, resolve));
    if (failure !== undefined && failure !== null) return "refused";
    return hasExited() ? "lost" : "taken";
  };

  let ending: Promise<ChildEnd> | undefined;
  let reportEnd: () => void;
  const ended = new Promise<void>((resolve) => {
    reportEnd = resolve;
  });
  const end = () => {
    ending ??= endChild(pid).finally(() => reportEnd());
    return ending;
  };
  async function endChild(leader: number): Promise<ChildEnd> {
    if (options.interrupt !== undefined && !hasExited()) {
      subprocess.kill(options.interrupt.signal);
      await settlesWithin(exit, options.interrupt.waitMs);
    }
    const survivors = await endProcesses(leader, options.mark, options.steps ?? endingSteps);
    // Its last words may be in the pipe still; a stranger may hold the pipe open.
    await settlesWithin(errorOutputEnded, afterEndMs);
    stderr.destroy();
    return survivors.includes(leader) ? { survivors } : { exit: await exit, survivors };
  }
  exit.then(end);

  const splitter = new LineSplitter({ ...defaultOutputLimits, ...options.limits });
  const countAnew = () => {
    lastOutputAt = performance.now();
    splitter.countAnew();
  };
  async function* lines(isAnswerOurs = () => false): AsyncGenerator<string> {
    for await (const chunk of bytes(isAnswerOurs)) yield* splitter.push(chunk);
    yield* splitter.end();
  }

  async function* bytes(isAnswerOurs = () => false): AsyncGenerator<Buffer> {
    const chunks = stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    const forgive = () => {
      lastOutputAt = performance.now();
    };
    forgive();
    const { silenceMs } = options;
    const patience = { silenceMs, afterEndMs, lastOutputAt: () => lastOutputAt, forgive };
    const output = new OutputWait(chunks, patience, isAnswerOurs);
    void ended.then(() => output.end());
    try {
      for (;;) {
        const chunk = await output.next();
        if (chunk === undefined) break;
        forgive();
        yield chunk;
        // The reader's time is not the child's silence.
        forgive();
      }
    } finally {
      output.dispose();
      stdout.destroy();
    }
  }

  return {
    lines,
    bytes: () => bytes(),
    countAnew,
    write,
    closeInput,
    exit,
    errorOutput: () => tail.text(),
    end,
  };
}

/** What the agent and its tools compute comes after the broker, which answers all chats. */
function yieldTo(pid: number): void {
  try {
    setPriority(pid, Math.min(getPriority() + niceness, constants.priority.PRIORITY_LOW));
  } catch (error) {
    // It has ended already, or is another user's from its start.
    if ((error as NodeJS.ErrnoException).code !== "ERR_SYSTEM_ERROR") throw error;
  }
}

/** Waits for the promise, but no longer than `waitMs`. Whether it was settled in time. */
export async function settlesWithin(promise: Promise<unknown>, waitMs: number): Promise<boolean> {
  const stop = new AbortController();
  try {
    const late = delay(waitMs, false, { signal: stop.signal });
    late.catch(() => {});
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    stop.abort();
  }
}

/** The last bytes of a stream. */
class Tail {
  readonly #maxBytes: number;
  #kept = Buffer.alloc(0);

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  push(chunk: Buffer): void {
    this.#kept = Buffer.concat([this.#kept, chunk]).subarray(-this.#maxBytes);
  }

  text(): string {
    return this.#kept.toString("utf8");
  }
}
