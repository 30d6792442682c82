/**
 * The one place that writes. Commands that arrive while a batch is being
 * committed wait and become the next batch: one fsync for all of them.
 */
import { Worker } from "node:worker_threads";
import { BrokerError } from "../../errors.js";
import {
  type CommandAnswer,
  type CommandCall,
  type CommandFailure,
  type CommandInput,
  type CommandName,
  type CommandOutput,
  runBatch,
} from "./commands.js";
import { compiledSibling } from "./compiled.js";
import { OwnershipLost } from "./owner.js";
import type { Tables } from "./tables.js";

/** Runs one batch and answers each command in order. */
export interface BatchRunner {
  run(batch: readonly CommandCall[]): Promise<readonly CommandAnswer[]>;
  close(): Promise<void>;
}

export interface WriterThreadData {
  readonly path: string;
  readonly instance: string;
}

const maxBatch = 1024;

interface Waiting {
  readonly call: CommandCall;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Writer {
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #closing = false;
  readonly #watchers = new Set<() => void>();

  constructor(
    private readonly runner: BatchRunner,
    /** Called once if the store can no longer be written by this process. */
    private readonly onLost: (error: Error) => void,
    /** Told of each batch that is on disk. */
    private readonly onCommitted: (commands: number, tookMs: number) => void = () => {},
  ) {}

  run<N extends CommandName>(name: N, input: CommandInput<N>): Promise<CommandOutput<N>> {
    if (!this.#closing) return this.#enqueue(name, input);
    return Promise.reject(new BrokerError("STORE_BUSY", "the store is being closed"));
  }

  /** Resolves after the next batch, or when the signal aborts. */
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
    await this.#running;
    await this.runner.close();
  }

  #enqueue<N extends CommandName>(name: N, input: CommandInput<N>): Promise<CommandOutput<N>> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ call: { name, input }, resolve: resolve as (value: unknown) => void, reject });
      this.#running ??= this.#drain();
    });
  }

  #wakeWatchers(): void {
    for (const wake of [...this.#watchers]) wake();
  }

  async #drain(): Promise<void> {
    // What is asked for in the same turn of the event loop goes into one batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, maxBatch);
      const handedOverMs = performance.now();
      try {
        const answers = await this.runner.run(batch.map(({ call }) => call));
        this.onCommitted(batch.length, performance.now() - handedOverMs);
        this.#wakeWatchers();
        for (const [index, waiting] of batch.entries()) this.#settle(waiting, answers[index]);
      } catch (error) {
        const failure = error instanceof Error ? error : new Error(String(error));
        for (const { reject } of batch) reject(failure);
        this.onLost(failure);
      }
    }
    this.#running = undefined;
  }

  #settle({ resolve, reject }: Waiting, answer: CommandAnswer | undefined): void {
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

/** Runs batches in a thread of its own, so that waiting for the disk blocks nobody. */
export function threadRunner(data: WriterThreadData): BatchRunner {
  const worker = new Worker(compiledSibling("writer-thread"), { workerData: data });
  let current:
    | { resolve: (answers: readonly CommandAnswer[]) => void; reject: (error: Error) => void }
    | undefined;
  let failure: Error | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    current?.reject(failure);
    current = undefined;
  };
  worker.on("message", (answers: readonly CommandAnswer[]) => {
    const waiting = current;
    current = undefined;
    waiting?.resolve(answers);
  });
  worker.on("error", fail);
  worker.on("exit", (code) => fail(new Error(`the writing thread ended with code ${code}`)));
  return {
    run: (batch) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure);
        current = { resolve, reject };
        worker.postMessage(batch);
      }),
    close: async () => {
      if (failure !== undefined) return;
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      worker.postMessage("close");
      await ended;
    },
  };
}

/** Runs batches in the calling thread: for tools that serve nobody meanwhile. */
export function inlineRunner(tables: Tables, instance: string): BatchRunner {
  return {
    run: async (batch) => runBatch(tables, instance, batch),
    close: async () => {},
  };
}
