/** Changing rows inside one write transaction, indexes and counts with them. */
import { create } from "@bufbuild/protobuf";
import { type ScopeRecord, ScopeRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import type { SessionRow } from "../../sessions/session.js";
import type { TurnRow } from "../../turns/turn.js";
import { activityKey } from "./activity.js";
import { encodeSession, encodeTurn, sealJson, sealMessage, unsealJson, unsealMessage } from "./codec.js";
import { OwnershipLost, readOwner } from "./owner.js";
import { idKeys, type Key, sessionKey, type Tables } from "./tables.js";

interface Counters {
  fence: number;
  revision: number;
  turnNo: number;
  recordNo: number;
}

const nothing = Buffer.from([1]);

export class Transaction {
  readonly #counters: Counters;
  #countersChanged = false;

  constructor(readonly tables: Tables) {
    const sealed = tables.get("meta", "counters");
    this.#counters =
      sealed === undefined
        ? { fence: 0, revision: 0, turnNo: 0, recordNo: 0 }
        : (unsealJson(sealed, "meta") as Counters);
  }

  next(counter: keyof Counters): number {
    this.#countersChanged = true;
    this.#counters[counter] += 1;
    return this.#counters[counter];
  }

  /** @throws OwnershipLost if another process has taken the store. */
  assertOwner(instance: string): void {
    if (readOwner(this.tables)?.instance !== instance) throw new OwnershipLost();
  }

  finish(): void {
    if (this.#countersChanged) this.tables.put("meta", "counters", sealJson(this.#counters));
  }

  /**
   * Writes a row in the place of `before`, and makes every index agree. A row
   * with revision 0 is a change and gets a number; activity alone is none.
   */
  putSession(row: SessionRow, before: SessionRow | undefined): SessionRow {
    const numbered = row.revision === 0 ? { ...row, revision: this.next("revision") } : row;
    this.tables.put(...placeOf(numbered), encodeSession(numbered));
    if (before !== undefined && !samePlace(before, numbered)) this.tables.delete(...placeOf(before));
    this.#moveIndexes(before, numbered);
    return numbered;
  }

  deleteSession(row: SessionRow): void {
    this.tables.delete(...placeOf(row));
    this.#moveIndexes(row, undefined);
  }

  putTurn(row: TurnRow): void {
    this.tables.put("turns", row.turnNo, encodeTurn(row));
  }

  #moveIndexes(before: SessionRow | undefined, after: SessionRow | undefined): void {
    const old = new Map(before === undefined ? [] : idKeys(before).map((key) => [keyName(key), key]));
    for (const key of after === undefined ? [] : idKeys(after)) {
      if (!old.delete(keyName(key))) this.tables.put("ids", key, nothing);
    }
    for (const key of old.values()) this.tables.delete("ids", key);

    const oldActivity = before === undefined ? undefined : activityKey(before);
    const newActivity = after === undefined ? undefined : activityKey(after);
    if (
      oldActivity !== undefined &&
      newActivity !== undefined &&
      keyName(oldActivity) === keyName(newActivity)
    )
      return;
    if (oldActivity !== undefined) this.tables.delete("activity", oldActivity);
    if (newActivity !== undefined) this.tables.put("activity", newActivity, nothing);
    if (stateOf(before) !== stateOf(after)) this.#count(before, after);
  }

  #count(before: SessionRow | undefined, after: SessionRow | undefined): void {
    const key = (after ?? before)?.key;
    if (key === undefined) return;
    const place = [key.scope, key.provider];
    const sealed = this.tables.get("scopes", place);
    const counts: ScopeRecord =
      sealed === undefined ? create(ScopeRecordSchema) : unsealMessage(ScopeRecordSchema, sealed, "scopes");
    if (before !== undefined) counts[stateOf(before)] -= 1;
    if (after !== undefined) counts[stateOf(after)] += 1;
    if (counts.live === 0 && counts.archived === 0) this.tables.delete("scopes", place);
    else this.tables.put("scopes", place, sealMessage(ScopeRecordSchema, counts));
  }
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
