// What the broker adds to the time until an agent's first text: the same agent
// run directly and through Dispatch, 50 turns in flight, ten starts a second.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { quantile, startBroker } from "./broker.mjs";

const agent = new URL("agent.sh", import.meta.url).pathname;
const connections = new Agent({ keepAlive: true });
const everyMs = 100;
const turns = Number(process.argv[2] ?? 200);

/** Milliseconds until the agent's first text. */
async function direct() {
  const from = performance.now();
  const child = spawn(agent, ["--print", `--session-id=${randomUUID()}`], {
    cwd: tmpdir(),
    stdio: ["pipe", "pipe", "ignore"],
    detached: true,
  });
  child.stdin.end(
    `${JSON.stringify({ type: "user", message: { role: "user", content: "hi" }, uuid: randomUUID() })}\n`,
  );
  let tookMs;
  for await (const line of createInterface({ input: child.stdout })) {
    if (tookMs === undefined && JSON.parse(line).type === "stream_event") tookMs = performance.now() - from;
  }
  if (child.exitCode === null) await once(child, "exit");
  return tookMs;
}

/** With a client that does little itself: Connect with JSON over HTTP/1.1. */
async function throughBroker({ url, token }) {
  const from = performance.now();
  const key = { scope: "bench", externalId: randomUUID(), provider: "claude" };
  const message = Buffer.from(JSON.stringify({ key, input: [{ text: "hi" }] }));
  const envelope = Buffer.alloc(5);
  envelope.writeUInt32BE(message.length, 1);
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/connect+json" };
  const call = request(`${url}/sessionbroker.v1.SessionBroker/Dispatch`, {
    method: "POST",
    headers,
    agent: connections,
  });
  call.end(Buffer.concat([envelope, message]));
  const [response] = await once(call, "response");
  let tookMs;
  let text = "";
  for await (const chunk of response) {
    text += chunk;
    if (tookMs === undefined && text.includes("textDelta")) tookMs = performance.now() - from;
  }
  if (tookMs === undefined) throw new Error(text);
  return tookMs;
}

/** Starts of both kinds in turns, so that a busy machine is busy for both. */
async function run(broker) {
  const times = [[], []];
  const running = [];
  for (let i = 0; i < turns * 2; i++) {
    const kind = i % 2;
    const one = kind === 0 ? direct() : throughBroker(broker);
    running.push(one.then((tookMs) => times[kind].push(tookMs)));
    await pause(everyMs / 2);
  }
  await Promise.all(running);
  return times;
}

const broker = await startBroker(
  `providers: [{ id: claude, maxRunning: 200, claude: { executable: ${agent} } }]\nlimits: { runningTurns: 200 }\n`,
  17_420,
);
try {
  await Promise.all(Array.from({ length: 5 }, () => Promise.all([direct(), throughBroker(broker)])));
  const [alone, broken] = await run(broker);
  console.log(
    "| until the first text | run directly | through the broker | difference | ratio |\n|---|---|---|---|---|",
  );
  for (const q of [0.5, 0.9, 0.99]) {
    const [a, b] = [quantile(alone, q), quantile(broken, q)];
    console.log(
      `| p${q * 100} | ${a.toFixed(1)} ms | ${b.toFixed(1)} ms | ${(b - a).toFixed(1)} ms | ${(b / a).toFixed(2)} |`,
    );
  }
  console.log(
    `\n${turns} turns of each kind, about 50 of each in flight, over ${(turns * everyMs) / 1000} s`,
  );
} finally {
  await broker.stop();
}
