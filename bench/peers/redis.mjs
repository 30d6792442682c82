// Redis that syncs its log before each answer, asked by ioredis, which sends the
// commands of one turn of the event loop together on one connection.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { findProgram } from "../load.mjs";
import { loadPackage } from "./packages.mjs";
import { freePort, startServer } from "./program.mjs";

export const name = "Redis, appendfsync always";

/** Undefined, with a message, where it is not installed. */
export async function start(folder) {
  const program = findProgram("redis-server");
  if (program === undefined)
    return console.error("redis-server is not installed (Debian: redis-server): skipped");
  const Redis = loadPackage("ioredis");
  if (Redis === undefined) return console.error("ioredis cannot be installed: Redis is skipped");
  const port = await freePort();
  const data = join(folder, "redis");
  mkdirSync(data);
  const options = {
    "--port": port,
    "--bind": "127.0.0.1",
    "--dir": data,
    "--save": "",
    "--loglevel": "warning",
  };
  const durable = ["--appendonly", "yes", "--appendfsync", "always"];
  const server = await startServer(
    program,
    [...Object.entries(options).flat().map(String), ...durable],
    port,
  );
  const client = new Redis({ host: "127.0.0.1", port, enableAutoPipelining: true });
  return {
    name,
    pid: server.pid,
    /** Whether the key was free. */
    create: async (key, value) => (await client.set(key, value, "NX")) === "OK",
    async fill(entries) {
      for (let from = 0; from < entries.length; from += 10_000)
        await client.mset(entries.slice(from, from + 10_000).flat());
    },
    async stop() {
      client.disconnect();
      await server.stop();
    },
  };
}
