/**
 * Which rows have an id. Most ids have one owner, and one look-up finds it.
 *
 *     [scope, kind, id]                                    → its one owner, or "*" if there are several
 *     [scope, kind, id, external id, provider, record no]  → nothing: each of several owners
 *
 *     nobody's ── a row has it ──▶ one owner's ── another has it ──▶ several owners'
 *     several owners' ── all but one have it no longer ──▶ one owner's ── nor has that ──▶ nobody's
 */
import type { SessionRow } from "../../sessions/session.js";
import type { IdQuery } from "../../sessions/session-store.js";
import { afterAll } from "./schema.js";
import type { Key, Tables } from "./tables.js";

/** A session id, a native id, an alias. */
export type IdCode = "s" | "n" | "a";

/** An id in a scope, and a row that has it. */
export interface IdEntry {
  /** Scope, kind and id. */
  readonly id: readonly [string, IdCode, string];
  readonly owner: IdOwner;
}

/** In the scope of the id. */
export interface IdOwner {
  readonly externalId: string;
  readonly provider: string;
  readonly recordNo: number;
}

const several = Buffer.from("*");
const nothing = Buffer.from([1]);

/** The ids under which a row is found. */
export function idEntries(row: SessionRow): IdEntry[] {
  const { scope, externalId, provider } = row.key;
  const owner = { externalId, provider, recordNo: row.recordNo };
  const entries: IdEntry[] = [{ id: [scope, "s", indexedSessionId(row.sessionId)], owner }];
  if (row.nativeId !== undefined) entries.push({ id: [scope, "n", row.nativeId], owner });
  for (const alias of row.aliases) entries.push({ id: [scope, "a", alias.id], owner });
  return entries;
}

/** One string for one entry, for maps. */
export function entryName({ id, owner }: IdEntry): string {
  return `${id.join("\n")}\n${ownerText(owner)}`;
}

export function addIdEntry(tables: Tables, { id, owner }: IdEntry): void {
  const value = tables.get("ids", id);
  if (value === undefined) {
    tables.put("ids", id, Buffer.from(ownerText(owner)));
    return;
  }
  if (!isSeveral(value)) {
    const other = readOwner(value);
    if (isSame(other, owner)) return;
    tables.put("ids", id, several);
    tables.put("ids", oneOfSeveral({ id, owner: other }), nothing);
  }
  tables.put("ids", oneOfSeveral({ id, owner }), nothing);
}

export function deleteIdEntry(tables: Tables, { id, owner }: IdEntry): void {
  const value = tables.get("ids", id);
  if (value === undefined) return;
  if (!isSeveral(value)) {
    if (isSame(readOwner(value), owner)) tables.delete("ids", id);
    return;
  }
  tables.delete("ids", oneOfSeveral({ id, owner }));
  // The entry of the id itself comes first.
  const [, last, another] = tables.keysBelow("ids", id, 3);
  if (another !== undefined) return;
  if (last === undefined) {
    tables.delete("ids", id);
    return;
  }
  tables.put("ids", id, Buffer.from(ownerText(ownerIn(last))));
  tables.delete("ids", last);
}

/** Whether the index says that the row has the id. */
export function hasIdEntry(tables: Tables, entry: IdEntry): boolean {
  const value = tables.get("ids", entry.id);
  if (value === undefined) return false;
  if (isSeveral(value)) return tables.get("ids", oneOfSeveral(entry)) !== undefined;
  return isSame(readOwner(value), entry.owner);
}

/**
 * Whom the index names, in the order of their keys.
 *
 * @param visit false: that is enough
 * @returns false if it was enough
 */
export function visitIdOwners(
  tables: Tables,
  scope: string,
  query: IdQuery,
  visit: (owner: IdOwner) => boolean,
): boolean {
  const code = idCodes[query.kind];
  if (query.kind === "short-id") {
    const id = [scope, code, query.id];
    return visitBetween(tables, id, [scope, code, `${query.id}g`], visit);
  }
  const id = [scope, code, query.kind === "session-id" ? indexedSessionId(query.id) : query.id];
  const value = tables.get("ids", id);
  if (value === undefined) return true;
  return isSeveral(value) ? visitBetween(tables, id, [...id, afterAll], visit) : visit(readOwner(value));
}

function visitBetween(tables: Tables, start: Key, end: Key, visit: (owner: IdOwner) => boolean): boolean {
  for (const { key, value } of tables.entriesBetween("ids", start, end)) {
    const owner = ownerOf(key, value);
    if (owner !== undefined && !visit(owner)) return false;
  }
  return true;
}

/** Undefined for an id that several have, each of whom has an entry. */
export function ownerOf(key: Key, value: Buffer): IdOwner | undefined {
  if (key.length > 3) return ownerIn(key);
  return isSeveral(value) ? undefined : readOwner(value);
}

const idCodes: Record<IdQuery["kind"], IdCode> = {
  "session-id": "s",
  "short-id": "s",
  "native-id": "n",
  alias: "a",
};

/** A session id as it is indexed: UUIDs without dashes, so that a short id is a prefix. */
function indexedSessionId(sessionId: string): string {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(sessionId)
    ? sessionId.replaceAll("-", "")
    : sessionId;
}

/** What names an owner is longer. */
function isSeveral(value: Buffer): boolean {
  return value.length === several.length;
}

function oneOfSeveral({ id, owner }: IdEntry): Key {
  return [...id, owner.externalId, owner.provider, owner.recordNo];
}

function ownerIn(key: Key): IdOwner {
  const [, , , externalId, provider, recordNo] = key;
  return { externalId: String(externalId), provider: String(provider), recordNo: Number(recordNo) };
}

/** Control characters occur in no part. */
function ownerText({ externalId, provider, recordNo }: IdOwner): string {
  return `${recordNo}\n${provider}\n${externalId}`;
}

function readOwner(value: Buffer): IdOwner {
  const text = value.toString();
  const first = text.indexOf("\n");
  const second = text.indexOf("\n", first + 1);
  return {
    recordNo: Number(text.slice(0, first)),
    provider: text.slice(first + 1, second),
    externalId: text.slice(second + 1),
  };
}

function isSame(a: IdOwner, b: IdOwner): boolean {
  return a.recordNo === b.recordNo && a.provider === b.provider && a.externalId === b.externalId;
}

/** As of a store before version 3 of the schema. */
export function hasOldIdEntry(tables: Tables, entry: IdEntry): boolean {
  return tables.get("ids", oneOfSeveral(entry)) !== undefined;
}

const broughtUpAtOnce = 10_000;

/** Until version 3 of the schema each owner had an entry of its own, and the id itself none. Changes no other. */
export function bringUpIds(tables: Tables): void {
  let from: Key = [""];
  for (;;) {
    const keys = [...tables.keysBetween("ids", from, [afterAll], broughtUpAtOnce)];
    for (const key of keys.filter(({ length }) => length > 3)) {
      const [scope, code, id] = key as readonly [string, IdCode, string];
      tables.delete("ids", key);
      addIdEntry(tables, { id: [scope, code, id], owner: ownerIn(key) });
    }
    if (keys.length < broughtUpAtOnce) return;
    from = keys.at(-1) ?? from;
  }
}
