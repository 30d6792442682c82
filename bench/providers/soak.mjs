#!/usr/bin/env node
// What 1,000 turns over 50 sessions leave behind, with agents that crash, fail,
// hang until they are cancelled, and are killed while they work or rest.
//
//   npm run build && node bench/providers/soak.mjs [TURNS]
//
// The agent is test/fixtures/fake-claude.mjs. Prints a table, and ends with 1 if
// a process, a file descriptor or a temporary file is left, or if the memory of
// the broker grows by more than a tenth from the second to the last quarter.
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { startBroker } from "../broker.mjs";
import { quantile } from "../measure.mjs";

const turns = Number(process.argv[2] ?? 1_000);
const sessions = 50;
const atOnce = 8;
const root = mkdtempSync(join(tmpdir(), "bench-soak-"));
const temporary = join(root, "tmp");
mkdirSync(temporary);
const environment = { CLAUDE_CONFIG_DIR: join(root, "config"), TMPDIR: temporary };
const executable = new URL("../../test/fixtures/fake-claude.mjs", import.meta.url).pathname;
const provider = {
  id: "claude",
  maxRunning: atOnce,
  warm: { ahead: 1 },
  claude: { executable, environment },
};
const config = { providers: [provider], workspaces: join(root, "workspaces") };
const broker = await startBroker(JSON.stringify(config), 17_440, { TMPDIR: temporary });
const endings = {};
const samples = [];

try {
  const before = openFiles();
  let asked = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (asked < turns) await runTurn(asked++);
    }),
  );
  console.log("| | |\n|---|---|");
  for (const [ending, count] of Object.entries(endings))
    console.log(`| turns that ended as ${ending} | ${count} |`);
  const quarter = (n) =>
    quantile(samples.slice((n * samples.length) / 4, ((n + 1) * samples.length) / 4), 0.5);
  const growth = quarter(3) / quarter(1) - 1;
  console.log(
    `| memory, second and last quarter | ${quarter(1).toFixed(0)} and ${quarter(3).toFixed(0)} MiB |`,
  );
  const idle = Math.max(0, openFiles() - before);
  console.log(`| open files more than before, with ${agents()} agents at rest | ${idle} |`);
  await broker.terminate();
  const left = { agents: agents(), files: readdirSync(temporary).length };
  console.log(
    `| processes and temporary files after the broker has stopped | ${left.agents} and ${left.files} |`,
  );
  // Three pipes for each agent that rests.
  const leaks = left.agents > 0 || left.files > 0 || idle > 3 * (16 + 1) || growth > 0.1;
  process.exitCode = leaks ? 1 : 0;
} finally {
  await broker.stop();
  rmSync(root, { recursive: true, force: true });
}

async function runTurn(number) {
  const chat = `chat-${Math.floor(Math.random() * sessions)}`;
  const word = ["", "", "", "", "[[crash]]", "[[fail 529]]", "[[hang]]", "[[kill]]"][
    Math.floor(Math.random() * 8)
  ];
  const key = { scope: "soak", externalId: chat, provider: "claude" };
  const turnId = randomUUID();
  const text = word === "[[kill]]" ? "[[hang]]" : `turn ${number} ${word}`;
  const input = [{ part: { case: "text", value: text } }];
  const stream = broker.client.dispatch({ turnId, target: { case: "key", value: key }, input });
  let sessionId = "";
  for await (const { event } of stream) {
    const { case: kind, value } = event.event;
    if (kind === "accepted") sessionId = value.session.sessionId;
    if (kind === "textDelta" && word === "[[hang]]") await broker.client.cancelTurn({ turnId });
    // A process that was started ahead does not carry the session's mark.
    if (kind === "textDelta" && word === "[[kill]]" && kill(sessionId) === 0) {
      await broker.client.cancelTurn({ turnId });
    }
    if (["completed", "failed", "cancelled", "interrupted"].includes(kind))
      endings[kind] = (endings[kind] ?? 0) + 1;
  }
  // Some die while they rest.
  if (number % 10 === 0) kill(sessionId);
  samples.push(broker.memoryMiB());
  if (number % 100 === 99) {
    process.stderr.write(`${number + 1} turns\n`);
    await pause(10);
  }
}

function openFiles() {
  return readdirSync(`/proc/${broker.pid}/fd`).length;
}

function agents() {
  return marked(() => true).length;
}

/** Of how many processes of the session. */
function kill(sessionId) {
  const pids = marked((mark) => mark.endsWith(`/${sessionId}`));
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
  return pids.length;
}

/** Live processes with a mark, and with this store's directories. */
function marked(matches) {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => {
      try {
        const variables = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
        const mark = variables.find((each) => each.startsWith("SESSION_BROKER_CHILD="))?.slice(21);
        if (mark === undefined || !variables.includes(`CLAUDE_CONFIG_DIR=${environment.CLAUDE_CONFIG_DIR}`))
          return false;
        return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1")) && matches(mark);
      } catch {
        return false;
      }
    });
}
