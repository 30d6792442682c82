/**
 * Transactions of commands, and which of them wait in the log for their commit.
 *
 *     none open ── a batch ──▶ open
 *     open ── a batch of new sessions alone, written to the log ──▶ open: answered, not committed
 *     open ── any other batch, or no room in the log ──▶ committed: answered, and the log is empty
 *     open ── no more batches ──▶ committed
 *     open ── a command, the disk or the commit fails ──▶ taken back
 *     taken back ── the next batch ──▶ open: what was in the log alone is done again first
 *
 * A new session is what callers come for in crowds, and nobody else refers to
 * it yet. Until the commit only this process knows it (uncommitted.ts).
 */

import type { ReserveCall, Reserved } from "../../sessions/session-store.js";
import {
  type CommandAnswer,
  type CommandCall,
  type CommandValue,
  describeFailure,
  runCommands,
} from "./commands.js";
import { decodeWrites, encodeWrites } from "./redo.js";
import type { RedoLog } from "./redo-log.js";
import type { Tables } from "./tables.js";

export type Batch = readonly CommandCall[];

export interface BatchDone {
  readonly answers: readonly CommandAnswer[];
  /** Everything that was done so far is in the store, and nothing in the log alone. */
  readonly committed: boolean;
}

export interface CommitterOptions {
  readonly tables: Tables;
  /** Of this process. */
  readonly instance: string;
  /** Default: everything is committed at once. */
  readonly log?: RedoLog | undefined;
}

export class Committer {
  /** In the log and answered, and not in the store: as bytes, which no collection of memory looks at. */
  #logged: Buffer[] = [];

  constructor(private readonly options: CommitterOptions) {}

  /**
   * Does a batch in a transaction, and those after it as long as it stays open.
   *
   * @param next waits for the batch that follows; undefined: there is none
   * @param answer told of each batch, in order
   */
  work(first: Batch, next: () => Batch | undefined, answer: (done: BatchDone) => void): void {
    let batch: Batch | undefined = first;
    let values: readonly CommandValue[] = [];
    try {
      this.#inTransaction(() => {
        while (batch !== undefined) {
          const done = this.#run(batch);
          values = done.values;
          if (!done.logged) return;
          answer({ answers: values.map(inShort), committed: false });
          batch = next();
        }
      });
    } catch (error) {
      answer(this.#alone(batch ?? [], error));
      return;
    }
    answer({ answers: batch === undefined ? [] : values, committed: true });
  }

  close(): void {
    this.options.log?.close();
  }

  /** Runs a batch in the open transaction, and writes it to the log if it may wait for the commit. */
  #run(batch: Batch): { readonly values: readonly CommandValue[]; readonly logged: boolean } {
    const { tables, instance, log } = this.options;
    if (log === undefined || !batch.every(mayWait)) {
      return { values: runCommands(tables, instance, batch), logged: false };
    }
    let values: readonly CommandValue[] = [];
    const number = tables.loggedThrough() + 1;
    const writes = tables.record(() => {
      values = runCommands(tables, instance, batch);
      tables.noteLogged(number);
    });
    if (!values.every(isNew)) return { values, logged: false };
    const record = encodeWrites(writes);
    const logged = log.append(number, record);
    if (logged) this.#logged.push(Buffer.from(record));
    return { values, logged };
  }

  /**
   * After nothing of a batch was kept: if a command failed, each gets a
   * transaction of its own, so that one failure is one caller's.
   */
  #alone(batch: Batch, error: unknown): BatchDone {
    const { tables, instance } = this.options;
    const failure = describeFailure(error, tables.path);
    if (batch.length < 2 || (failure.kind !== "failed" && failure.kind !== "damaged")) {
      return { answers: batch.map(() => ({ failure })), committed: false };
    }
    const answers = batch.flatMap((call): readonly CommandAnswer[] => {
      try {
        return this.#inTransaction(() => runCommands(tables, instance, [call]));
      } catch (reason) {
        return [{ failure: describeFailure(reason, tables.path) }];
      }
    });
    return { answers, committed: this.#logged.length === 0 };
  }

  /** With what an earlier transaction has left in the log alone; once it is committed the log is empty. */
  #inTransaction<T>(act: () => T): T {
    const { tables, log } = this.options;
    const result = tables.root.transactionSync(() => {
      for (const record of this.#logged) tables.apply(decodeWrites(record));
      return act();
    });
    this.#logged = [];
    log?.restart();
    return result;
  }
}

/**
 * How many commands make a batch. Whoever shares a commit waits for it anyway.
 * What is answered from the log goes in small pieces: those of one are answered,
 * and their callers ask again, while the next is being done.
 */
export function mostTogether(batch: Batch): number {
  return batch.every(mayWait) ? 16 : 1024;
}

/** What is answered again to an idempotency key may be about a session of long ago. */
function mayWait({ name, input }: CommandCall): boolean {
  return name === "reserve" && (input as ReserveCall).idempotency === undefined;
}

function inShort(value: CommandValue): CommandAnswer {
  const reserved = value.value as Reserved;
  if (reserved.kind !== "reserved" || reserved.reason !== undefined) return value;
  const { recordNo, revision } = reserved.view.row;
  return { created: { recordNo, revision } };
}

/** A new session, or nothing. */
function isNew({ value }: CommandValue): boolean {
  const reserved = value as Reserved;
  return reserved.kind === "refused" || (reserved.kind === "reserved" && reserved.outcome === "CREATED");
}
