/**
 * Opens the store in a process of its own and reads it. Whatever the files do
 * to this process, the broker lives.
 *
 * `ends`: the first and the last entry of every database; ends with 0, or with
 * 1 and a line on standard error.
 * `all`: every entry against every other; says what it finds and how far it is
 * in one JSON object a line, and ends with 0 whatever it found. With the id of
 * the store it reads its log as well.
 */
import { writeSync } from "node:fs";
import { open } from "lmdb";
import { DamagedStore } from "./marker.js";
import { readRedoLog } from "./redo-log.js";
import { addedIn, databaseNames, environmentOptions } from "./schema.js";
import { Tables } from "./tables.js";
import { verifyTables } from "./verify.js";

const [, , path, version, extent, storeId] = process.argv;
if (path === undefined || version === undefined) {
  throw new TypeError("usage: preflight-child <path> <schema version> <ends|all [store id]>");
}
const root = open({ ...environmentOptions(path), readOnly: true });
if (extent === "all") {
  const tables = new Tables(root, path);
  // Without a pause, so that everything is read from one snapshot.
  verifyTables(
    tables,
    Number(version),
    (finding) => say({ finding }),
    (progress) => say({ progress }),
  );
  if (storeId !== undefined) readLog(tables, storeId);
} else {
  readEnds(Number(version));
}
await root.close();

function readEnds(schemaVersion: number): void {
  for (const name of Object.values(databaseNames)) {
    const database = root.openDB({ name, encoding: "binary" });
    // A database that was never created opens as nothing in a read-only environment.
    if (database === undefined) {
      if (schemaVersion < (addedIn[name] ?? 0)) continue;
      process.stderr.write(`the database ${name} is missing\n`);
      process.exit(1);
    }
    for (const reverse of [false, true]) {
      for (const { value } of database.getRange({ reverse, limit: 1 })) value.length;
    }
  }
}

function readLog(tables: Tables, storeId: string): void {
  try {
    readRedoLog(tables.path, storeId, tables.loggedThrough());
  } catch (error) {
    if (!(error instanceof DamagedStore)) throw error;
    say({ finding: { table: "", key: "", problem: error.what } });
  }
}

function say(what: object): void {
  writeSync(1, `${JSON.stringify(what)}\n`);
}
