// A broker for a benchmark, with a client and its memory.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { SessionBroker } from "../../dist/gen/sessionbroker/v1/session_broker_pb.js";

const main = new URL("../../dist/src/main.js", import.meta.url).pathname;

export async function startBroker(config, port, environment = {}) {
  const folder = mkdtempSync(join(tmpdir(), "bench-turns-"));
  const file = join(folder, "config.yaml");
  writeFileSync(file, config);
  const data = join(folder, "data");
  const listen = `127.0.0.1:${port}`;
  const args = ["serve", "--config", file, "--data", data, "--listen", listen, "--metrics-listen", "off"];
  const child = spawn(process.execPath, [main, ...args, "--socket", join(folder, "b.sock")], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env.PATH, HOME: folder, SESSION_BROKER_LOG_LEVEL: "warn", ...environment },
  });
  await once(child.stdout, "data");
  const url = `http://${listen}`;
  const token = readFileSync(join(data, "token"), "utf8");
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
    token,
    client,
    pid: child.pid,
    /** Without the pages of the store, which are the system's to take back. */
    memoryMiB: () =>
      Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0) / 1024,
    terminate,
    async stop() {
      await terminate();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export const quantile = (values, q) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))];
