/**
 * Opens the store in a process of its own, reads the first and the last entry
 * of every database, or all of them, and ends with 0. Whatever the files do to this process,
 * the broker lives.
 */
import { open } from "lmdb";
import { addedIn, databaseNames, environmentOptions } from "./schema.js";

const [, , path, version, extent] = process.argv;
if (path === undefined || version === undefined) {
  throw new TypeError("usage: preflight-child <path> <schema version> <ends|all>");
}
const root = open({ ...environmentOptions(path), readOnly: true });
for (const name of Object.values(databaseNames)) {
  const database = root.openDB({ name, encoding: "binary" });
  // A database that was never created opens as nothing in a read-only environment.
  if (database === undefined) {
    if (Number(version) < (addedIn[name] ?? 0)) continue;
    process.stderr.write(`the database ${name} is missing\n`);
    process.exit(1);
  }
  if (extent === "all") {
    for (const { value } of database.getRange({ snapshot: true })) value.length;
    continue;
  }
  for (const reverse of [false, true]) {
    for (const { value } of database.getRange({ reverse, limit: 1 })) value.length;
  }
}
await root.close();
