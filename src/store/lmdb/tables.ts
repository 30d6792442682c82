/** The opened databases, and reading rows from them. Used by the writing thread and by readers alike. */
import type { Database, RootDatabase } from "lmdb";
import type { SessionKey } from "../../sessions/key.js";
import type { SessionRow } from "../../sessions/session.js";
import {
  type IdQuery,
  type LaneState,
  type ScopePattern,
  type SessionView,
  scopeMatches,
  type Where,
} from "../../sessions/session-store.js";
import type { TurnRow } from "../../turns/turn.js";
import { decodeSession, decodeTurn, sealJson, unsealJson } from "./codec.js";
import { visitIdOwners } from "./ids.js";
import type { Write } from "./redo.js";
import { afterAll, type DatabaseName, databaseNames } from "./schema.js";

export type Key = readonly (string | number | Buffer)[];
export type StoredKey = Key | string | number;
/** As lmdb declares it, which changes none. */
type MutableKey = (string | number | Buffer)[] | string | number;
type Table = Database<Buffer, MutableKey>;

/** Store-wide counts. */
export interface Counters {
  fence: number;
  revision: number;
  turnNo: number;
  recordNo: number;
  /** Changes through this revision are no longer kept. */
  changesGoneThrough: number;
  /** Sessions that are not archived; the one count here that shrinks. */
  liveSessions: number;
}

const noCounters: Counters = {
  fence: 0,
  revision: 0,
  turnNo: 0,
  recordNo: 0,
  changesGoneThrough: 0,
  liveSessions: 0,
};

const freeLane: LaneState = { queuedTurns: 0 };

export class Tables {
  readonly #tables: Readonly<Record<DatabaseName, Table>>;
  /** While something is recorded. */
  #writes: Write[] | undefined;

  constructor(
    readonly root: RootDatabase,
    /** Directory of the store. */
    readonly path: string,
  ) {
    const names = Object.keys(databaseNames) as DatabaseName[];
    this.#tables = Object.fromEntries(
      names.map((name) => [name, root.openDB({ name: databaseNames[name], encoding: "binary" })]),
    ) as unknown as Record<DatabaseName, Table>;
  }

  /** False of a database that was never created, in an environment that is only read. */
  has(table: DatabaseName): boolean {
    return this.#tables[table] !== undefined;
  }

  /** As the library itself counts them. */
  entryCount(table: DatabaseName): number {
    return (this.#tables[table].getStats() as { readonly entryCount: number }).entryCount;
  }

  /** Forgets the snapshot that earlier reads of this thread used. */
  refresh(): void {
    this.root.resetReadTxn();
  }

  get(table: DatabaseName, key: StoredKey): Buffer | undefined {
    return this.#tables[table].getBinary(key as MutableKey);
  }

  put(table: DatabaseName, key: StoredKey, value: Buffer): void {
    this.#tables[table].putSync(key as MutableKey, value);
    this.#writes?.push({ table, key, value });
  }

  delete(table: DatabaseName, key: StoredKey): void {
    this.#tables[table].removeSync(key as MutableKey);
    this.#writes?.push({ table, key });
  }

  /** What `act` writes, in order. */
  record(act: () => void): readonly Write[] {
    const writes: Write[] = [];
    this.#writes = writes;
    try {
      act();
    } finally {
      this.#writes = undefined;
    }
    return writes;
  }

  /** Writes again what was recorded. */
  apply(writes: readonly Write[]): void {
    for (const { table, key, value } of writes) {
      if (value === undefined) this.delete(table, key);
      else this.put(table, key, value);
    }
  }

  /** Keys that begin with a prefix, in order. */
  keysBelow(table: DatabaseName, prefix: Key, limit?: number): Iterable<Key> {
    return this.keysBetween(table, prefix, [...prefix, afterAll], limit);
  }

  keysBetween(table: DatabaseName, start: Key, end: Key, limit?: number): Iterable<Key> {
    return this.#tables[table].getKeys(rangeOf(start, end, false, limit)) as Iterable<Key>;
  }

  /** Keys from `start` downwards, as long as they are above `end`. */
  keysDown(table: DatabaseName, start: Key, end: Key): Iterable<Key> {
    return this.#tables[table].getKeys(rangeOf(start, end, true)) as Iterable<Key>;
  }

  entriesBetween(
    table: DatabaseName,
    start: Key,
    end: Key,
    reverse = false,
    limit?: number,
  ): Iterable<{ key: Key; value: Buffer }> {
    const entries = this.#tables[table].getRange(rangeOf(start, end, reverse, limit));
    return entries as unknown as Iterable<{ key: Key; value: Buffer }>;
  }

  /** Rows of a table whose keys are numbers, in order. */
  *numbered(table: DatabaseName, limit: number, after = 0): Generator<{ key: number; value: Buffer }> {
    for (const { key, value } of this.#tables[table].getRange({ start: after + 1, limit })) {
      yield { key: Number(key), value };
    }
  }

  *all(table: DatabaseName): Generator<{ key: Key | number | string; value: Buffer }> {
    for (const { key, value } of this.#tables[table].getRange({})) yield { key: key as Key, value };
  }

  counters(): Counters {
    const sealed = this.get("meta", "counters");
    return sealed === undefined
      ? { ...noCounters }
      : { ...noCounters, ...(unsealJson(sealed, "meta") as Counters) };
  }

  /** Number of the last record of the log that the store has. */
  loggedThrough(): number {
    const sealed = this.get("meta", "logged");
    return sealed === undefined ? 0 : (unsealJson(sealed, "meta") as number);
  }

  noteLogged(number: number): void {
    this.put("meta", "logged", sealJson(number));
  }

  current(key: SessionKey): SessionRow | undefined {
    // Decoded before anything else is read, it needs no copy.
    const sealed = this.#tables.sessions.getBinaryFast(sessionKey(key));
    return sealed === undefined ? undefined : decodeSession(key, sealed);
  }

  /** The row of a key by its record number, archived or not. */
  row(key: SessionKey, recordNo: number): SessionRow | undefined {
    const current = this.current(key);
    if (current?.recordNo === recordNo) return current;
    const sealed = this.get("archive", [...sessionKey(key), recordNo]);
    return sealed === undefined ? undefined : decodeSession(key, sealed);
  }

  lane(key: SessionKey): LaneState {
    let running: { turnId: string; fence: number } | undefined;
    let queuedTurns = 0;
    const prefix = sessionKey(key);
    for (const { value } of this.entriesBetween("lanes", prefix, [...prefix, afterAll])) {
      const entry = decodeLane(value);
      if (entry.fence > 0) running = entry;
      else queuedTurns += 1;
    }
    return running === undefined
      ? { queuedTurns }
      : { runningTurnId: running.turnId, fence: running.fence, queuedTurns };
  }

  /** First turn that runs or waits in the key's lane. */
  busyTurnId(key: SessionKey): string | undefined {
    const prefix = sessionKey(key);
    for (const { value } of this.entriesBetween("lanes", prefix, [...prefix, afterAll]))
      return decodeLane(value).turnId;
    return undefined;
  }

  /** One look-up, and a second one only where the row says that there is something to find. */
  view(row: SessionRow): SessionView {
    const isFree = row.archived === "rotated" || row.laneUsed !== true;
    return { row, lane: isFree ? freeLane : this.lane(row.key) };
  }

  turn(turnNo: number): TurnRow | undefined {
    const sealed = this.get("turns", turnNo);
    return sealed === undefined ? undefined : decodeTurn(turnNo, sealed);
  }

  turnById(turnId: string, where: Where): TurnRow | undefined {
    for (const scope of this.scopesOf(where.scopes)) {
      const value = this.get("turnIds", [scope, turnId]);
      if (value === undefined) continue;
      const turn = this.turn(decodeNumber(value));
      if (turn?.turnId !== turnId || turn.key.scope !== scope) continue;
      if (where.provider === undefined || turn.key.provider === where.provider) return turn;
    }
    return undefined;
  }

  /** Rows that own the id, at most `limit`. */
  byId(query: IdQuery, where: Where, limit: number): SessionRow[] {
    const found: SessionRow[] = [];
    this.visitOwners(query, where, (row) => found.push(row) < limit);
    return found;
  }

  /**
   * Rows that own the id, each verified against the row itself.
   *
   * @param visit false: that is enough
   */
  visitOwners(query: IdQuery, where: Where, visit: (row: SessionRow) => boolean): void {
    for (const scope of this.scopesOf(where.scopes)) {
      const goesOn = visitIdOwners(this, scope, query, ({ externalId, provider, recordNo }) => {
        if (where.provider !== undefined && provider !== where.provider) return true;
        const row = this.row({ scope, externalId, provider }, recordNo);
        return row === undefined || !ownsId(row, query) || visit(row);
      });
      if (!goesOn) return;
    }
  }

  /** Known scopes that the patterns cover. An exact pattern needs no look-up. */
  scopesOf(patterns: readonly ScopePattern[]): Iterable<string> {
    const [only] = patterns;
    return only !== undefined && patterns.length === 1 && !only.includes("*")
      ? [only]
      : this.#coveredBy(patterns);
  }

  *#coveredBy(patterns: readonly ScopePattern[]): Generator<string> {
    const exact = new Set(patterns.filter((pattern) => !pattern.includes("*")));
    yield* exact;
    const wide = patterns.filter((pattern) => pattern.includes("*"));
    if (wide.length === 0) return;
    let last: string | undefined;
    for (const [scope] of this.keysBetween("scopes", [""], [afterAll])) {
      if (scope === last || typeof scope !== "string") continue;
      last = scope;
      if (!exact.has(scope) && wide.some((pattern) => scopeMatches(pattern, scope))) yield scope;
    }
  }
}

export function sessionKey(key: SessionKey): [string, string, string] {
  return [key.scope, key.externalId, key.provider];
}

export function encodeLane(turnId: string, fence: number): Buffer {
  return Buffer.from(`${fence} ${turnId}`);
}

export function decodeLane(value: Buffer): { turnId: string; fence: number } {
  const text = value.toString();
  const space = text.indexOf(" ");
  return { fence: Number(text.slice(0, space)), turnId: text.slice(space + 1) };
}

export function encodeNumber(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleLE(value, 0);
  return bytes;
}

function ownsId(row: SessionRow, query: IdQuery): boolean {
  switch (query.kind) {
    case "session-id":
      return row.sessionId === query.id;
    case "short-id":
      return row.sessionId.replaceAll("-", "").startsWith(query.id);
    case "native-id":
      return row.nativeId === query.id;
    case "alias":
      return row.aliases.some((alias) => alias.id === query.id);
  }
}

export function decodeNumber(value: Buffer): number {
  return value.readDoubleLE(0);
}

function rangeOf(start: Key, end: Key, reverse: boolean, limit?: number) {
  const range = { start: start as MutableKey, end: end as MutableKey, reverse };
  return limit === undefined ? range : { ...range, limit };
}
