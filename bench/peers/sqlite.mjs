// Reserve over SQLite: plain connect-node in front of better-sqlite3, which is
// synchronous, with a write-ahead log that is on disk at every commit. Run as a
// program: `node sqlite.mjs FILE [ROWS]`; fills ROWS sessions, prints its port.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { SessionBroker } from "../../dist/gen/sessionbroker/v1/session_broker_pb.js";
import { Outcome } from "../../dist/gen/sessionbroker/v1/session_pb.js";
import { keyOf } from "../rows.mjs";
import { loadPackage } from "./packages.mjs";

const [file, rows = "0"] = process.argv.slice(2);
const Database = loadPackage("better-sqlite3");
const database = new Database(file);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
database.exec(`CREATE TABLE sessions (
  scope TEXT, external_id TEXT, provider TEXT, session_id TEXT UNIQUE, created_ms INTEGER,
  PRIMARY KEY (scope, external_id, provider)) WITHOUT ROWID`);
const find = database
  .prepare("SELECT session_id FROM sessions WHERE scope = ? AND external_id = ? AND provider = ?")
  .pluck();
const insert = database.prepare("INSERT INTO sessions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING");
database.transaction(() => {
  for (let i = 0; i < Number(rows); i++) {
    const { scope, externalId, provider } = keyOf(i);
    insert.run(scope, externalId, provider, randomUUID(), Date.now());
  }
})();

function reserve({ key }) {
  const { scope, externalId, provider } = key;
  const found = find.get(scope, externalId, provider);
  if (found !== undefined) return { session: { key, sessionId: found }, outcome: Outcome.EXISTING };
  const sessionId = randomUUID();
  insert.run(scope, externalId, provider, sessionId, Date.now());
  return { session: { key, sessionId }, outcome: Outcome.CREATED };
}

const server = createServer(
  connectNodeAdapter({ routes: (router) => router.service(SessionBroker, { reserve }) }),
);
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
console.log(JSON.stringify({ http: server.address().port }));
