/**
 * Evicting the events of ended turns, in bounded steps.
 *
 *     kept ──row says evicted──▶ gone for readers ──events deleted──▶ gone
 *
 * The row is changed first, in one transaction with the indexes. Wherever a
 * crash stops it, the next step goes on from there.
 */
import { allowances, chooseEvicted, type RetentionSettings } from "../../turns/retention.js";
import type { TurnRow } from "../../turns/turn.js";
import { decodeBatch } from "./codec.js";
import { heldBytes, keptEvents } from "./kept-events.js";
import { afterAll } from "./schema.js";
import { encodeNumber, type Tables } from "./tables.js";
import type { Transaction } from "./transaction.js";

export interface EvictStep extends RetentionSettings {
  readonly nowMs: number;
  /** Turns that have readers: the last to go. */
  readonly reading: readonly number[];
  /** Rows and batches of events to touch at most. */
  readonly limit: number;
}

/** True if nothing is left that has to go. */
export function evictEvents(tx: Transaction, step: EvictStep): boolean {
  let left = deleteEvicted(tx, step.limit);
  if (left <= 0) return false;
  const victims = victimsOf(tx.tables, step);
  for (const turnNo of victims) {
    const turn = tx.tables.turn(turnNo);
    if (turn === undefined) continue;
    tx.putTurn({ ...turn, evictedThrough: lastJournaled(tx.tables, turn) }, turn);
    tx.tables.put("evicting", turnNo, encodeNumber(turnNo));
    left = deleteEvicted(tx, left - 1);
    if (left <= 0) return false;
  }
  return victims.length === 0;
}

/** Deletes events that are gone for readers, at most `limit` entries; answers how many more it could. */
function deleteEvicted(tx: Transaction, limit: number): number {
  let left = limit;
  for (const { key: turnNo } of [...tx.tables.numbered("evicting", Math.max(0, left))]) {
    for (const event of [...tx.tables.keysBelow("events", [turnNo], left)]) {
      tx.tables.delete("events", event);
      if (--left <= 0) return left;
    }
    tx.tables.delete("evicting", turnNo);
    if (--left <= 0) return left;
  }
  return left;
}

/** Turns to evict next: those that are too old, and then those over what their grant may keep. */
function victimsOf(tables: Tables, step: EvictStep): readonly number[] {
  const held = heldBytes(tables);
  const reading = new Set(step.reading);
  const { limit } = step;
  const choose = (endedByMs: number, overBytesOf: (grant: string) => number): readonly number[] => {
    const unread: number[] = [];
    const read: number[] = [];
    for (const grant of held.keys()) {
      const rule = { endedByMs, overBytes: overBytesOf(grant), reading, limit: limit - unread.length };
      const chosen = chooseEvicted(keptEvents(tables, grant), rule);
      unread.push(...chosen.unread);
      read.push(...chosen.read);
      if (unread.length >= limit) break;
    }
    return unread.length > 0 ? unread : read;
  };
  if (step.eventsForMs > 0) {
    const tooOld = choose(step.nowMs - step.eventsForMs, () => 0);
    if (tooOld.length > 0) return tooOld;
  }
  if (step.eventsBytes === 0) return [];
  const allowed = allowances(held, step.eventsBytes);
  return choose(Number.NEGATIVE_INFINITY, (grant) => (held.get(grant) ?? 0) - (allowed.get(grant) ?? 0));
}

/** The last sequence before the ending that was journaled. */
function lastJournaled(tables: Tables, { turnNo, lastSequence }: TurnRow): number {
  for (const { key, value } of tables.entriesBetween("events", [turnNo, afterAll], [turnNo], true)) {
    return Number(key[1]) + decodeBatch(value).length - 1;
  }
  return Math.max(1, lastSequence - 1);
}
