// Starts and stops the other programs of a benchmark.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const startMs = 20_000;

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/**
 * A server of this folder, in a process of its own, which says its ports in one line of JSON.
 */
export async function startPeer(name, args = []) {
  const file = new URL(`${name}.mjs`, import.meta.url).pathname;
  const child = spawn(process.execPath, [file, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH, NODE_ENV: "production" },
  });
  // Once it listens, it complains of clients that leave in the middle of an answer.
  let complaints = "";
  child.stderr.on("data", (chunk) => {
    complaints = `${complaints}${chunk}`.slice(-2_000);
  });
  endWithParent(child);
  const [line] = await Promise.race([
    once(createInterface(child.stdout), "line"),
    once(child, "exit").then(() => {
      throw new Error(`${name} ended before it listened: ${complaints}`);
    }),
  ]);
  return { ...JSON.parse(line), pid: child.pid, stop: () => stop(child) };
}

/** A program that listens on a port of loopback some time after its start. */
export async function startServer(command, args, port, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options });
  endWithParent(child);
  const until = performance.now() + startMs;
  while (!(await listens(port))) {
    if (child.exitCode !== null || performance.now() > until) {
      await stop(child);
      throw new Error(`${command} does not listen on ${port}`);
    }
    await pause(50);
  }
  return { pid: child.pid, stop: () => stop(child) };
}

/** Whom a server that refuses to run as root runs as, for `spawn`. */
export function ordinaryUser() {
  if (process.getuid() !== 0) return {};
  const idOf = (flag) => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
  return { uid: idOf("-u"), gid: idOf("-g") };
}

/** Whatever ends the benchmark, what it started ends with it. */
export function endWithParent(child) {
  const end = () => child.kill("SIGTERM");
  process.once("exit", end);
  child.once("exit", () => process.removeListener("exit", end));
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  await once(child, "exit");
}

async function listens(port) {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
