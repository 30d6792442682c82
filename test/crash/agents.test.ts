/** Agents that are killed: their turn fails as CRASHED, and the session's next turn runs. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { TurnErrorCode, type TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import { isRunning } from "../providers/turns.js";
import { Random } from "../simulation/scheduler.js";
import { TestBroker } from "../support/broker.js";
import { AgentNotes, type AgentRun, answerTo, promptOf, type Task } from "./agent-notes.js";
import { crashSeed } from "./kills.js";

const rounds = 6;
const chats = ["one", "two", "three"];

let folder: string;
let notes: AgentNotes;
let broker: TestBroker;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "crash-"));
  notes = new AgentNotes(join(folder, "notes"));
  broker = await TestBroker.start({ config: `providers:${notes.provider}\n` });
});

afterAll(async () => {
  await broker.close();
  rmSync(folder, { recursive: true, force: true });
});

const runsOf = (token: string): AgentRun[] => notes.runs().filter(({ tokens }) => tokens.includes(token));
const textOf = (events: readonly TurnEvent[]) =>
  events.map(({ event }) => (event.case === "textDelta" ? event.value.text : "")).join("");

/** A turn and the events it has had so far. */
function dispatch(broker: TestBroker, provider: string, chat: string, text: string) {
  const events: TurnEvent[] = [];
  const ended = (async () => {
    const target = { case: "key" as const, value: { scope: "crash", externalId: chat, provider } };
    const input = [{ part: { case: "text" as const, value: text } }];
    for await (const { event } of broker.client().dispatch({ target, input, turnId: randomUUID() })) {
      if (event !== undefined) events.push(event);
    }
    return events.at(-1)?.event;
  })();
  ended.catch(() => {});
  return { events, ended };
}

/** Kills the agent of a turn once it was given the prompt, or has said some of its answer. */
async function killAgent(token: string, afterWords: number, events: readonly TurnEvent[]): Promise<void> {
  const words = () => events.filter(({ event }) => event.case === "textDelta").length;
  await expect.poll(() => runsOf(token).length, { timeout: 20_000, interval: 10 }).toBe(1);
  await expect.poll(words, { timeout: 20_000, interval: 1 }).toBeGreaterThanOrEqual(afterWords);
  const [run] = runsOf(token);
  try {
    process.kill(run?.pid ?? 0, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

async function crashAndGoOn(random: Random, round: number, chat: string): Promise<boolean> {
  const task = (name: string): Task => ({
    token: `${chat}-${round}-${name}`,
    ms: 200 + random.below(300),
    deltas: 6,
    tool: random.chance(0.3),
  });
  const [doomed, next] = [task("doomed"), task("next")];
  const afterWords = random.below(5);
  const first = dispatch(broker, "claude", chat, promptOf(doomed));
  await expect.poll(() => first.events.length).toBeGreaterThan(0);
  const second = dispatch(broker, "claude", chat, promptOf(next));
  await killAgent(doomed.token, afterWords, first.events);

  const ending = await first.ended;
  const crashed = ending?.case === "failed";
  const [run] = runsOf(doomed.token);
  // An agent that had done its work may have had its answer read before it was killed.
  if (run?.ended !== true) expect(ending?.case).toBe("failed");
  if (ending?.case === "failed") {
    expect(ending.value.error?.code).toBe(TurnErrorCode.CRASHED);
    expect(ending.value.partialText).toBe(textOf(first.events));
  }
  expect(answerTo(doomed).startsWith(textOf(first.events))).toBe(true);
  expect(await second.ended).toMatchObject({ case: "completed", value: { text: answerTo(next) } });
  const started = second.events.find(({ event }) => event.case === "started")?.event;
  // The agent had begun the conversation before it was killed.
  expect(started?.value).toMatchObject({ resumed: true });
  expect(runsOf(doomed.token)).toHaveLength(1);
  expect(runsOf(next.token)).toHaveLength(1);
  return crashed;
}

it.skipIf(process.platform !== "linux")(
  `fails the turns of ${rounds * chats.length} agents that are killed, and runs the next ones`,
  { timeout: 120_000 },
  async () => {
    console.log(`SESSION_BROKER_CRASH_SEED=${crashSeed}`);
    const random = new Random(crashSeed);
    let crashed = 0;
    for (let round = 0; round < rounds; round++) {
      const outcomes = await Promise.all(chats.map((chat) => crashAndGoOn(random, round, chat)));
      crashed += outcomes.filter(Boolean).length;
    }
    expect(crashed).toBeGreaterThan(rounds);
    expect(notes.encounters()).toEqual([]);
    await broker.kill("SIGTERM");
    expect(notes.survivors()).toEqual([]);
    console.log(`${crashed} agents killed in mid-turn`);
  },
);

describe.skipIf(process.platform !== "linux")(
  "app servers of codex, which have several conversations",
  () => {
    const executable = fileURLToPath(new URL("../fixtures/fake-codex.mjs", import.meta.url));
    let codexHome: string;
    let codexBroker: TestBroker;

    beforeEach(async () => {
      codexHome = mkdtempSync(join(folder, "codex-"));
      const environment = `{ CODEX_HOME: ${codexHome}, FAKE_CODEX_STAYS: "yes" }`;
      const config = `providers:\n  - id: codex\n    codex: { executable: ${executable}, environment: ${environment} }\n`;
      codexBroker = await TestBroker.start({ config });
    });

    afterEach(async () => {
      // Its agents end with it.
      await codexBroker.kill("SIGTERM");
      expect(servers().filter(isRunning)).toEqual([]);
      await codexBroker.close();
    });

    const say = (chat: string, text: string) => dispatch(codexBroker, "codex", chat, text);
    const begun = (turns: readonly ReturnType<typeof say>[]) =>
      expect
        .poll(() => turns.every(({ events }) => textOf(events) !== ""), { timeout: 20_000, interval: 5 })
        .toBe(true);
    /** The processes that have, or had, the conversations. */
    function servers(): number[] {
      const threads = join(codexHome, "threads");
      const locks = readdirSync(threads).filter((name) => name.endsWith(".lock"));
      return [...new Set(locks.map((name) => Number(readFileSync(join(threads, name), "utf8"))))];
    }

    it("fail every turn that they run when they are killed, and the next ones go on", async () => {
      for (const chat of chats) expect(await say(chat, "one").ended).toMatchObject({ case: "completed" });
      const doomed = chats.map((chat) => say(chat, "two [[hang]]"));
      await begun(doomed);
      const next = chats.map((chat) => say(chat, "three"));
      const [server = 0, ...others] = servers();
      expect(others).toEqual([]);
      process.kill(server, "SIGKILL");
      for (const { ended } of doomed) {
        expect(await ended).toMatchObject({
          case: "failed",
          value: { error: { code: TurnErrorCode.CRASHED }, partialText: "turns" },
        });
      }
      for (const { ended, events } of next) {
        const history = JSON.stringify(["one", "two [[hang]]", "three"]);
        expect(await ended).toMatchObject({
          case: "completed",
          value: { text: `turns=3 history=${history}` },
        });
        const started = events.find(({ event }) => event.case === "started")?.event;
        expect(started?.value).toMatchObject({ resumed: true });
      }
      expect(servers()).not.toContain(server);
    });

    it("leave nothing when the broker is killed while they work", async () => {
      expect(await say("one", "one").ended).toMatchObject({ case: "completed" });
      const file = join(codexHome, "pid");
      const working = [say("one", `two [[orphan ${file}]] [[hang]]`), say("two", "one [[mute]]")];
      await begun(working);
      const pids = [...servers(), Number(readFileSync(file, "utf8"))];
      expect(pids.map(isRunning)).toEqual([true, true]);
      await codexBroker.kill("SIGKILL");
      await codexBroker.start();
      const after = await say("one", "three").ended;
      const history = JSON.stringify(["one", `two [[orphan ${file}]] [[hang]]`, "three"]);
      expect(after).toMatchObject({ case: "completed", value: { text: `turns=3 history=${history}` } });
      expect(pids.map(isRunning)).toEqual([false, false]);
    });
  },
);
