#!/usr/bin/env node
// What a long time of mixed load leaves behind: reservations and look-ups, turns
// of an agent that crashes, fails, hangs and is killed, pruning, and kills of the
// broker itself.
//
//   npm run soak [-- [MINUTES] [--write]]     default: 30 minutes
//
// In the first third the broker is killed again and again, and must know every
// session that it has acknowledged. In the rest it stays, and what is compared is
// the second quarter of that time with the last. The agent is
// test/fixtures/fake-claude.mjs. Prints a table, puts it into docs/benchmarks.md
// with --write, and ends with 1 if an acknowledged session was lost, or if
// memory or descriptors grew by more than a tenth. The disk holds what was said
// in each chat, up to a limit that no soak reaches, so its growth is only told.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { startBroker } from "./broker.mjs";
import { median, memoryOf, openFiles, quantile } from "./measure.mjs";
import { writeBlock } from "./report.mjs";

const write = process.argv.includes("--write");
const minutes = Number(process.argv.slice(2).find((arg) => !arg.startsWith("--")) ?? 30);
const totalMs = minutes * 60_000;
/** More than this, and than a little that any time brings, is growth. */
const mostGrowth = 1.1;
const killMs = totalMs / 3;
const kills = 5;
const sessions = 50;
const endKinds = ["completed", "failed", "cancelled", "interrupted"];
/** A turn that takes longer hangs. */
const turnMs = 60_000;
const sampleMs = Math.min(2_000, totalMs / 60);
const pruneMs = Math.min(5_000, totalMs / 20);
/** What pruning leaves in each scope. */
const kept = 2_000;

const root = mkdtempSync(join(tmpdir(), "soak-"));
const data = join(root, "data");
const temporary = join(root, "tmp");
mkdirSync(temporary);
const executable = new URL("../test/fixtures/fake-claude.mjs", import.meta.url).pathname;
const environment = { CLAUDE_CONFIG_DIR: join(root, "config"), TMPDIR: temporary };
const config = JSON.stringify({
  providers: [
    { id: "claude", maxRunning: 8, warm: { ahead: 1 }, claude: { executable, environment } },
    { id: "echo", echo: {} },
  ],
  workspaces: join(root, "workspaces"),
  retention: { eventsBytes: 4 * 2 ** 20 },
});

const connections = new Agent({ keepAlive: true });
const from = performance.now();
const elapsed = () => performance.now() - from;
const counts = {
  reservations: 0,
  "look-ups": 0,
  prunes: 0,
  "kills of the broker": 0,
  "kills of an agent": 0,
};
const endings = {};
const samples = [];
const times = [];
/** Acknowledged, by key; the newest ones only. */
const known = [];
let lost = 0;
/** When the last kill was over. */
let steadyMs = 0;
let broker = await start();
let stopped = false;

try {
  await Promise.all([
    ...Array.from({ length: 4 }, () => repeat(reserveAndFind)),
    ...Array.from({ length: 4 }, (_, lane) => repeat(() => runTurn("claude", lane))),
    ...Array.from({ length: 2 }, (_, lane) => repeat(() => runTurn("echo", lane))),
    repeat(prune),
    sample(),
    killBroker(),
    pause(totalMs).then(() => {
      stopped = true;
    }),
  ]);
  const text = summary();
  process.stdout.write(text);
  if (write) writeBlock("npm run soak -- --write", text);
} finally {
  await broker.stop();
  connections.destroy();
  rmSync(root, { recursive: true, force: true });
}

function start() {
  return startBroker(config, undefined, { TMPDIR: temporary }, data);
}

/** Until the time is up. What meets a broker that is being killed is tried again with the next one. */
async function repeat(work) {
  while (!stopped) {
    const asked = broker;
    try {
      await work();
    } catch (error) {
      if (asked === broker && asked.isRunning()) throw error;
      await pause(50);
    }
  }
}

async function reserveAndFind() {
  const key = { scope: "soak", externalId: randomUUID(), provider: "echo" };
  const { session } = await timed(() => call("Reserve", { key }));
  counts.reservations++;
  known.push({ key, sessionId: session.sessionId });
  if (known.length > 1_000) known.shift();
  const one = known[Math.floor(Math.random() * known.length)];
  await timed(() => call("Reserve", { key: one.key }));
  const { selected } = await timed(() => call("ResolveSelection", { sessionId: one.sessionId }));
  if (selected?.session.sessionId !== one.sessionId) lost++;
  counts["look-ups"] += 2;
  await pause(20);
}

async function runTurn(provider, lane) {
  const words = ["", "", "", "", "[[crash]]", "[[fail 529]]", "[[hang]]", "[[kill]]"];
  const word = provider === "echo" ? "some words to repeat" : words[Math.floor(Math.random() * words.length)];
  const chat = `chat-${lane}-${Math.floor(Math.random() * sessions)}`;
  const turnId = randomUUID();
  const text = word === "[[kill]]" ? "[[hang]]" : `a turn ${word}`;
  const { client } = broker;
  const stream = client.dispatch(
    {
      turnId,
      target: { case: "key", value: { scope: "turns", externalId: chat, provider } },
      input: [{ part: { case: "text", value: text } }],
    },
    { timeoutMs: turnMs },
  );
  let sessionId = "";
  for await (const { event } of stream) {
    const { case: kind, value } = event.event;
    if (kind === "accepted") sessionId = value.session.sessionId;
    if (kind !== "textDelta") {
      if (endKinds.includes(kind)) endings[kind] = (endings[kind] ?? 0) + 1;
    } else if (word === "[[hang]]" || (word === "[[kill]]" && killAgents(sessionId) === 0)) {
      // A process that was started ahead does not carry the session's mark.
      await client.cancelTurn({ turnId });
    }
  }
  await pause(50);
}

async function prune() {
  await pause(pruneMs);
  const archived = { maxSessions: kept, scope: "soak" };
  await call("Prune", archived, "admin-token");
  await call("Prune", { purge: true, olderThan: "1s", scope: "soak" }, "admin-token");
  counts.prunes++;
}

async function killBroker() {
  for (let kill = 0; kill < kills; kill++) {
    await pause(killMs / kills);
    const before = broker;
    await before.kill();
    broker = await start();
    counts["kills of the broker"]++;
    // Of those that a prune cannot have taken yet.
    for (const { key, sessionId } of known.slice(-200)) {
      const { session } = await call("Reserve", { key });
      if (session.sessionId !== sessionId) lost++;
    }
  }
  steadyMs = elapsed();
}

async function sample() {
  while (!stopped) {
    await pause(sampleMs);
    if (!broker.isRunning()) continue;
    const disk = statSync(join(data, "store", "data.mdb")).blocks * 512;
    const { own } = memoryOf(broker.pid);
    samples.push({ atMs: elapsed(), memory: own, files: openFiles(broker.pid), disk });
    if (samples.length % 30 === 0)
      process.stderr.write(`${Math.round(elapsed() / 1000)} s, ${(own / 2 ** 20).toFixed(0)} MiB\n`);
  }
}

function summary() {
  /** Of the time in which the broker stays. */
  const quarter = (values, n) => {
    const step = (totalMs - steadyMs) / 4;
    return values.filter(({ atMs }) => atMs >= steadyMs + n * step && atMs < steadyMs + (n + 1) * step);
  };
  const rows = [];
  const grown = [];
  for (const [what, name, unit, slack] of [
    ["memory without the mapped store, MiB", "memory", 2 ** 20, 16],
    ["open files", "files", 1, 4],
    ["disk of the store, MiB", "disk", 2 ** 20, Number.POSITIVE_INFINITY],
  ]) {
    const [second, last] = [1, 3].map((n) => median(quarter(samples, n).map((each) => each[name])) / unit);
    if (last > second * mostGrowth && last > second + slack) grown.push(what);
    rows.push([what, second.toFixed(0), last.toFixed(0), `${((last / second - 1) * 100).toFixed(0)} %`]);
  }
  for (const q of [0.5, 0.99]) {
    const [second, last] = [1, 3].map((n) =>
      quantile(
        quarter(times, n).map(({ tookMs }) => tookMs),
        q,
      ),
    );
    const percent = `${((last / second - 1) * 100).toFixed(0)} %`;
    rows.push([`Reserve and ResolveSelection, p${q * 100}, ms`, second.toFixed(2), last.toFixed(2), percent]);
  }
  if (lost > 0 || grown.length > 0) process.exitCode = 1;
  const did = Object.entries({ ...counts, ...endings }).map(([what, count]) => `${count} ${what}`);
  return [
    `\`npm run soak -- ${minutes}\` on ${new Date().toISOString().slice(0, 10)}: ${did.join(", ")}; sessions lost: ${lost}.\n`,
    "| | second quarter | last quarter | grown by |",
    "|---|---|---|---|",
    ...rows.map((row) => `| ${row.join(" | ")} |`),
    "",
  ].join("\n");
}

async function timed(work) {
  const at = performance.now();
  const answer = await work();
  times.push({ atMs: elapsed(), tookMs: performance.now() - at });
  return answer;
}

/** With a client that does little itself: JSON over HTTP/1.1. */
async function call(method, message, tokenFile = "token") {
  const authorization = `Bearer ${readFileSync(join(data, tokenFile), "utf8")}`;
  const req = request(`${broker.url}/sessionbroker.v1.SessionBroker/${method}`, {
    method: "POST",
    headers: { authorization, "content-type": "application/json" },
    agent: connections,
  });
  req.end(JSON.stringify(message));
  const [response] = await once(req, "response");
  let text = "";
  for await (const chunk of response) text += chunk;
  if (response.statusCode !== 200) throw new Error(`${method}: ${text}`);
  return JSON.parse(text);
}

/** Of how many processes of the session. */
function killAgents(sessionId) {
  let killed = 0;
  for (const pid of readdirSync("/proc").map(Number).filter(Number.isInteger)) {
    try {
      const variables = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
      const isOurs = variables.includes(`CLAUDE_CONFIG_DIR=${environment.CLAUDE_CONFIG_DIR}`);
      const mark = variables.find((each) => each.startsWith("SESSION_BROKER_CHILD="));
      if (!isOurs || mark?.endsWith(`/${sessionId}`) !== true) continue;
      process.kill(pid, "SIGKILL");
      killed++;
    } catch {
      // It has ended by itself, or is another user's.
    }
  }
  counts["kills of an agent"] += killed;
  return killed;
}
