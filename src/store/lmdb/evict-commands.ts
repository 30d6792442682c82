/**
 * Evicting the events of ended turns, in bounded steps.
 *
 *     kept ──row says evicted──▶ gone for readers ──events deleted──▶ gone
 *
 * The row is changed first, in one transaction with the indexes. Wherever a
 * crash stops it, the next step goes on from there.
 */
import { allowances, chooseEvicted, type Evicted, type RetentionSettings } from "../../turns/retention.js";
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
  const choose = (grant: string, overBytes: number, endedByMs: number) =>
    chooseEvicted(keptEvents(tables, grant), { overBytes, endedByMs, reading, limit });
  if (step.eventsForMs > 0) {
    const endedByMs = step.nowMs - step.eventsForMs;
    const tooOld = pick([...held.keys()].map((grant) => choose(grant, 0, endedByMs)));
    if (tooOld.length > 0) return tooOld;
  }
  if (step.eventsBytes === 0) return [];
  const allowed = allowances(held, step.eventsBytes);
  return pick(
    [...held].map(([grant, bytes]) =>
      choose(grant, bytes - (allowed.get(grant) ?? 0), Number.NEGATIVE_INFINITY),
    ),
  );
}

function pick(candidates: readonly Evicted[]): readonly number[] {
  const unread = candidates.flatMap((of) => of.unread);
  return unread.length > 0 ? unread : candidates.flatMap((of) => of.read);
}

/** The last sequence before the ending that was journaled. */
function lastJournaled(tables: Tables, { turnNo, lastSequence }: TurnRow): number {
  for (const { key, value } of tables.entriesBetween("events", [turnNo, afterAll], [turnNo], true)) {
    return Number(key[1]) + decodeBatch(value).length - 1;
  }
  return Math.max(1, lastSequence - 1);
}
