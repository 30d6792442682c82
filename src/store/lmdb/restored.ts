/** What the store itself says of backups: when it was copied, and what it was restored from. Both lie in `meta`. */
import { sealJson, unsealJson } from "./codec.js";
import { readOwner } from "./owner.js";
import type { Tables } from "./tables.js";
import type { Transaction } from "./transaction.js";

export interface Restored {
  /** When the backup was taken. */
  readonly takenAtMs: number;
  readonly restoredAtMs: number;
  /** Sessions with a higher number were made since. */
  readonly recordsThrough: number;
  /** Turns with a higher fence ran since. */
  readonly fencesThrough: number;
}

/** Written just before a copy is taken, so that the copy says when. */
export function noteBackup(tx: Transaction, nowMs: number): void {
  tx.tables.put("meta", "backup", sealJson({ takenAtMs: nowMs }));
}

/** When the store that lies in the tables was copied; within seconds if the copy does not say it. */
export function takenAtMs(tables: Tables): number | undefined {
  const sealed = tables.get("meta", "backup");
  if (sealed === undefined) return readOwner(tables)?.heartbeatMs;
  return (unsealJson(sealed, "meta") as { readonly takenAtMs: number }).takenAtMs;
}

export function noteRestored(tables: Tables, restored: Restored): void {
  tables.put("meta", "restored", sealJson(restored));
}

export function readRestored(tables: Tables): Restored | undefined {
  const sealed = tables.get("meta", "restored");
  return sealed === undefined ? undefined : (unsealJson(sealed, "meta") as Restored);
}

/**
 * When the backup was taken, if the session is of before the restore and this
 * is its first turn since.
 *
 * @param lastFence of the session's last turn that had the lane; 0 if none had
 */
export function owesRestoreNotice(
  restored: Restored | undefined,
  recordNo: number,
  lastFence: number,
): number | undefined {
  if (restored === undefined || recordNo > restored.recordsThrough) return undefined;
  return lastFence > restored.fencesThrough ? undefined : restored.takenAtMs;
}
