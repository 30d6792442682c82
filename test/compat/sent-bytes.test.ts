/** What reaches the agent of a chat whose client sends all of it with each message, and no header. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const turns = 50;
const answerBytes = 1500;

let home: string;
let input: string;
let broker: TestBroker;
let client: OpenAI;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "sent-bytes-"));
  input = join(home, "input");
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config"), FAKE_CLAUDE_INPUT: input };
  const providers = [{ id: "claude", claude: { executable, environment } }];
  broker = await TestBroker.start({ config: JSON.stringify({ providers }) });
  client = new OpenAI({ baseURL: `${await broker.startAdapter()}/v1`, apiKey: broker.token, maxRetries: 0 });
});

afterAll(async () => {
  await broker?.close();
  rmSync(home, { recursive: true, force: true });
});

it(`is no more in the last of ${turns} turns than in the second`, { timeout: 60_000 }, async () => {
  const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [];
  /** Of each turn: the messages that the client sent, and what the agent read. */
  const told: number[] = [];
  const read: number[] = [];
  let before = 0;
  for (let turn = 0; turn < turns; turn++) {
    const content = `${randomUUID()} ${"question ".repeat(20)}[[say ${randomUUID().padEnd(answerBytes, ".")}]]`;
    messages.push({ role: "user", content });
    told.push(Buffer.byteLength(JSON.stringify(messages)));
    const { choices } = await client.chat.completions.create({ model: "claude", messages });
    messages.push({ role: "assistant", content: choices[0]?.message.content ?? "" });
    read.push(statSync(input).size - before);
    before += read.at(-1) ?? 0;
  }
  const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size, 0);
  const ratio = sum(told) / sum(read);
  console.log(
    `${turns} turns: ${sum(told)} bytes of histories, ${sum(read)} bytes to the agent, ${ratio.toFixed(1)} times less; the first turns ${read.slice(0, 3)}, the last ${read.at(-1)}`,
  );
  // All messages are of one length, and the agent is started once.
  expect(Math.max(...read.slice(1))).toBe(Math.min(...read.slice(1)));
  expect(read[1]).toBeGreaterThan(Buffer.byteLength(JSON.stringify(messages[0]?.content)));
  expect(ratio).toBeGreaterThan(turns / 4);
});
