/** Adapters that are killed while clients read from them: the turn goes on, and another adapter has the rest. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { Random } from "../simulation/scheduler.js";
import { TestBroker } from "../support/broker.js";
import { AgentNotes, answerTo, promptOf, type Task } from "./agent-notes.js";
import { type ChatCall, chat } from "./chat-request.js";
import { crashSeed, pause } from "./kills.js";

const rounds = 8;
const requests = 5;

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

it.skipIf(process.platform !== "linux")(
  `gives the rest of a turn to a repeat through another adapter, over ${rounds} kills`,
  { timeout: 180_000 },
  async () => {
    console.log(`SESSION_BROKER_CRASH_SEED=${crashSeed}`);
    const random = new Random(crashSeed);
    const client = broker.client();
    let victim = await broker.startAdapter();
    let other = await broker.startAdapter();
    const broken = { early: 0, midway: 0 };
    for (let round = 0; round < rounds; round++) {
      const texts = 1 + random.below(20);
      let onText = () => {};
      const enough = new Promise<void>((resolve) => {
        let left = texts;
        onText = () => --left === 0 && resolve();
      });
      const calls = Array.from({ length: requests }, (_, i) => request(random, `${round}-${i}`));
      const first = calls.map(({ call }) => chat(victim, call, onText));
      // Some are killed before they have passed on a word.
      await (random.chance(0.3) ? pause(random.below(150)) : enough);
      await broker.killAdapter(victim);
      const successor = broker.startAdapter();
      await Promise.all(
        calls.map(async ({ task, call }, index) => {
          const before = await (first[index] as (typeof first)[number]);
          if (!before.whole) broken[before.text === "" ? "early" : "midway"] += 1;
          const answer = await chat(other, { ...call, stream: random.chance(0.7) });
          expect(answer).toEqual({ whole: true, text: answerTo(task), turnId: expect.any(String) });
          expect(answer.text.startsWith(before.text)).toBe(true);
          if (before.turnId !== "") expect(answer.turnId).toBe(before.turnId);
          const { turn } = await client.getTurn({ turnId: answer.turnId });
          expect(turn?.state).toBe(TurnState.COMPLETED);
          const runs = notes.runs().filter(({ tokens }) => tokens.includes(task.token));
          expect(runs).toEqual([expect.objectContaining({ ended: true })]);
        }),
      );
      [victim, other] = [other, await successor];
    }
    expect(broken.midway).toBeGreaterThan(0);
    expect(notes.encounters()).toEqual([]);
    await broker.kill("SIGTERM");
    expect(notes.survivors()).toEqual([]);
    console.log(`${rounds} adapters killed; answers that broke off:`, broken);
  },
);

function request(random: Random, token: string): { readonly task: Task; readonly call: ChatCall } {
  const task = { token, ms: 50 + random.below(450), deltas: 3 + random.below(10), tool: false };
  const call = {
    token: broker.token,
    chat: `chat-${random.below(4)}`,
    idempotencyKey: `key of ${token}`,
    prompt: promptOf(task),
    stream: true,
  };
  return { task, call };
}
