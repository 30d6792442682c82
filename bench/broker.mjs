// A broker for a benchmark, with a client and its memory.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { SessionBroker } from "../dist/gen/sessionbroker/v1/session_broker_pb.js";
import { memoryOf } from "./measure.mjs";
import { endWithParent, freePort } from "./peers/program.mjs";

const main = new URL("../dist/src/main.js", import.meta.url).pathname;

/**
 * @param fixedPort default: a free one
 * @param data the data directory, which stays. Default: one of its own, removed when it is stopped
 * @param nodeOptions of Node.js. Default: none, as `session-broker start` gives none
 */
export async function startBroker(config, fixedPort, environment = {}, data = undefined, nodeOptions = []) {
  const port = fixedPort ?? (await freePort());
  const folder = mkdtempSync(join(tmpdir(), "bench-broker-"));
  const kept = data ?? join(folder, "data");
  const file = join(folder, "config.yaml");
  writeFileSync(file, config);
  const listen = `127.0.0.1:${port}`;
  const args = ["serve", "--config", file, "--data", kept, "--listen", listen, "--metrics-listen", "off"];
  const child = spawn(process.execPath, [...nodeOptions, main, ...args, "--socket", join(folder, "b.sock")], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env.PATH, HOME: folder, SESSION_BROKER_LOG_LEVEL: "warn", ...environment },
  });
  endWithParent(child);
  await once(child.stdout, "data");
  const url = `http://${listen}`;
  const token = readFileSync(join(kept, "token"), "utf8");
  const authorize = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const client = createClient(
    SessionBroker,
    createGrpcTransport({ baseUrl: url, interceptors: [authorize] }),
  );
  const terminate = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  };
  return {
    url,
    port,
    token,
    client,
    pid: child.pid,
    /** Without the pages of the store, which are the system's to take back. */
    memoryMiB: () => memoryOf(child.pid).own / 2 ** 20,
    terminate,
    /** And nobody has killed it. */
    isRunning: () => child.exitCode === null && !child.killed,
    async kill() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
    async stop() {
      await terminate();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
