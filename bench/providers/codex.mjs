#!/usr/bin/env node
// How soon the second and later turns of a conversation with Codex CLI say
// something: `codex exec resume` run by hand, and through the provider.
//
//   npm run build && node bench/providers/codex.mjs CODEX [TURNS]
//
// CODEX is the path of the executable, TURNS how often each way is run (default
// 30), in turns of one another. The model is test/fixtures/model-server.mjs on
// loopback, which answers at once. Prints the medians and their ratio; ends
// with 1 if the provider is less than three times as soon, or does not stream.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createCodexProvider } from "../../dist/src/providers/codex/index.js";

const bar = 3;
const [executable, turns = "30"] = process.argv.slice(2);
if (executable === undefined) {
  process.stderr.write("usage: node bench/providers/codex.mjs CODEX [TURNS]\n");
  process.exit(2);
}
const root = mkdtempSync(join(tmpdir(), "bench-codex-"));
const workspace = join(root, "workspace");
for (const folder of ["home", "config", "workspace"]) mkdirSync(join(root, folder));
const program = fileURLToPath(new URL("../../test/fixtures/model-server.mjs", import.meta.url));
const model = spawn(process.execPath, [program], { env: {}, stdio: ["ignore", "pipe", "inherit"] });
const [line] = await once(createInterface(model.stdout), "line");
const service = `{name="local",base_url="http://127.0.0.1:${JSON.parse(line).port}/v1",wire_api="responses",env_key="LOCAL_KEY",request_max_retries=0,stream_max_retries=0}`;
const settings = ["model_provider=local", "model=gpt-5.5", `model_providers.local=${service}`];
const modelArguments = settings.flatMap((setting) => ["-c", setting]);
const environment = {
  PATH: process.env.PATH,
  HOME: join(root, "home"),
  CODEX_HOME: join(root, "config"),
  LOCAL_KEY: "test",
};

const provider = createCodexProvider({
  id: "codex",
  executable,
  models: [],
  extraArgs: modelArguments,
  environment,
  parentEnvironment: {},
});
let failed = false;
try {
  const byHand = { id: await firstByHand(), times: [] };
  const through = { id: (await turnThrough(undefined)).id, times: [], deltas: Number.POSITIVE_INFINITY };
  for (let turn = 0; turn < Number(turns); turn++) {
    byHand.times.push(await resumeByHand(byHand.id));
    const { firstMs, deltas } = await turnThrough(through.id);
    through.times.push(firstMs);
    through.deltas = Math.min(through.deltas, deltas);
  }
  const [hand, ours] = [median(byHand.times), median(through.times)];
  const ratio = hand / ours;
  failed = ratio < bar || through.deltas < 2;
  process.stdout.write(
    `codex exec resume: first text after ${hand.toFixed(1)} ms (median of ${turns})\n` +
      `through the provider: first text after ${ours.toFixed(1)} ms, in at least ${through.deltas} deltas\n` +
      `ratio: ${ratio.toFixed(1)} (bar: ${bar})\n`,
  );
} finally {
  await provider.close();
  model.kill();
  rmSync(root, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;

async function firstByHand() {
  let id;
  await runExec(["exec"], (record) => {
    if (record.type === "thread.started") id = record.thread_id;
  });
  return id;
}

async function resumeByHand(id) {
  const from = performance.now();
  let firstMs;
  await runExec(
    ["exec", "resume"],
    (record) => {
      if (record.item?.type === "agent_message") firstMs ??= performance.now() - from;
    },
    [id],
  );
  return firstMs;
}

async function runExec(command, onRecord, ids = []) {
  const args = [...command, "--json", "--skip-git-repo-check", "-c", "features.plugins=false"];
  const child = spawn(executable, [...args, ...modelArguments, ...ids, "-"], {
    cwd: workspace,
    env: environment,
    stdio: ["pipe", "pipe", "ignore"],
  });
  child.stdin.end("hello");
  const exit = once(child, "exit");
  for await (const text of createInterface({ input: child.stdout })) onRecord(JSON.parse(text));
  const [code] = await exit;
  if (code !== 0) throw new Error(`codex exec ended with code ${code}`);
}

/** One turn of the provider's session: id, milliseconds until the first text, number of deltas. */
async function turnThrough(id) {
  const from = performance.now();
  let nativeId = id;
  let firstMs;
  let deltas = 0;
  for await (const event of provider.run(turnOf(id))) {
    if (event.kind === "started") nativeId = event.nativeId;
    if (event.kind === "text") {
      firstMs ??= performance.now() - from;
      deltas++;
    }
    if (event.kind === "end" && event.outcome.status !== "completed") {
      throw new Error(JSON.stringify(event.outcome));
    }
  }
  return { id: nativeId, firstMs, deltas };
}

function turnOf(nativeId) {
  return {
    turnId: randomUUID(),
    recordNo: 1,
    sessionId: "bench",
    grant: "",
    attempt: 1,
    turnNumber: nativeId === undefined ? 1 : 2,
    input: [{ kind: "text", text: "hello" }],
    binding: nativeId === undefined ? { state: "fresh" } : { state: "bound", nativeId },
    unseen: [],
    workspace,
    previousTotal: {},
    childMark: "bench/life/session",
    timeoutMs: 60_000,
    signal: new AbortController().signal,
  };
}

function median(times) {
  const sorted = times.toSorted((first, second) => first - second);
  return sorted[Math.floor(sorted.length / 2)];
}
