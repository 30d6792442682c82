// PostgreSQL as it is set up by default, so that a commit is on disk, asked by pg
// with a prepared statement on a pool of connections.
import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { findProgram } from "../load.mjs";
import { loadPackage } from "./packages.mjs";
import { freePort, ordinaryUser, startServer } from "./program.mjs";

export const name = "PostgreSQL, synchronous_commit on";
/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const stillStarting = "57P03";

/** Undefined, with a message, where it is not installed. */
export async function start(folder, connections) {
  const programs = debianFolders();
  const [initdb, postgres] = ["initdb", "postgres"].map((program) => findProgram(program, programs));
  if (initdb === undefined || postgres === undefined)
    return console.error("postgres is not installed (Debian: postgresql): skipped");
  const pg = loadPackage("pg");
  if (pg === undefined) return console.error("pg cannot be installed: PostgreSQL is skipped");
  const user = ordinaryUser();
  const data = join(folder, "postgres");
  mkdirSync(data);
  if (user.uid !== undefined) chownSync(data, user.uid, user.gid);
  const locale = ["--locale=C", "--encoding=UTF8"];
  execFileSync(initdb, ["-D", data, "-A", "trust", "-U", "bench", ...locale], {
    ...user,
    cwd: data,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const port = await freePort();
  const settings = [`port=${port}`, "listen_addresses=127.0.0.1", "synchronous_commit=on", "fsync=on"];
  settings.push(
    `max_connections=${connections + 8}`,
    `unix_socket_directories=${data}`,
    "log_min_messages=panic",
  );
  const args = ["-D", data, ...settings.flatMap((setting) => ["-c", setting])];
  const server = await startServer(postgres, args, port, { ...user, cwd: data });
  const pool = new pg.Pool({
    host: "127.0.0.1",
    port,
    user: "bench",
    database: "postgres",
    max: connections,
  });
  await onceStarted(() => pool.query("CREATE TABLE sessions (key text PRIMARY KEY, value text NOT NULL)"));
  const text = "INSERT INTO sessions VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING value";
  return {
    name,
    pid: server.pid,
    create: async (key, value) =>
      (await pool.query({ name: "reserve", text, values: [key, value] })).rowCount === 1,
    fill: (entries) =>
      pool.query("INSERT INTO sessions SELECT * FROM unnest($1::text[], $2::text[])", [
        entries.map(([key]) => key),
        entries.map(([, value]) => value),
      ]),
    async stop() {
      await pool.end();
      await server.stop();
    },
  };
}

/** It listens before it answers. */
async function onceStarted(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (error.code !== stillStarting) throw error;
      await pause(50);
    }
  }
}

/** Newest first. */
function debianFolders() {
  const root = "/usr/lib/postgresql";
  try {
    const versions = readdirSync(root).toSorted((a, b) => Number(b) - Number(a));
    return versions.map((version) => join(root, version, "bin"));
  } catch {
    return [];
  }
}
