/**
 * Reads all of a store, and says what in it is damaged: the order of entries, checksums of records,
 * every index entry against its row, every row against its indexes, counts.
 *
 * The store must not change meanwhile: the tables are read from one snapshot.
 */
import { toBufferKey } from "ordered-binary";
import { checks } from "./checks.js";
import { addedIn, type DatabaseName, databaseNames } from "./schema.js";
import type { Key, StoredKey, Tables } from "./tables.js";
import { VerifiedRows } from "./verified-rows.js";

/** One thing that is wrong. */
export interface Finding {
  /** Name of the database. */
  readonly table: string;
  /** Of the entry, as JSON; empty if it is about the database as a whole. */
  readonly key: string;
  readonly problem: string;
}

export interface TableProgress {
  readonly table: string;
  readonly read: number;
  readonly entries: number;
}

const reportEvery = 20_000;
/** Stores of earlier versions may not count them. */
const liveSessionsSince = 2;

/**
 * @param schemaVersion of the store; databases of later versions may be missing
 * @param onProgress told at the start of each database, in it from time to time, and at its end
 */
export function verifyTables(
  tables: Tables,
  schemaVersion: number,
  onFinding: (finding: Finding) => void,
  onProgress: (progress: TableProgress) => void = () => {},
): void {
  const rows = new VerifiedRows(tables, schemaVersion);
  for (const name of Object.keys(databaseNames) as DatabaseName[]) {
    const table = databaseNames[name];
    const report = (key: string, problem: string) => onFinding({ table, key, problem });
    if (!tables.has(name)) {
      if (schemaVersion >= (addedIn[table] ?? 0)) report("", "the table is missing");
      continue;
    }
    try {
      verifyTable(tables, name, rows, report, (read, entries) => onProgress({ table, read, entries }));
    } catch (error) {
      report("", `it cannot be read: ${messageOf(error)}`);
    }
  }
  for (const { table, key, problem } of rows.leftOver(schemaVersion >= liveSessionsSince))
    onFinding({ table, key, problem });
}

function verifyTable(
  tables: Tables,
  name: DatabaseName,
  rows: VerifiedRows,
  report: (key: string, problem: string) => void,
  onProgress: (read: number, entries: number) => void,
): void {
  const entries = tables.entryCount(name);
  let read = 0;
  let last: Buffer = Buffer.alloc(0);
  onProgress(read, entries);
  for (const { key, value } of tables.all(name)) {
    const bytes = keyBytes(key);
    // A page in the place of another repeats its entries, and each is found where it belongs.
    if (Buffer.compare(last, bytes) >= 0)
      report(JSON.stringify(key), "it does not follow the entry before it");
    last = bytes;
    // Walking finds what a look-up may not: an entry out of order, or under the wrong branch.
    if (tables.get(name, key) === undefined) report(JSON.stringify(key), "it is not found by its key");
    for (const problem of problemsOf(name, key, value, rows)) report(JSON.stringify(key), problem);
    read += 1;
    if (read % reportEvery === 0) onProgress(read, entries);
  }
  if (read !== entries) report("", `it holds ${entries} entries, and ${read} could be read`);
  onProgress(read, entries);
}

/** In which lmdb orders keys. */
function keyBytes(key: StoredKey): Buffer {
  return toBufferKey(key as string[] | string | number);
}

function problemsOf(
  name: DatabaseName,
  key: Key | number | string,
  value: Buffer,
  rows: VerifiedRows,
): readonly string[] {
  try {
    return [...checks[name](key, value, rows)];
  } catch (error) {
    return [messageOf(error)];
  }
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split(";")[0] ?? message;
}
