/** Every write there is, by name: what the writing thread can be asked to do. */
import { BrokerError } from "../../errors.js";
import { freeBytes, isFull } from "./disk.js";
import { evictEvents } from "./evict-commands.js";
import { importRows } from "./import-commands.js";
import { cancelMerged, unmerge } from "./merge-commands.js";
import { OwnershipLost, releaseOwnership, renewOwnership } from "./owner.js";
import { expireChanges, expireReplays, pruneStep, sweepGarbage } from "./prune-commands.js";
import { reserve } from "./reserve-commands.js";
import { noteBackup } from "./restored.js";
import { bind, pin, remove, reset, touch } from "./session-commands.js";
import type { Tables } from "./tables.js";
import { Transaction } from "./transaction.js";
import { admit, append, bindNative, end, grant, regrant, retry } from "./turn-commands.js";

const commands = {
  reserve,
  bind,
  reset,
  pin,
  remove,
  touch,
  pruneStep,
  sweepGarbage,
  expireReplays,
  expireChanges,
  evictEvents,
  importRows,
  admit,
  grant,
  regrant,
  retry,
  bindNative,
  append,
  unmerge,
  cancelMerged,
  end,
  noteBackup,
  /** Commits what is in the log alone. */
  settle: (_tx: Transaction, _: undefined) => {},
  heartbeat: (tx: Transaction, nowMs: number) => renewOwnership(tx.tables, nowMs),
  release: (tx: Transaction, _: undefined) => releaseOwnership(tx.tables),
} as const;

export type CommandName = keyof typeof commands;
export type CommandInput<N extends CommandName> = Parameters<(typeof commands)[N]>[1];
export type CommandOutput<N extends CommandName> = ReturnType<(typeof commands)[N]>;

export interface CommandCall {
  readonly name: CommandName;
  readonly input: unknown;
}

export interface CommandValue {
  readonly value: unknown;
}

/**
 * That a reservation made a session, where its call says all else: what crosses
 * from thread to thread is copied piece by piece.
 */
export interface Created {
  readonly created: { readonly recordNo: number; readonly revision: number };
}

export type CommandAnswer = CommandValue | Created | { readonly failure: CommandFailure };

export interface CommandFailure {
  /**
   * `full` passes when there is room again, or the disk can be written again. After `lost` and `broken` this
   * process must not write any more.
   */
  readonly kind: "full" | "damaged" | "lost" | "broken" | "failed";
  readonly message: string;
}

/** Runs commands in the transaction that is open. */
export function runCommands(
  tables: Tables,
  instance: string,
  batch: readonly CommandCall[],
): readonly CommandValue[] {
  const tx = new Transaction(tables, Date.now());
  tx.assertOwner(instance);
  const values = batch.map(({ name, input }) => ({ value: run(tx, name, input) }));
  tx.finish();
  return values;
}

function run(tx: Transaction, name: CommandName, input: unknown): unknown {
  const command = commands[name] as (tx: Transaction, input: unknown) => unknown;
  return command(tx, input);
}

/** A disk that the system has made read-only, EROFS: it may be writable again. */
const readOnlyCodes = new Set<unknown>([30, "EROFS"]);
const inputOutputCodes = new Set<unknown>([5, "EIO"]);
/** A write that the last bytes of a disk cut short is told as EIO. */
const nearlyFullBytes = 1024 * 1024;

/** What an error of a transaction means for its commands. @param path of the store */
export function describeFailure(error: unknown, path: string): CommandFailure {
  if (error instanceof OwnershipLost) return { kind: "lost", message: error.message };
  if (error instanceof BrokerError && error.reason === "STORE_DAMAGED") {
    return { kind: "damaged", message: error.message };
  }
  if (!(error instanceof Error)) return { kind: "failed", message: String(error) };
  const { code } = error as NodeJS.ErrnoException;
  const full: CommandFailure = { kind: "full", message: "the disk that holds the store is full" };
  if (isFull(error)) return full;
  if (readOnlyCodes.has(code) || /read-only file system/i.test(error.message)) {
    return { kind: "full", message: "the disk that holds the store is read-only" };
  }
  if (inputOutputCodes.has(code) || /input\/output error/i.test(error.message)) {
    if (freeBytes(path) < nearlyFullBytes) return full;
    return { kind: "broken", message: `the disk that holds the store failed: ${error.message}` };
  }
  return { kind: "failed", message: error.stack ?? error.message };
}
