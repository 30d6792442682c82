// What the broker adds to the time until an agent's first text: the same agent
// run directly and through Dispatch, 50 turns in flight, ten starts a second.
// Its process is started for the turn, was started ahead, or has stayed from the
// session's turn before; directly, it is started for each.
//
//   npm run build && node bench/turns/overhead.mjs [TURNS]
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { startBroker } from "../broker.mjs";
import { quantile } from "../measure.mjs";

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
async function throughBroker({ url, token }, chat = randomUUID()) {
  const from = performance.now();
  const key = { scope: "bench", externalId: chat, provider: "claude" };
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
async function run(broker, chatOf) {
  const times = [[], []];
  const running = [];
  for (let i = 0; i < turns * 2; i++) {
    const kind = i % 2;
    const one = kind === 0 ? direct() : throughBroker(broker, chatOf((i - 1) / 2));
    running.push(one.then((tookMs) => times[kind].push(tookMs)));
    await pause(everyMs / 2);
  }
  await Promise.all(running);
  return times;
}

const newChat = () => randomUUID();
/** More than are in flight, so that each has ended its turn before its next. */
const kept = Array.from({ length: 64 }, newChat);
const ways = [
  { name: "started for the turn", warm: { processes: 0 }, chatOf: newChat, before: [newChat(), newChat()] },
  {
    name: "started ahead",
    warm: { processes: 200, ahead: 8 },
    chatOf: newChat,
    before: [newChat(), newChat()],
  },
  { name: "stayed", warm: { processes: 200 }, chatOf: (turn) => kept[turn % kept.length], before: kept },
];

console.log(
  "| the process | until the first text | run directly | through the broker | difference | ratio |\n|---|---|---|---|---|---|",
);
for (const { name, warm, chatOf, before } of ways) {
  const provider = { id: "claude", maxRunning: 200, warm, claude: { executable: agent } };
  const config = { providers: [provider], limits: { runningTurns: 200 } };
  const broker = await startBroker(JSON.stringify(config), 17_420);
  try {
    await Promise.all(before.map((chat) => throughBroker(broker, chat)));
    const [alone, broken] = await run(broker, chatOf);
    for (const q of [0.5, 0.9, 0.99]) {
      const [a, b] = [quantile(alone, q), quantile(broken, q)];
      console.log(
        `| ${name} | p${q * 100} | ${a.toFixed(1)} ms | ${b.toFixed(1)} ms | ${(b - a).toFixed(1)} ms | ${(b / a).toFixed(2)} |`,
      );
    }
  } finally {
    await broker.stop();
  }
}
console.log(`\n${turns} turns of each kind, about 50 of each in flight, over ${(turns * everyMs) / 1000} s`);
