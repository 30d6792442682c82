/** The real client, with no header of ours: it sends its history with each message, and nothing else. */
import { randomUUID } from "node:crypto";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";

let broker: TestBroker;
let baseURL: string;

beforeAll(async () => {
  broker = await TestBroker.start();
  baseURL = `${await broker.startAdapter()}/v1`;
});

afterAll(() => broker?.close());

type Message = OpenAI.Chat.ChatCompletionMessageParam;

class Chat {
  messages: Message[] = [];
  readonly #client: OpenAI;

  constructor(headers: Record<string, string> = {}, system?: string) {
    this.#client = new OpenAI({ baseURL, apiKey: broker.token, defaultHeaders: headers, maxRetries: 0 });
    if (system !== undefined) this.messages.push({ role: "system", content: system });
  }

  /** The session that answered. */
  async say(content: string, messages = this.messages): Promise<string> {
    const asked: Message[] = [...messages, { role: "user", content }];
    const request = { model: "echo", messages: asked };
    const { data, response } = await this.#client.chat.completions.create(request).withResponse();
    this.messages = [...asked, { role: "assistant", content: data.choices[0]?.message.content ?? "" }];
    return response.headers.get("x-session-broker-session-id") ?? "";
  }

  get lastAnswer(): unknown {
    return this.messages.at(-1)?.content;
  }
}

describe("a client that names no chat", () => {
  it("has one session over 50 turns", { timeout: 60_000 }, async () => {
    const chat = new Chat({}, "Be brief.");
    const sessions = new Set<string>();
    for (let turn = 1; turn <= 50; turn++) {
      sessions.add(await chat.say(`message ${turn} ${randomUUID()}`));
      expect(chat.lastAnswer).toMatch(new RegExp(`^turn ${turn}: message ${turn} `));
    }
    expect(sessions.size).toBe(1);
  });

  it("has as many sessions as chats, though 100 begin with the same word at once", async () => {
    const word = `hi ${randomUUID()}`;
    const chats = Array.from({ length: 100 }, () => new Chat());
    const first = await Promise.all(chats.map((chat) => chat.say(word)));
    expect(new Set(first).size).toBe(100);
    const second = await Promise.all(chats.map((chat, i) => chat.say(`I am ${i}`)));
    expect(new Set(second).size).toBe(100);
    for (const [i, chat] of chats.entries()) expect(chat.lastAnswer).toContain(`I am ${i}`);
  });

  it("streams, and goes on from what it was streamed", async () => {
    const client = new OpenAI({ baseURL, apiKey: broker.token });
    const messages: Message[] = [{ role: "user", content: `one ${randomUUID()}` }];
    let answer = "";
    for await (const chunk of await client.chat.completions.create({
      model: "echo",
      messages,
      stream: true,
    })) {
      answer += chunk.choices[0]?.delta.content ?? "";
    }
    messages.push({ role: "assistant", content: answer }, { role: "user", content: "two" });
    const next = await client.chat.completions.create({ model: "echo", messages });
    expect(next.choices[0]?.message.content).toBe("turn 2: two");
  });
});

describe("a client that names its chat and sends all of it", () => {
  it("makes titles beside the chat, and goes on after an edit", async () => {
    const chat = new Chat({ "x-openwebui-chat-id": randomUUID() });
    const session = await chat.say("one");
    const said = chat.messages;
    const title = [
      { role: "user", content: "hello" } as const,
      { role: "assistant", content: "hi" } as const,
    ];
    expect(await chat.say("Make a title.", title)).not.toBe(session);
    expect(await chat.say("two", said)).toBe(session);
    expect(chat.lastAnswer).toBe("turn 2: two");
    const edited = await chat.say("another two", said.slice(0, 0).concat(said));
    expect(edited).not.toBe(session);
    expect(await chat.say("three")).toBe(edited);
  });
});
