// What identity costs in small and in large stores: look-ups, reservations,
// pruning, opening. `node bench/identity.mjs [rows of the large store] [rows of a prune] [--check] [--json]`
// Prints medians and ratios within this run; absolute times are this machine's.
// --check ends with 1 unless the costs are those of stores that scan nothing;
// --json adds a line with the figures of the large store.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { memoryOf, quantile } from "./measure.mjs";
import { fillStore, idOf, keyOf } from "./rows.mjs";

const numbers = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
const check = process.argv.includes("--check");
const large = Number(numbers[0] ?? 100_000);
const pruned = Number(numbers[1] ?? large / 5);
const small = 10_000;
const middle = Math.min(100_000, large / 2);
const calls = check ? 1_500 : 4_000;
/** What else runs on the machine may spoil one measurement, not three. */
const attempts = check ? 3 : 1;
const mostRatio = 1.3;
const mostPruneRatio = 5;
const main = new URL("../dist/src/main.js", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "bench-identity-"));

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
    "--metrics-listen",
    "off",
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
  await call("GetSession", { key: keyOf(0) }).catch(() => {});
  const openMs = performance.now() - from;
  const stop = async () => {
    agent.destroy();
    child.kill("SIGTERM");
    await once(child, "exit");
  };
  const memory = () => memoryOf(child.pid);
  return { call, stop, openMs, memory };
}

/** Median times of the same call on two brokers, asked in turns, so that a busy machine is busy for both. */
async function compare(brokers, run) {
  const times = brokers.map(() => []);
  for (let i = 0; i < calls; i++) {
    for (const [index, broker] of brokers.entries()) {
      const from = performance.now();
      await run(broker, i);
      times[index].push(performance.now() - from);
    }
  }
  return times.map((each) => quantile(each, 0.5));
}

const ratioOf = ([few, many]) => many / few;

/** The call's medians; measured again, if it is to be checked, while the ratio is too large. */
async function compareWithin(brokers, run) {
  let best = await compare(brokers, run);
  for (let attempt = 1; attempt < attempts && ratioOf(best) > mostRatio; attempt++) {
    const again = await compare(brokers, run);
    if (ratioOf(again) < ratioOf(best)) best = again;
  }
  return best;
}

async function lookups(brokers) {
  const any = ({ rows }) => Math.floor(Math.random() * rows);
  const reserve = (broker) => broker.call("Reserve", { key: keyOf(any(broker)) });
  await compare(brokers, reserve);
  return {
    "Reserve, existing": await compareWithin(brokers, reserve),
    "ResolveSelection by key": await compareWithin(brokers, (broker) =>
      broker.call("ResolveSelection", { key: keyOf(any(broker)) }),
    ),
    "ResolveSelection by session id": await compareWithin(brokers, (broker) =>
      broker.call("ResolveSelection", { sessionId: idOf(any(broker)) }),
    ),
    GetSession: await compareWithin(brokers, (broker) =>
      broker.call("GetSession", { key: keyOf(any(broker)) }),
    ),
    "Reserve, new (durable)": await compareWithin(brokers, (broker, i) =>
      broker.call("Reserve", { key: { scope: "fresh", externalId: `new-${i}`, provider: "echo" } }),
    ),
  };
}

async function timePrune(broker, limit) {
  const from = performance.now();
  const { archived = 0 } = await broker.call("Prune", { olderThan: `${30 * 24 * 3600}s`, limit });
  return { ms: performance.now() - from, archived };
}

try {
  const idle = Math.min(20_000, middle / 2);
  const stores = {};
  for (const [name, rows, firstIdle] of [
    ["small", small, 0],
    ["middle", middle, idle],
    ["large", large, pruned + idle],
  ]) {
    const data = join(folder, name);
    const from = performance.now();
    const bytes = await fillStore(data, rows, { idle: firstIdle });
    stores[name] = { data, rows, bytes, fillMs: performance.now() - from };
  }
  const start = async (name, port) =>
    Object.assign(await serve(stores[name].data, port), { rows: stores[name].rows });
  const [smallOne, largeOne] = [await start("small", 17_410), await start("large", 17_411)];
  const medians = await lookups([smallOne, largeOne]);
  // After the same calls: what the large store takes beyond the small one is for its sessions.
  const forSessions = largeOne.memory().own - smallOne.memory().own;
  const forMillion = (forSessions / (large - small)) * 1e6;
  await smallOne.stop();
  const middleOne = await start("middle", 17_412);
  const prunes = { middle: await timePrune(middleOne, idle / 2), large: await timePrune(largeOne, idle / 2) };
  await middleOne.stop();
  const pruning = largeOne.call("Prune", { olderThan: `${30 * 24 * 3600}s`, limit: pruned });
  let running = true;
  const done = pruning.finally(() => {
    running = false;
  });
  const times = [];
  for (let i = 0; running; i++) {
    const from = performance.now();
    await largeOne.call("Reserve", { key: { scope: "meanwhile", externalId: `m-${i}`, provider: "echo" } });
    times.push(performance.now() - from);
  }
  const { archived = 0 } = await done;
  const memory = largeOne.memory();
  await largeOne.stop();

  const ms = (value) => `${value.toFixed(2)} ms`;
  const mib = (value) => `${(value / 2 ** 20).toFixed(0)} MiB`;
  console.log(`\n| p50, one client | ${small} sessions | ${large} sessions | ratio |\n|---|---|---|---|`);
  for (const [what, [few, many]] of Object.entries(medians)) {
    console.log(`| ${what} | ${ms(few)} | ${ms(many)} | ${ratioOf([few, many]).toFixed(2)} |`);
  }
  const pruneRatio = prunes.large.ms / prunes.middle.ms;
  console.log(
    `\nprune of ${prunes.middle.archived} rows: ${ms(prunes.middle.ms)} in ${middle} sessions, ${ms(prunes.large.ms)} in ${large}: ratio ${pruneRatio.toFixed(2)}`,
  );
  console.log(
    `Reserve while ${archived} rows are pruned: p50 ${ms(quantile(times, 0.5))}, p99 ${ms(quantile(times, 0.99))} (${times.length} calls)`,
  );
  console.log(
    `from start to first answer: ${ms(smallOne.openMs)} with ${small} sessions, ${ms(largeOne.openMs)} with ${large}`,
  );
  const { bytes, fillMs } = stores.large;
  console.log(
    `disk: ${(bytes / large).toFixed(0)} bytes a session; filled at ${Math.round((large / fillMs) * 1000)} rows/s; memory ${mib(memory.own)} of its own, ${mib(memory.resident)} with what is mapped of ${mib(bytes)}`,
  );
  if (process.argv.includes("--json"))
    console.log(
      JSON.stringify({
        ...{ sessions: large, bytesPerSession: bytes / large, ownMemory: memory.own },
        memoryPerMillion: forMillion,
      }),
    );
  if (check) {
    const costly = Object.entries(medians).filter(([, each]) => ratioOf(each) > mostRatio);
    const failures = costly.map(([what]) => `${what}: more than ${mostRatio} times as long`);
    if (pruneRatio > mostPruneRatio) failures.push(`prune: more than ${mostPruneRatio} times as long`);
    console.log(failures.length === 0 ? "check: passed" : `check: FAILED: ${failures.join("; ")}`);
    if (failures.length > 0) process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
