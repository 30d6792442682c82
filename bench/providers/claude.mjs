#!/usr/bin/env node
// How long a chat waits for the first text of Claude Code: started by hand for
// each turn, and behind the OpenAI-compatible adapter, where its process stays.
//
//   npm run build && node bench/providers/claude.mjs CLAUDE [ROUNDS]
//
// CLAUDE is the path of the executable. The model is
// test/fixtures/model-server.mjs on loopback, which answers at once. Both ways
// take turns, five of each in a row, so that a busy machine is busy for both.
// Prints a table.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { startBroker } from "../broker.mjs";
import { quantile } from "../measure.mjs";

const [claude, rounds = "10"] = process.argv.slice(2);
if (claude === undefined) {
  process.stderr.write("usage: node bench/providers/claude.mjs CLAUDE [ROUNDS]\n");
  process.exit(2);
}
const crowd = 8;
/** Of `echo`, before all else: people ask brokers that have run for a while. */
const turnsBefore = 300;
const inARow = 5;
/** Longer than processes that rest take to collect what they have left, which the one by hand must not pay for. */
const tidyMs = 12_000;
const ports = { broker: 17_430, adapter: 17_431 };
const root = mkdtempSync(join(tmpdir(), "bench-claude-"));
for (const folder of ["home", "tmp", "workspace"]) mkdirSync(join(root, folder));

const model = spawn(
  process.execPath,
  [new URL("../../test/fixtures/model-server.mjs", import.meta.url).pathname],
  {
    env: {},
    stdio: ["ignore", "pipe", "inherit"],
  },
);
const [line] = await once(createInterface(model.stdout), "line");
const environment = {
  HOME: join(root, "home"),
  TMPDIR: join(root, "tmp"),
  CLAUDE_CODE_TMPDIR: join(root, "tmp"),
  CLAUDE_CONFIG_DIR: join(root, "config"),
  ANTHROPIC_BASE_URL: `http://127.0.0.1:${JSON.parse(line).port}`,
  ANTHROPIC_API_KEY: "test",
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
  CLAUDE_CODE_MAX_RETRIES: "0",
};
const provider = {
  id: "claude",
  maxRunning: 16,
  warm: { ahead: 1 },
  claude: { executable: claude, environment },
};
const workspaces = join(root, "workspaces");
const providers = [provider, { id: "echo", echo: {} }];
const broker = await startBroker(JSON.stringify({ providers, workspaces }), ports.broker);
const adapter = spawn(
  process.execPath,
  [
    new URL("../../dist/src/main.js", import.meta.url).pathname,
    "openai",
    ...["--openai-listen", `127.0.0.1:${ports.adapter}`, "--broker", broker.url],
  ],
  { stdio: ["ignore", "pipe", "inherit"], env: { PATH: process.env.PATH, SESSION_BROKER_LOG_LEVEL: "warn" } },
);
await once(adapter.stdout, "data");

try {
  for (let turn = 0; turn < turnsBefore; turn++) await behind(`before-${turn % crowd}`, "echo");
  const nativeId = await begunByHand();
  const later = await inTurns(laterByHand(nativeId), laterBehind("later"), inARow);
  const rested = await inTurns(laterByHand(nativeId), afterRest(laterBehind("rested")));
  const together = await inTurns(await crowdByHand(), await crowdBehind(), inARow);
  const first = await inTurns(firstByHand, firstAhead);
  console.log("| first text of Claude Code | by hand | behind the adapter | ratio |\n|---|---|---|---|");
  row("second and later turns of a chat", later);
  row("the same, each after a second of silence", rested);
  row(`second and later turns, ${crowd} chats at once`, together);
  row("first turn of a chat, a process started ahead", first);
  console.log(`\nmedians of ${rounds} rounds, the two ways in turns; the model answers at once`);
} finally {
  adapter.kill();
  await once(adapter, "exit");
  await broker.stop();
  model.kill();
  rmSync(root, { recursive: true, force: true });
}

function row(name, [byHand, behind]) {
  const [a, b] = [quantile(byHand, 0.5), quantile(behind, 0.5)];
  console.log(`| ${name} | ${a.toFixed(0)} ms | ${b.toFixed(0)} ms | ${(a / b).toFixed(1)} |`);
}

/** The two ways in turns, `count` times the one and then the other. */
async function inTurns(one, other, count = 1) {
  const times = [[], []];
  for (let done = 0; done < Number(rounds); done += count) {
    if (done > 0 && count > 1) await pause(tidyMs);
    for (let i = 0; i < count; i++) times[0].push(...[await one()].flat());
    for (let i = 0; i < count; i++) times[1].push(...[await other()].flat());
  }
  return times;
}

/** A person thinks before the next message. */
function afterRest(way) {
  return async () => {
    await pause(1_000);
    return way();
  };
}

async function begunByHand() {
  const nativeId = randomUUID();
  await byHand(`--session-id=${nativeId}`);
  return nativeId;
}

function laterByHand(nativeId) {
  return () => byHand(`--resume=${nativeId}`);
}

function laterBehind(chat) {
  let begun;
  return async () => {
    begun ??= behind(chat);
    await begun;
    return behind(chat);
  };
}

async function crowdByHand() {
  const ways = [];
  for (let i = 0; i < crowd; i++) ways.push(laterByHand(await begunByHand()));
  return () => Promise.all(ways.map((way) => way()));
}

async function crowdBehind() {
  const ways = Array.from({ length: crowd }, (_, i) => laterBehind(`crowd-${i}`));
  for (const way of ways) await way();
  return () => Promise.all(ways.map((way) => way()));
}

function firstByHand() {
  return byHand(`--session-id=${randomUUID()}`);
}

async function firstAhead() {
  // The one that took the place of the last is ready by then.
  await pause(2_000);
  return behind(randomUUID());
}

/** Milliseconds until the first text of one run. */
async function byHand(conversation) {
  const from = performance.now();
  const args = ["--print", "--output-format=stream-json", "--verbose", "--include-partial-messages"];
  const child = spawn(claude, [...args, conversation], {
    cwd: join(root, "workspace"),
    env: { PATH: process.env.PATH, ...environment },
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.end("Hello.");
  const exit = once(child, "exit");
  let tookMs;
  for await (const text of createInterface(child.stdout)) {
    const record = JSON.parse(text);
    if (record.event?.delta?.type === "text_delta") tookMs ??= performance.now() - from;
  }
  await exit;
  if (tookMs === undefined) throw new Error("claude answered nothing");
  return tookMs;
}

/** Milliseconds until the first text of one request. */
async function behind(chat, model = "claude") {
  const from = performance.now();
  const response = await fetch(`http://127.0.0.1:${ports.adapter}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${broker.token}`,
      "content-type": "application/json",
      "x-session-broker-key": chat,
    },
    body: JSON.stringify({
      model,
      stream: true,
      messages: [{ role: "user", content: "Hello." }],
    }),
  });
  let tookMs;
  let seen = "";
  for await (const bytes of response.body) {
    seen += Buffer.from(bytes).toString();
    if (/"content":"[^"]/.test(seen)) tookMs ??= performance.now() - from;
  }
  if (tookMs === undefined) throw new Error(`the adapter answered ${response.status}: ${seen}`);
  return tookMs;
}
