/** Changing rows inside one write transaction, indexes and counts with them. */
import { create } from "@bufbuild/protobuf";
import { type ScopeRecord, ScopeRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import type { SessionRow } from "../../sessions/session.js";
import type { ChangeKind } from "../../sessions/session-store.js";
import type { TurnRow } from "../../turns/turn.js";
import { activityKey } from "./activity.js";
import { encodeSession, encodeTurn, seal, sealJson, sealMessage, unsealMessage } from "./codec.js";
import { addIdEntry, deleteIdEntry, entryName, idEntries } from "./ids.js";
import { moveKeptEvents } from "./kept-events.js";
import { OwnershipLost, readOwner } from "./owner.js";
import { writeChange } from "./session-record.js";
import { type Counters, encodeLane, type Key, sessionKey, type Tables } from "./tables.js";
import { turnOrderKey } from "./turn-order.js";

const nothing = Buffer.from([1]);

export class Transaction {
  readonly #counters: Counters;
  #countersChanged = false;
  readonly #counts = new Map<string, { readonly place: Key; readonly counts: ScopeRecord }>();
  /** Those of scopes whose sessions were counted, with what this transaction adds. */
  readonly #providers = new Map<string, Set<string>>();

  constructor(
    readonly tables: Tables,
    readonly nowMs: number,
  ) {
    this.#counters = tables.counters();
  }

  next(counter: keyof Counters): number {
    this.#countersChanged = true;
    this.#counters[counter] += 1;
    return this.#counters[counter];
  }

  /** The next one is above `through` from now on. */
  raise(counter: keyof Counters, through: number): void {
    if (this.#counters[counter] >= through) return;
    this.#countersChanged = true;
    this.#counters[counter] = through;
  }

  /** Changes through a revision have been deleted. */
  forgetChanges(through: number): void {
    this.#countersChanged = true;
    this.#counters.changesGoneThrough = Math.max(this.#counters.changesGoneThrough, through);
  }

  /** @throws OwnershipLost if another process has taken the store. */
  assertOwner(instance: string): void {
    if (readOwner(this.tables)?.instance !== instance) throw new OwnershipLost();
  }

  finish(): void {
    for (const { place, counts } of this.#counts.values()) {
      if (counts.live === 0 && counts.archived === 0) this.tables.delete("scopes", place);
      else this.tables.put("scopes", place, sealMessage(ScopeRecordSchema, counts));
    }
    if (this.#countersChanged) this.tables.put("meta", "counters", sealJson(this.#counters));
  }

  /**
   * Writes a row in the place of `before`, and makes every index agree. A row
   * with revision 0 is a change and gets a number; activity alone is none.
   */
  putSession(row: SessionRow, before: SessionRow | undefined): SessionRow {
    const numbered = row.revision === 0 ? { ...row, revision: this.next("revision") } : row;
    if (row.revision === 0) this.#record(numbered.revision, changeOf(numbered, before), numbered);
    this.tables.put(...placeOf(numbered), encodeSession(numbered));
    if (before !== undefined && !samePlace(before, numbered)) this.tables.delete(...placeOf(before));
    if (before === undefined) this.#addIndexes(numbered);
    else this.#moveIndexes(before, numbered);
    return numbered;
  }

  /** Rows of the scope, archived ones included, with what this transaction has changed. */
  sessionsIn(scope: string): number {
    let sessions = 0;
    for (const provider of this.#providersOf(scope)) {
      const { live, archived } = this.#countsOf(scope, provider);
      sessions += live + archived;
    }
    return sessions;
  }

  #providersOf(scope: string): ReadonlySet<string> {
    let providers = this.#providers.get(scope);
    if (providers === undefined) {
      const keys = [...this.tables.keysBelow("scopes", [scope])];
      providers = new Set(keys.map(([, provider]) => String(provider)));
      this.#providers.set(scope, providers);
    }
    return providers;
  }

  deleteSession(row: SessionRow): void {
    this.#record(this.next("revision"), "DELETED", row);
    this.tables.delete(...placeOf(row));
    this.#moveIndexes(row, undefined);
  }

  /** Writes a turn in the place of `before`, and makes every index agree. */
  putTurn(row: TurnRow, before: TurnRow | undefined): void {
    this.tables.put("turns", row.turnNo, encodeTurn(row));
    moveKeptEvents(this.tables, before, row);
    if (before?.state === row.state) return;
    if (before !== undefined) this.tables.delete("turnOrder", turnOrderKey(before));
    this.tables.put("turnOrder", turnOrderKey(row), nothing);
  }

  /** The turn waits in the lane of its key, or, with a fence above 0, has it. */
  enterLane(turn: TurnRow, fence: number): void {
    this.tables.put("lanes", laneKey(turn), encodeLane(turn.turnId, fence));
    const row = this.tables.current(turn.key);
    if (row !== undefined && row.laneUsed !== true) this.putSession({ ...row, laneUsed: true }, row);
  }

  /** To be called when nothing else of the session is to be written. */
  leaveLane(turn: TurnRow): void {
    this.tables.delete("lanes", laneKey(turn));
    const row = this.tables.current(turn.key);
    if (row?.laneUsed !== true || this.tables.busyTurnId(turn.key) !== undefined) return;
    const { laneUsed: _used, ...free } = row;
    this.putSession(free, row);
  }

  deleteTurn(row: TurnRow): void {
    moveKeptEvents(this.tables, row, undefined);
    this.tables.delete("turnOrder", turnOrderKey(row));
    this.tables.delete("turnIds", [row.key.scope, row.turnId]);
    this.tables.delete("turns", row.turnNo);
  }

  /** Keeps a change for those who watch. */
  #record(revision: number, kind: ChangeKind | undefined, row: SessionRow): void {
    if (kind === undefined) return;
    this.tables.put("changes", revision, seal(writeChange(row, kind, this.nowMs)));
  }

  #moveIndexes(before: SessionRow, after: SessionRow | undefined): void {
    const old = new Map(idEntries(before).map((entry) => [entryName(entry), entry]));
    for (const entry of after === undefined ? [] : idEntries(after)) {
      if (!old.delete(entryName(entry))) addIdEntry(this.tables, entry);
    }
    for (const entry of old.values()) deleteIdEntry(this.tables, entry);

    const oldActivity = activityKey(before);
    const newActivity = after === undefined ? undefined : activityKey(after);
    if (newActivity !== undefined && keyName(oldActivity) === keyName(newActivity)) return;
    this.tables.delete("activity", oldActivity);
    if (newActivity !== undefined) this.tables.put("activity", newActivity, nothing);
    if (stateOf(before) !== stateOf(after)) this.#count(before, after);
  }

  #addIndexes(row: SessionRow): void {
    for (const entry of idEntries(row)) addIdEntry(this.tables, entry);
    this.tables.put("activity", activityKey(row), nothing);
    this.#count(undefined, row);
  }

  #count(before: SessionRow | undefined, after: SessionRow | undefined): void {
    const key = (after ?? before)?.key;
    if (key === undefined) return;
    const counts = this.#countsOf(key.scope, key.provider);
    if (before !== undefined) counts[stateOf(before)] -= 1;
    if (after !== undefined) counts[stateOf(after)] += 1;
    const isLive = (row: SessionRow | undefined) => (stateOf(row) === "live" ? 1 : 0);
    this.#counters.liveSessions += isLive(after) - isLive(before);
    this.#countersChanged = true;
  }

  /** Held until the transaction finishes: many rows of one batch change the same counts. */
  #countsOf(scope: string, provider: string): ScopeRecord {
    const name = `${scope}\n${provider}`;
    let held = this.#counts.get(name);
    if (held === undefined) {
      const sealed = this.tables.get("scopes", [scope, provider]);
      const counts =
        sealed === undefined ? create(ScopeRecordSchema) : unsealMessage(ScopeRecordSchema, sealed, "scopes");
      held = { place: [scope, provider], counts };
      this.#counts.set(name, held);
      this.#providers.get(scope)?.add(provider);
      // A new scope is found by look-ups of the same transaction.
      if (sealed === undefined) this.tables.put("scopes", held.place, sealMessage(ScopeRecordSchema, counts));
    }
    return held.counts;
  }
}

/** Undefined for the old row of a rotation, which the new row's change tells. */
function changeOf(row: SessionRow, before: SessionRow | undefined): ChangeKind | undefined {
  if (row.archived !== undefined && row.archived === before?.archived) return "UPDATED";
  if (row.archived === "rotated") return undefined;
  if (row.archived === "pruned") return "ARCHIVED";
  if (before === undefined) return row.generation > 1 ? "ROTATED" : "CREATED";
  // A session that the key has again is a new generation, too.
  return before.generation === row.generation ? "UPDATED" : "ROTATED";
}

function laneKey({ key, turnNo }: TurnRow): Key {
  return [...sessionKey(key), turnNo];
}

function placeOf(row: SessionRow): ["sessions" | "archive", Key] {
  return row.archived === "rotated"
    ? ["archive", [...sessionKey(row.key), row.recordNo]]
    : ["sessions", sessionKey(row.key)];
}

function samePlace(a: SessionRow, b: SessionRow): boolean {
  return placeOf(a)[0] === placeOf(b)[0] && (a.archived !== "rotated" || a.recordNo === b.recordNo);
}

function stateOf(row: SessionRow): "live" | "archived";
function stateOf(row: SessionRow | undefined): "live" | "archived" | undefined;
function stateOf(row: SessionRow | undefined): "live" | "archived" | undefined {
  if (row === undefined) return undefined;
  return row.archived === undefined ? "live" : "archived";
}

function keyName(key: Key): string {
  return key.join("\n");
}
