/** What a scan has to remember of the rows that it has read, to judge what belongs to them. */
import type { SessionRow } from "../../sessions/session.js";
import { hasEnded, type TurnRow } from "../../turns/turn.js";
import { hasIdEntry, hasOldIdEntry, type IdEntry } from "./ids.js";
import { databaseNames } from "./schema.js";
import { decodeNumber, type Key, type Tables } from "./tables.js";
import type { Finding } from "./verify.js";

interface Counts {
  live: number;
  archived: number;
}

export class VerifiedRows {
  readonly #recordNos = new Set<number>();
  readonly #counts = new Map<string, Counts>();
  readonly #historyBytes = new Map<number, number>();
  readonly #grantBytes = new Map<string, number>();
  #liveSessions = 0;

  constructor(
    readonly tables: Tables,
    /** Of the store. From 3 on rows say whether their lane is in use, and ids have entries of their own. */
    readonly schemaVersion: number,
  ) {}

  addSession(row: SessionRow): void {
    this.#recordNos.add(row.recordNo);
    const counts = this.countsOf(row.key.scope, row.key.provider);
    if (row.archived === undefined) this.#liveSessions += 1;
    counts[row.archived === undefined ? "live" : "archived"] += 1;
    this.#counts.set(placeName(row.key.scope, row.key.provider), counts);
  }

  /** Rows of a scope and provider that were read, live and archived. */
  countsOf(scope: string, provider: string): Counts {
    return this.#counts.get(placeName(scope, provider)) ?? { live: 0, archived: 0 };
  }

  /** What hangs on the row belongs to a session that is there, or that is being deleted. */
  hasRecord(recordNo: number): boolean {
    return this.#recordNos.has(recordNo) || this.isGarbage(recordNo);
  }

  isGarbage(recordNo: number): boolean {
    return this.tables.has("garbage") && this.tables.get("garbage", recordNo) !== undefined;
  }

  addHistory(recordNo: number, bytes: number): void {
    this.#historyBytes.set(recordNo, (this.#historyBytes.get(recordNo) ?? 0) + bytes);
  }

  historyBytes(recordNo: number): number {
    return this.#historyBytes.get(recordNo) ?? 0;
  }

  addKept(grant: string, bytes: number): void {
    this.#grantBytes.set(grant, (this.#grantBytes.get(grant) ?? 0) + bytes);
  }

  keptBytes(grant: string): number {
    return this.#grantBytes.get(grant) ?? 0;
  }

  /** Whether the entry is there. Of a table that is missing as a whole it is not asked. */
  has(table: keyof typeof databaseNames, key: Key | number): boolean {
    return !this.tables.has(table) || this.tables.get(table, key) !== undefined;
  }

  /** Whether the id leads to its row. Of a table that is missing as a whole it is not asked. */
  hasId(entry: IdEntry): boolean {
    if (!this.tables.has("ids")) return true;
    return hasIdEntry(this.tables, entry) || (this.schemaVersion < 3 && hasOldIdEntry(this.tables, entry));
  }

  turn(turnNo: number): TurnRow | undefined {
    try {
      return this.tables.turn(turnNo);
    } catch {
      // Told where the row itself is read.
      return undefined;
    }
  }

  session(key: SessionRow["key"], recordNo: number): SessionRow | undefined {
    try {
      return this.tables.row(key, recordNo);
    } catch {
      return undefined;
    }
  }

  /** That of the key. */
  current(key: SessionRow["key"]): SessionRow | undefined {
    try {
      return this.tables.current(key);
    } catch {
      return undefined;
    }
  }

  /** Counts that nothing was found for. */
  *leftOver(countsSessions: boolean): Generator<Finding> {
    const { scopes, meta, grantEvents, historySizes } = databaseNames;
    for (const [name, { live, archived }] of this.#counts) {
      if (this.has("scopes", name.split("\n"))) continue;
      yield {
        table: scopes,
        key: JSON.stringify(name.split("\n")),
        problem: `no entry for ${live + archived} rows`,
      };
    }
    for (const recordNo of this.#historyBytes.keys()) {
      if (this.has("historySizes", recordNo) || this.isGarbage(recordNo)) continue;
      yield { table: historySizes, key: String(recordNo), problem: "no entry for a kept conversation" };
    }
    for (const grant of this.#grantBytes.keys()) {
      if (!this.tables.has("grantEvents")) break;
      const held = this.tables.get("grantEvents", grant);
      if (held !== undefined && decodeNumber(held) === this.keptBytes(grant)) continue;
      yield { table: grantEvents, key: JSON.stringify(grant), problem: "its sum is not that of its turns" };
    }
    if (!countsSessions) return;
    const counted = this.#liveSessionsCounted();
    if (counted !== undefined && counted !== this.#liveSessions) {
      const problem = `it counts ${counted} live sessions, and there are ${this.#liveSessions}`;
      yield { table: meta, key: '"counters"', problem };
    }
  }

  /** Undefined if the count cannot be read, which is told where it is. */
  #liveSessionsCounted(): number | undefined {
    try {
      return this.tables.counters().liveSessions;
    } catch {
      return undefined;
    }
  }
}

/** Whether the turn has, or waits for, the lane of its session. */
export function isInLane({ state }: TurnRow): boolean {
  return !hasEnded(state) && state !== "MERGED";
}

function placeName(scope: string, provider: string): string {
  return `${scope}\n${provider}`;
}
