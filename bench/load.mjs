// Load on a server: wrk for HTTP/1.1, h2load for gRPC, and loops in this process
// for stores that are asked through a client of Node. Each answers
// `{ requests, seconds, p50, p99, p999 }`, the last three in milliseconds, and those
// over a network also how many bytes they were answered.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { quantile } from "./measure.mjs";

const script = new URL("load.lua", import.meta.url).pathname;

/** Seconds. A busy machine may have answered nothing in a short time, which is then doubled. */
const longest = 16;

/** The path of a program, or undefined. */
export function findProgram(name, folders = []) {
  for (const folder of [...folders, ...(process.env.PATH ?? "").split(delimiter)]) {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // Not in this one.
    }
  }
  return undefined;
}

/**
 * @param request `{ url, token, body, numbers, step, enveloped }`: `body` is JSON, with one conversion of C's
 *   printf for a number; `numbers` is "count", or how many there are to draw from; what is drawn is
 *   multiplied by `step` (1); `enveloped` if the answer is a stream
 * @param pauseMs mean pause of each connection before its next request. Default: none.
 */
export async function wrk(request, { connections, seconds, pauseMs = 0 }) {
  const { url, token = "", body, numbers = 1, step = 1, enveloped = false } = request;
  const load = ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "30s", "-s", script, url, "--"];
  const contentType = enveloped ? "application/connect+json" : "application/json";
  const envelope = enveloped ? "yes" : "no";
  const output = await run("wrk", [
    ...load,
    contentType,
    token,
    body,
    `${numbers}`,
    `${pauseMs}`,
    envelope,
    `${step}`,
  ]);
  const result = JSON.parse(output.trim().split("\n").at(-1));
  if (result.requests === 0 && seconds < longest) {
    return wrk(request, { connections, seconds: seconds * 2, pauseMs });
  }
  if (result.refused + result.broken > 0 || result.requests === 0) {
    throw new Error(`${url}: ${result.refused} of ${result.requests} refused, ${result.broken} broken`);
  }
  return result;
}

/** gRPC over HTTP/2, one request at a time on each connection. `body` is the message. */
export async function h2load(request, { connections, seconds }) {
  const { url, token = "", body = Buffer.alloc(0) } = request;
  const folder = mkdtempSync(join(tmpdir(), "bench-h2load-"));
  try {
    const [data, log] = [join(folder, "body"), join(folder, "log")];
    const envelope = Buffer.alloc(5);
    envelope.writeUInt32BE(body.length, 1);
    writeFileSync(data, Buffer.concat([envelope, body]));
    const headers = ["-H", "content-type: application/grpc+proto", "-H", "te: trailers"];
    if (token !== "") headers.push("-H", `authorization: Bearer ${token}`);
    const load = ["-t1", `-c${connections}`, "-m1", `-D${seconds}`, `--log-file=${log}`, `-d${data}`];
    const output = await run("h2load", [...load, ...headers, url]);
    const rows = readFileSync(log, "utf8").split("\n").slice(0, -1);
    if (rows.length === 0 && seconds < longest) {
      return await h2load(request, { connections, seconds: seconds * 2 });
    }
    const answers = rows.map((row) => row.split("\t").map(Number));
    const bytes = Number(/\((\d+)\) data/.exec(output)?.[1]);
    // An error of gRPC has status 200 too, but no message.
    const refused = answers.some(([, status]) => status !== 200) || bytes < rows.length * envelope.length;
    if (refused || rows.length === 0) throw new Error(`${url} was not answered: ${output}`);
    const times = answers.map(([, , microseconds]) => microseconds / 1000);
    return { requests: rows.length, bytes, seconds, ...percentiles(times) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** As many loops at once as there are connections. `ask` is given a number of its own each time. */
export async function loops(ask, { connections, seconds }) {
  const times = [];
  const from = performance.now();
  const end = from + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (let at = performance.now(); at < end; at = performance.now()) {
        await ask();
        times.push(performance.now() - at);
      }
    }),
  );
  return { requests: times.length, seconds: (performance.now() - from) / 1000, ...percentiles(times) };
}

const percentiles = (times) => ({
  p50: quantile(times, 0.5),
  p99: quantile(times, 0.99),
  p999: quantile(times, 0.999),
});

async function run(command, args) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  const [status] = await once(child, "close");
  if (status !== 0) throw new Error(`${command} ended with ${status}: ${output}`);
  return output;
}
