#!/usr/bin/env node
// What the OpenAI-compatible adapter adds to a turn: the time to the first text
// against Dispatch itself, and how many chunks it passes on in a second of one
// core, with 500 streams at once. The agent is `echo`.
//
//   npm run build && node bench/adapter/overhead.mjs [TURNS]
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { startBroker } from "../broker.mjs";
import { quantile } from "../measure.mjs";

const turns = Number(process.argv[2] ?? 300);
const streams = 500;
const words = 100;
const ticksPerSecond = 100;
const port = 17_451;
const connections = new Agent({ keepAlive: true, maxSockets: 1_000 });

const broker = await startBroker(
  JSON.stringify({
    providers: [{ id: "echo", maxRunning: streams, echo: {} }],
    limits: { runningTurns: streams },
  }),
  17_450,
);
const adapter = spawn(
  process.execPath,
  [
    new URL("../../dist/src/main.js", import.meta.url).pathname,
    "openai",
    ...["--openai-listen", `127.0.0.1:${port}`, "--broker", broker.url],
  ],
  { stdio: ["ignore", "pipe", "inherit"], env: { PATH: process.env.PATH, SESSION_BROKER_LOG_LEVEL: "warn" } },
);
await once(adapter.stdout, "data");

try {
  const times = [[], []];
  for (let turn = 0; turn < turns + 20; turn++) {
    const [direct, adapted] = [(await dispatch("hello")).firstMs, (await complete("hello")).firstMs];
    if (turn < 20) continue;
    times[0].push(direct);
    times[1].push(adapted);
  }
  console.log("| until the first text | Dispatch | adapter | difference |\n|---|---|---|---|");
  for (const q of [0.5, 0.99]) {
    const [a, b] = times.map((each) => quantile(each, q));
    console.log(
      `| p${q * 100} of ${turns} | ${a.toFixed(1)} ms | ${b.toFixed(1)} ms | ${(b - a).toFixed(1)} ms |`,
    );
  }
  const text = Array.from({ length: words }, (_, i) => `word${i}`).join(" ");
  const before = cpuSeconds();
  const from = performance.now();
  const all = await Promise.all(Array.from({ length: streams }, () => complete(text)));
  const seconds = (performance.now() - from) / 1000;
  const cpu = cpuSeconds() - before;
  const chunks = all.reduce((sum, each) => sum + each.chunks, 0);
  const whole = all.filter((each) => each.text.endsWith(`word${words - 1}`)).length;
  console.log(
    `\n${streams} streams at once: ${whole} whole, ${chunks} chunks in ${seconds.toFixed(1)} s; ${Math.round(chunks / cpu)} chunks for each second of the adapter's processor time`,
  );
} finally {
  adapter.kill();
  await once(adapter, "exit");
  await broker.stop();
}

/** Of the adapter. */
function cpuSeconds() {
  const stat = readFileSync(`/proc/${adapter.pid}/stat`, "latin1").split(") ")[1].split(" ");
  return (Number(stat[11]) + Number(stat[12])) / ticksPerSecond;
}

function dispatch(text) {
  const key = { scope: "bench", externalId: randomUUID(), provider: "echo" };
  const message = Buffer.from(JSON.stringify({ key, input: [{ text }] }));
  const envelope = Buffer.alloc(5);
  envelope.writeUInt32BE(message.length, 1);
  const url = `${broker.url}/sessionbroker.v1.SessionBroker/Dispatch`;
  return post(
    url,
    { "content-type": "application/connect+json" },
    Buffer.concat([envelope, message]),
    /textDelta/g,
  );
}

function complete(content) {
  const body = JSON.stringify({ model: "echo", stream: true, messages: [{ role: "user", content }] });
  const headers = { "content-type": "application/json", "x-session-broker-key": randomUUID() };
  return post(
    `http://127.0.0.1:${port}/v1/chat/completions`,
    headers,
    Buffer.from(body),
    /"content":"([^"]+)"/g,
  );
}

async function post(url, headers, body, pattern) {
  const from = performance.now();
  const call = request(url, {
    method: "POST",
    headers: { ...headers, authorization: `Bearer ${broker.token}` },
    agent: connections,
  });
  call.end(body);
  const [response] = await once(call, "response");
  let firstMs;
  let seen = "";
  for await (const chunk of response) {
    seen += chunk;
    if (firstMs === undefined && seen.search(pattern) >= 0) firstMs = performance.now() - from;
  }
  if (firstMs === undefined) throw new Error(`${response.statusCode}: ${seen}`);
  const found = [...seen.matchAll(pattern)];
  return { firstMs, chunks: found.length, text: found.map((match) => match[1] ?? "").join("") };
}
