// What identity costs in small and in large stores: look-ups, reservations,
// pruning, opening. `node bench/identity.mjs [rows of the large store] [rows of a prune]`
// Prints medians and ratios within this run; absolute times are this machine's.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStore } from "../dist/src/store/lmdb/open.js";

const large = Number(process.argv[2] ?? 100_000);
const pruned = Number(process.argv[3] ?? large / 5);
const small = 10_000;
const middle = Math.min(100_000, large);
const calls = 4_000;
const main = new URL("../dist/src/main.js", import.meta.url).pathname;
const day = 24 * 3_600_000;
const folder = mkdtempSync(join(tmpdir(), "bench-identity-"));

const key = (i) => ({ scope: `tenant-${i % 10}`, externalId: `chat-${i}`, provider: "echo" });
const idOf = (i) => `00000000-0000-4000-8000-${i.toString(16).padStart(12, "0")}`;

async function fill(data, rows, firstIdle = 0) {
  const now = Date.now();
  const opened = await openStore({
    path: join(data, "store"),
    now: Date.now,
    writer: "inline",
    onLost: (e) => {
      throw e;
    },
  });
  for (let from = 0; from < rows; from += 2_000) {
    const batch = Array.from({ length: Math.min(2_000, rows - from) }, (_, n) => {
      const i = from + n;
      const at = i < firstIdle ? now - 60 * day + i : now - i;
      return {
        key: key(i),
        sessionId: idOf(i),
        aliases: [],
        labels: {},
        workspace: "",
        createdAtMs: at,
        startedAtMs: at,
        lastActivityMs: at,
      };
    });
    await opened.store.importRows({ rows: batch, callerScopes: ["*"] });
    if (process.stderr.isTTY && from % 100_000 === 0)
      process.stderr.write(`\r${data.split("/").at(-1)}: ${from} rows `);
  }
  const bytes = opened.bytes();
  await opened[Symbol.asyncDispose]();
  return bytes;
}

async function serve(data, port) {
  const from = performance.now();
  const args = [
    main,
    "serve",
    "--data",
    data,
    "--listen",
    `127.0.0.1:${port}`,
    "--socket",
    join(folder, `${port}.sock`),
  ];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, SESSION_BROKER_LOG_LEVEL: "warn" },
  });
  await once(child.stdout, "data");
  const agent = new Agent({ keepAlive: true });
  const token = readFileSync(join(data, "admin-token"), "utf8");
  const call = (method, body) =>
    new Promise((resolve, reject) => {
      const text = JSON.stringify(body);
      const headers = {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
      };
      const path = `/sessionbroker.v1.SessionBroker/${method}`;
      const req = request({ agent, host: "127.0.0.1", port, path, method: "POST", headers }, (res) => {
        const chunks = [];
        res.on("data", (chunk) => chunks.push(chunk));
        res.on("end", () => {
          const answer = JSON.parse(Buffer.concat(chunks).toString());
          if (res.statusCode === 200) resolve(answer);
          else reject(new Error(`${method}: ${JSON.stringify(answer)}`));
        });
      });
      req.on("error", reject);
      req.end(text);
    });
  await call("GetSession", { key: key(0) }).catch(() => {});
  const openMs = performance.now() - from;
  const stop = async () => {
    agent.destroy();
    child.kill("SIGTERM");
    await once(child, "exit");
  };
  const memory = () =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  return { call, stop, openMs, memory };
}

const quantile = (times, q) =>
  times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * q))];

async function measure(run) {
  const times = [];
  for (let i = 0; i < calls; i++) {
    const from = performance.now();
    await run(i);
    times.push(performance.now() - from);
  }
  return quantile(times, 0.5);
}

async function lookups(broker, rows) {
  const any = () => Math.floor(Math.random() * rows);
  await measure(() => broker.call("Reserve", { key: key(any()) }));
  return {
    "Reserve, existing": await measure(() => broker.call("Reserve", { key: key(any()) })),
    "ResolveSelection by key": await measure(() => broker.call("ResolveSelection", { key: key(any()) })),
    "ResolveSelection by session id": await measure(() =>
      broker.call("ResolveSelection", { sessionId: idOf(any()) }),
    ),
    GetSession: await measure(() => broker.call("GetSession", { key: key(any()) })),
    "Reserve, new (durable)": await measure((i) =>
      broker.call("Reserve", { key: { scope: "fresh", externalId: `new-${rows}-${i}`, provider: "echo" } }),
    ),
  };
}

async function timePrune(broker, limit) {
  const from = performance.now();
  const { archived = 0 } = await broker.call("Prune", { olderThan: `${30 * 24 * 3600}s`, limit });
  return { ms: performance.now() - from, archived };
}

try {
  const idle = 20_000;
  const stores = {};
  for (const [name, rows, firstIdle] of [
    ["small", small, 0],
    ["middle", middle, idle],
    ["large", large, pruned + idle],
  ]) {
    const data = join(folder, name);
    const from = performance.now();
    const bytes = await fill(data, rows, firstIdle);
    stores[name] = { data, rows, bytes, fillMs: performance.now() - from };
  }
  const results = {};
  for (const [index, name] of ["small", "large", "middle"].entries()) {
    const { data, rows } = stores[name];
    const broker = await serve(data, 17_410 + index);
    results[name] = { openMs: broker.openMs, lookups: await lookups(broker, rows) };
    if (name !== "small") results[name].prune = await timePrune(broker, idle / 2);
    if (name === "large") {
      const pruning = broker.call("Prune", { olderThan: `${30 * 24 * 3600}s`, limit: pruned });
      let running = true;
      const done = pruning.finally(() => {
        running = false;
      });
      const times = [];
      for (let i = 0; running; i++) {
        const from = performance.now();
        await broker.call("Reserve", { key: { scope: "meanwhile", externalId: `m-${i}`, provider: "echo" } });
        times.push(performance.now() - from);
      }
      const { archived = 0 } = await done;
      results.large.meanwhile = {
        archived,
        count: times.length,
        p50: quantile(times, 0.5),
        p99: quantile(times, 0.99),
      };
      results.large.rss = broker.memory();
    }
    await broker.stop();
  }
  const ms = (value) => `${value.toFixed(2)} ms`;
  console.log(`\n| p50, one client | ${small} sessions | ${large} sessions | ratio |\n|---|---|---|---|`);
  for (const [what, value] of Object.entries(results.small.lookups)) {
    const other = results.large.lookups[what];
    console.log(`| ${what} | ${ms(value)} | ${ms(other)} | ${(other / value).toFixed(2)} |`);
  }
  const { middle: m, large: l } = results;
  console.log(
    `\nprune of ${m.prune.archived} rows: ${ms(m.prune.ms)} in ${middle} sessions, ${ms(l.prune.ms)} in ${large}: ratio ${(l.prune.ms / m.prune.ms).toFixed(2)}`,
  );
  console.log(
    `Reserve while ${l.meanwhile.archived} rows are pruned: p50 ${ms(l.meanwhile.p50)}, p99 ${ms(l.meanwhile.p99)} (${l.meanwhile.count} calls)`,
  );
  console.log(
    `from start to first answer: ${ms(results.small.openMs)} with ${small} sessions, ${ms(l.openMs)} with ${large}`,
  );
  console.log(
    `disk: ${(stores.large.bytes / large).toFixed(0)} bytes a session; filled at ${Math.round((large / stores.large.fillMs) * 1000)} rows/s; resident memory ${(l.rss / 2 ** 20).toFixed(0)} MiB of which the mapped file is a part (${(statSync(join(stores.large.data, "store", "data.mdb")).size / 2 ** 20).toFixed(0)} MiB)`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
