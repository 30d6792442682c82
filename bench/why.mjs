#!/usr/bin/env node
// What becomes of messages that arrive at once, or after a conversation was
// lost: with Claude Code run by hand, and through session-broker.
//
//   npm run build && node bench/why.mjs CLAUDE [RUNS]
//
// CLAUDE is the path of the executable, RUNS how often each case is run
// (default 5). The model is test/fixtures/model-server.mjs on loopback, which
// answers with the prompts that it was given; so an answer tells what the agent
// remembers. Prints a table in Markdown.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const [claude, runs = "5"] = process.argv.slice(2);
if (claude === undefined) {
  process.stderr.write("usage: node bench/why.mjs CLAUDE [RUNS]\n");
  process.exit(2);
}
const crowdSize = 20;
const facts = ["My name is Ada.", "I live in London.", "I like tea."];
const root = mkdtempSync(join(tmpdir(), "why-"));
const workspace = join(root, "workspace");
for (const folder of ["home", "tmp", "workspace"]) mkdirSync(join(root, folder));

const model = spawn(process.execPath, [pathOf("../test/fixtures/model-server.mjs")], {
  env: {},
  stdio: ["ignore", "pipe", "inherit"],
});
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

const broker = await startBroker();
try {
  const { stdout: version } = await runClaude(["--version"]);
  const cases = [
    ["3 messages, one after the other", sequenceByHand, sequenceThroughBroker],
    [`${crowdSize} messages at once into one conversation`, crowdByHand, crowdThroughBroker],
    ["2 first messages at once, each with a new id", pairByHand, pairThroughBroker],
    ["2 first messages at once, with the same id", pairWithOneIdByHand, undefined],
    ["a conversation of 3 messages whose file is gone", lossByHand, lossThroughBroker],
  ];
  const rows = [];
  for (const [title, ...ways] of cases) {
    for (const [index, way] of ways.entries()) {
      if (way === undefined) continue;
      const results = [];
      for (let run = 0; run < Number(runs); run++) results.push(await way());
      const cells = ["answered", "conversations", "remembered"].map((name) => summary(results, name));
      rows.push([title, index === 0 ? "by hand" : "session-broker", ...cells]);
      process.stderr.write(`${rows.at(-1).join(" | ")}\n`);
    }
  }
  process.stdout.write(`${runs} runs each, ${version.trim()}, ${cpus().length} cores\n\n`);
  process.stdout.write(table(["case", "way", "answered", "conversations", "remembered afterwards"], rows));
} finally {
  broker.process.kill("SIGTERM");
  await once(broker.process, "close");
  model.kill();
  rmSync(root, { recursive: true, force: true });
}

async function crowdByHand() {
  const id = randomUUID();
  await promptOf(["--session-id", id], "the seed");
  const prompts = crowd();
  const answers = await Promise.all(prompts.map((prompt) => promptOf(["--resume", id], prompt)));
  return result(answers, [id], prompts, await promptOf(["--resume", id], "the last"));
}

async function crowdThroughBroker() {
  const key = randomUUID();
  await ask(key, "the seed");
  const prompts = crowd();
  const answers = await Promise.all(prompts.map((prompt) => ask(key, prompt)));
  return result(answers, sessionsOf(answers), prompts, await ask(key, "the last"));
}

/** Nothing is known of the chat yet, so each request begins a conversation; the later note of its id stays. */
async function pairByHand() {
  const prompts = ["left", "right"];
  let noted;
  const ids = [];
  const answers = await Promise.all(
    prompts.map(async (prompt) => {
      const id = randomUUID();
      ids.push(id);
      const answer = await promptOf(["--session-id", id], prompt);
      noted = id;
      return answer;
    }),
  );
  return result(answers, ids, prompts, await promptOf(["--resume", noted], "the last"));
}

async function pairWithOneIdByHand() {
  const prompts = ["left", "right"];
  const id = randomUUID();
  const answers = await Promise.all(prompts.map((prompt) => promptOf(["--session-id", id], prompt)));
  return result(answers, [id], prompts, await promptOf(["--resume", id], "the last"));
}

async function pairThroughBroker() {
  const key = randomUUID();
  const prompts = ["left", "right"];
  const answers = await Promise.all(prompts.map((prompt) => ask(key, prompt)));
  return result(answers, sessionsOf(answers), prompts, await ask(key, "the last"));
}

async function sequenceByHand() {
  const id = randomUUID();
  const answers = await tellByHand(id);
  return result(answers, [id], facts, await promptOf(["--resume", id], "the last"));
}

async function sequenceThroughBroker() {
  const key = randomUUID();
  const answers = await tellThroughBroker(key);
  return result(answers, sessionsOf(answers), facts, await ask(key, "the last"));
}

/** The next message fails, and all that can be done is to begin anew. */
async function lossByHand() {
  const [id, anew] = [randomUUID(), randomUUID()];
  await tellByHand(id);
  removeTranscripts();
  const refused = await promptOf(["--resume", id], "the next");
  const last = await promptOf(["--session-id", anew], "the next");
  return result([refused], [id, anew], facts, last);
}

async function lossThroughBroker() {
  const key = randomUUID();
  const answers = await tellThroughBroker(key);
  removeTranscripts();
  const next = await ask(key, "the next");
  return result([next], sessionsOf([...answers, next]), facts, next);
}

async function tellByHand(id) {
  const answers = [];
  for (const [index, fact] of facts.entries())
    answers.push(await promptOf([index === 0 ? "--session-id" : "--resume", id], fact));
  return answers;
}

async function tellThroughBroker(key) {
  const answers = [];
  for (const fact of facts) answers.push(await ask(key, fact));
  return answers;
}

function crowd() {
  return Array.from({ length: crowdSize }, (_, i) => `message ${i}.`);
}

/** How many were answered, in how many conversations, and how many of the prompts the last answer knows. */
function result(answers, ids, prompts, last) {
  const known = /history=(\[.*\])/s.exec(last.text)?.[1] ?? "";
  return {
    answered: [answers.filter(({ ok }) => ok).length, answers.length],
    conversations: [new Set(ids).size],
    remembered: [prompts.filter((prompt) => known.includes(prompt)).length, prompts.length],
  };
}

/** The lowest and the highest of all runs. */
function summary(results, name) {
  const counts = results.map((each) => each[name][0]);
  const [low, high] = [Math.min(...counts), Math.max(...counts)];
  const [, of] = results[0][name];
  return `${low === high ? low : `${low} to ${high}`}${of === undefined ? "" : ` of ${of}`}`;
}

function sessionsOf(answers) {
  return answers.map(({ sessionId }) => sessionId);
}

function removeTranscripts() {
  const projects = join(environment.CLAUDE_CONFIG_DIR, "projects");
  for (const folder of readdirSync(projects)) rmSync(join(projects, folder), { recursive: true });
}

async function promptOf(args, prompt) {
  const { code, stdout } = await runClaude(["--print", ...args], prompt);
  return { ok: code === 0, text: stdout };
}

async function runClaude(args, input = "") {
  const child = spawn(claude, args, {
    cwd: workspace,
    env: { PATH: process.env.PATH, ...environment },
    stdio: ["pipe", "pipe", "ignore"],
  });
  child.stdin.end(input);
  let stdout = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  const [code] = await once(child, "close");
  return { code, stdout };
}

/** One message over the OpenAI-compatible adapter. */
async function ask(key, content) {
  const response = await fetch(`${broker.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${broker.token}`,
      "content-type": "application/json",
      "x-session-broker-key": key,
    },
    body: JSON.stringify({ model: "claude", messages: [{ role: "user", content }] }),
  });
  const body = await response.json();
  const sessionId = response.headers.get("x-session-broker-session-id");
  return { ok: response.ok, text: body.choices?.[0]?.message.content ?? "", sessionId };
}

async function startBroker() {
  const config = join(root, "broker.yaml");
  const data = join(root, "data");
  writeFileSync(
    config,
    JSON.stringify({ data, providers: [{ id: "claude", claude: { executable: claude, environment } }] }),
  );
  const address = `127.0.0.1:${await freePort()}`;
  const listen = ["--listen", `127.0.0.1:${await freePort()}`, "--metrics-listen", "off"];
  const args = ["start", "--config", config, ...listen];
  const child = spawn(
    process.execPath,
    [pathOf("../dist/src/main.js"), ...args, "--openai-listen", address],
    {
      cwd: root,
      env: { PATH: process.env.PATH, HOME: environment.HOME, SESSION_BROKER_LOG_LEVEL: "warn" },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const ready = once(child.stdout, "data");
  await Promise.race([ready, once(child, "exit").then(() => Promise.reject(new Error("no broker")))]);
  return { process: child, url: `http://${address}`, token: readFileSync(join(data, "token"), "utf8") };
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function table(head, rows) {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

function pathOf(relative) {
  return fileURLToPath(new URL(relative, import.meta.url));
}
