/**
 * The one place that writes. What is asked for in one round of the event loop
 * is handed over together, or in a few pieces; what gathers while a batch is
 * being done becomes the next batch.
 */
import { Worker } from "node:worker_threads";
import { BrokerError } from "../../errors.js";
import type { ReserveCall, Reserved } from "../../sessions/session-store.js";
import type {
  CommandAnswer,
  CommandCall,
  CommandFailure,
  CommandInput,
  CommandName,
  CommandOutput,
  Created,
} from "./commands.js";
import { type Batch, type BatchDone, Committer, mostTogether } from "./committer.js";
import { compiledSibling } from "./compiled.js";
import { OwnershipLost } from "./owner.js";
import { newSession } from "./reserve-commands.js";
import type { Tables } from "./tables.js";
import { Uncommitted } from "./uncommitted.js";

/** Runs batches in order, and answers them in order. */
export interface BatchRunner {
  run(batch: Batch): Promise<BatchDone>;
  close(): Promise<void>;
}

export interface WriterThreadData {
  readonly path: string;
  readonly instance: string;
  readonly storeId: string;
  /** Changes with each message, and wakes the thread. */
  readonly posted: Int32Array;
}

/**
 * What is in the log alone is committed after this, if nothing else commits it
 * and nothing is being done: who comes during a commit waits for it. Under a
 * load that never pauses, where fewer commits are worth more, it is after the
 * longer time.
 */
const [holdMs, longestHoldMs] = [3, 6];
/** And tried again after this, if the disk is full. */
const retryMs = 1_000;

interface Waiting {
  readonly call: CommandCall;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Writer {
  /** New sessions that readers of the store do not see. */
  readonly uncommitted = new Uncommitted();
  #waiting: Waiting[] = [];
  #running = 0;
  #idle: (() => void) | undefined;
  #closing = false;
  #settling = false;
  readonly #watchers = new Set<() => void>();

  constructor(
    private readonly runner: BatchRunner,
    /** Called once if the store can no longer be written by this process. */
    private readonly onLost: (error: Error) => void,
    /** Told of each batch that is on disk. */
    private readonly onWritten: (commands: number, tookMs: number) => void = () => {},
  ) {}

  run<N extends CommandName>(name: N, input: CommandInput<N>): Promise<CommandOutput<N>> {
    if (!this.#closing) return this.#enqueue(name, input);
    return Promise.reject(new BrokerError("STORE_BUSY", "the store is being closed"));
  }

  /** Resolves once readers of the store see all that was answered. */
  async settled(): Promise<void> {
    if (this.uncommitted.size > 0) await this.run("settle", undefined);
  }

  /** Resolves after the next commit, or when the signal aborts. */
  async written(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#watchers.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#watchers.add(done);
      signal.addEventListener("abort", done);
    });
  }

  /** Takes nothing more, does what was asked for, and last gives up the ownership if it still has it. */
  async close(release: boolean): Promise<void> {
    this.#closing = true;
    if (release) await this.#enqueue("release", undefined).catch(() => {});
    if (this.#running > 0 || this.#waiting.length > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.runner.close();
  }

  #enqueue<N extends CommandName>(name: N, input: CommandInput<N>): Promise<CommandOutput<N>> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) setImmediate(() => this.#handOver());
      this.#waiting.push({ call: { name, input }, resolve: resolve as (value: unknown) => void, reject });
    });
  }

  #handOver(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const most = mostTogether(waiting.map(({ call }) => call));
    for (let from = 0; from < waiting.length; from += most) void this.#run(waiting.slice(from, from + most));
  }

  async #run(batch: readonly Waiting[]): Promise<void> {
    this.#running += 1;
    const handedOverMs = performance.now();
    try {
      const done = await this.runner.run(batch.map(({ call }) => call));
      this.onWritten(batch.length, performance.now() - handedOverMs);
      const answers = done.answers.map((answer, index) => inFull(batch[index]?.call, answer));
      this.#note(answers, done.committed);
      for (const [index, waiting] of batch.entries()) this.#settle(waiting, answers[index]);
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error));
      for (const { reject } of batch) reject(failure);
      this.onLost(failure);
    }
    this.#running -= 1;
    if (this.#running === 0 && this.#waiting.length === 0) this.#idle?.();
  }

  /** Before anybody is answered: what is said next must know it. */
  #note(answers: readonly FullAnswer[], committed: boolean): void {
    if (committed) {
      this.uncommitted.clear();
      for (const wake of [...this.#watchers]) wake();
      return;
    }
    for (const answer of answers) {
      const reserved = "value" in answer ? (answer.value as Reserved) : undefined;
      if (reserved?.kind === "reserved") this.uncommitted.add(reserved.view);
    }
    if (this.uncommitted.size > 0) this.#settleSoon();
  }

  #settleSoon(afterMs = holdMs, since = performance.now()): void {
    if (this.#settling || this.#closing) return;
    this.#settling = true;
    setTimeout(() => {
      this.#settling = false;
      const isBusy = this.#running > 0 || this.#waiting.length > 0;
      if (isBusy && performance.now() - since < longestHoldMs) return this.#settleSoon(1, since);
      // Nothing is lost meanwhile: the sessions are in the log.
      this.settled().catch(() => this.#settleSoon(retryMs));
    }, afterMs);
  }

  #settle({ resolve, reject }: Waiting, answer: FullAnswer | undefined): void {
    if (answer === undefined) reject(new Error("the writer gave no answer"));
    else if ("value" in answer) resolve(answer.value);
    else reject(this.#toError(answer.failure));
  }

  #toError(failure: CommandFailure): Error {
    switch (failure.kind) {
      case "full":
        return new BrokerError("DISK_LOW", failure.message, {}, 5_000);
      case "damaged":
        return new BrokerError("STORE_DAMAGED", failure.message);
      case "lost":
      case "broken": {
        const error = failure.kind === "lost" ? new OwnershipLost() : new Error(failure.message);
        this.onLost(error);
        return error;
      }
      case "failed":
        return new Error(failure.message);
    }
  }
}

type FullAnswer = Exclude<CommandAnswer, Created>;

function inFull(call: CommandCall | undefined, answer: CommandAnswer): FullAnswer {
  return "created" in answer ? { value: newSession(call?.input as ReserveCall, answer.created) } : answer;
}

/** Runs batches in a thread of its own, so that waiting for the disk blocks nobody. */
export function threadRunner(data: Omit<WriterThreadData, "posted">): BatchRunner {
  const posted = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const worker = new Worker(compiledSibling("writer-thread"), { workerData: { ...data, posted } });
  const post = (message: Batch | "close") => {
    worker.postMessage(message);
    Atomics.add(posted, 0, 1);
    Atomics.notify(posted, 0);
  };
  const running: Running[] = [];
  let failure: Error | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    for (const { reject } of running.splice(0)) reject(failure);
  };
  worker.on("message", ({ answers, committed }: BatchDone) => {
    // The thread takes batches together that came while it was busy.
    for (let from = 0; from < answers.length; ) {
      const { commands, resolve } = running.shift() as Running;
      resolve({ answers: answers.slice(from, from + commands), committed });
      from += commands;
    }
  });
  worker.on("error", fail);
  worker.on("exit", (code) => fail(new Error(`the writing thread ended with code ${code}`)));
  return {
    run: (batch) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure);
        running.push({ commands: batch.length, resolve, reject });
        post(batch);
      }),
    close: async () => {
      if (failure !== undefined) return;
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      post("close");
      await ended;
    },
  };
}

interface Running {
  readonly commands: number;
  readonly resolve: (done: BatchDone) => void;
  readonly reject: (error: Error) => void;
}

/** Runs batches in the calling thread: for tools that serve nobody meanwhile. */
export function inlineRunner(tables: Tables, instance: string): BatchRunner {
  const committer = new Committer({ tables, instance });
  return {
    run: async (batch) => {
      let done: BatchDone = { answers: [], committed: false };
      committer.work(
        batch,
        () => undefined,
        (each) => {
          done = each;
        },
      );
      return done;
    },
    close: async () => {},
  };
}
