/**
 * The requests of Open WebUI with ENABLE_FORWARD_USER_INFO_HEADERS, as it sends
 * them: the chat in a stream, with all of its messages; title, tags and
 * follow-up questions in one message that quotes the chat, without a stream.
 * All of them carry the id of the chat.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { SessionState } from "../../gen/sessionbroker/v1/session_pb.js";
import { TestBroker } from "../support/broker.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

let home: string;
let broker: TestBroker;
let baseURL: string;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "open-webui-"));
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
  const providers = [{ id: "claude", claude: { executable, environment } }];
  broker = await TestBroker.start({ config: JSON.stringify({ providers }) });
  baseURL = `${await broker.startAdapter()}/v1`;
});

afterAll(async () => {
  await broker?.close();
  rmSync(home, { recursive: true, force: true });
});

type Message = OpenAI.Chat.ChatCompletionMessageParam;

interface Answered {
  readonly sessionId: string;
  readonly content: string;
  /** What the agent remembers, this message included. */
  readonly prompts: readonly string[];
}

const asked = (content: string): Message => ({ role: "user", content });
const promptsIn = (answer: string): string[] => JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");

class WebUi {
  readonly chatId = randomUUID();
  messages: Message[] = [];
  readonly #client = new OpenAI({
    baseURL,
    apiKey: broker.token,
    maxRetries: 0,
    defaultHeaders: {
      "X-OpenWebUI-User-Name": "Ada%20L",
      "X-OpenWebUI-User-Id": randomUUID(),
      "X-OpenWebUI-User-Email": "ada@example.com",
      "X-OpenWebUI-User-Role": "user",
      "X-OpenWebUI-Chat-Id": this.chatId,
    },
  });

  /** The next message, or with `messages` what follows them. */
  async say(text: string, messages = this.messages): Promise<Answered> {
    const sent = [...messages, asked(text)];
    const answer = await this.#stream(sent);
    this.messages = [...sent, { role: "assistant", content: answer.content }];
    return answer;
  }

  /** Leaves after the first piece, and keeps it. */
  async sayAndStop(text: string): Promise<void> {
    const sent = [...this.messages, asked(text)];
    const stopped = new AbortController();
    const answer = await this.#stream(sent, stopped);
    this.messages = [...sent, { role: "assistant", content: answer.content }];
  }

  /** A title, tags or questions for the chat. */
  async aside(task: string): Promise<Answered> {
    // What the agent of this test takes for orders is not quoted.
    const quoted = (content: unknown) => String(content).replace(/\[\[.*?\]\]/g, "");
    const lines = this.messages.map(({ role, content }) => `${role.toUpperCase()}: ${quoted(content)}`);
    const content = `### Task:\n${task}\n<chat_history>\n${lines.join("\n")}\n</chat_history>`;
    const request = { model: "claude", messages: [asked(content)], stream: false as const };
    const call = this.#client.chat.completions.create({ ...request, max_completion_tokens: 1000 });
    const { data, response } = await call.withResponse();
    return answered(response, data.choices[0]?.message.content ?? "");
  }

  async #stream(messages: Message[], stop?: AbortController): Promise<Answered> {
    const request = { model: "claude", messages, stream: true as const };
    const call = this.#client.chat.completions.create(
      request,
      stop === undefined ? {} : { signal: stop.signal },
    );
    const { data, response } = await call.withResponse();
    let content = "";
    for await (const { choices } of data) {
      content += choices[0]?.delta.content ?? "";
      if (content !== "" && stop !== undefined) stop.abort();
    }
    return answered(response, content);
  }
}

function answered(response: Response, content: string): Answered {
  const sessionId = response.headers.get("x-session-broker-session-id") ?? "";
  return { sessionId, content, prompts: promptsIn(content) };
}

let chat: WebUi;
beforeEach(() => {
  chat = new WebUi();
});

it("title, tags and questions are answered beside the chat, which knows nothing of them", async () => {
  const { sessionId } = await chat.say("one");
  const tasks = ["Make a title.", "Find tags.", "Suggest questions."];
  const asides = await Promise.all(tasks.map((task) => chat.aside(task)));
  for (const [i, aside] of asides.entries()) {
    expect(aside.sessionId).not.toBe(sessionId);
    expect(aside.prompts).toEqual([expect.stringContaining(tasks[i] ?? "")]);
  }
  expect(await chat.say("two")).toMatchObject({ sessionId, prompts: ["one", "two"] });
  await chat.aside("Find tags.");
  expect(await chat.say("three")).toMatchObject({ sessionId, prompts: ["one", "two", "three"] });
});

it("the sessions beside a chat are archived, and the chat's is not", async () => {
  const { sessionId } = await chat.say("one");
  const aside = await chat.aside("Make a title.");
  const states = await Promise.all(
    [sessionId, aside.sessionId].map(async (value) => {
      const selector = { case: "sessionId" as const, value };
      return (await broker.client().getSession({ selector })).session?.state;
    }),
  );
  expect(states).toEqual([SessionState.ACTIVE, SessionState.ARCHIVED]);
});

it("an answer that is asked for again is the one that the chat goes on from, the first one included", async () => {
  await chat.say("one");
  expect(await chat.say("one", [])).toMatchObject({ prompts: ["one"] });
  const again = await chat.say("two");
  expect(again.prompts).toEqual(["one", "two"]);
  const said = chat.messages.slice(0, 2);
  const second = await chat.say("two", said);
  expect(second.sessionId).not.toBe(again.sessionId);
  expect((await chat.say("three")).sessionId).toBe(second.sessionId);
});

it("a first message that is edited begins the chat anew", async () => {
  const first = await chat.say("one");
  const edited = await chat.say("uno", []);
  expect(edited).toMatchObject({ prompts: ["uno"] });
  expect(edited.sessionId).not.toBe(first.sessionId);
  const next = await chat.say("two");
  expect(next).toMatchObject({ sessionId: edited.sessionId, prompts: ["uno", "two"] });
});

it("a later message that is edited goes on from what was said before it", async () => {
  await chat.say("one");
  const said = chat.messages;
  const { sessionId } = await chat.say("two");
  const edited = await chat.say("dos", said);
  expect(edited.sessionId).not.toBe(sessionId);
  expect(edited.prompts.join()).toContain("one");
  expect(edited.prompts.join()).not.toContain('"two"');
  expect((await chat.say("three")).sessionId).toBe(edited.sessionId);
});

it("an answer that was stopped is gone on from, with the tags that were asked for meanwhile", async () => {
  const { sessionId } = await chat.say("one");
  await chat.sayAndStop("two [[hang]]");
  await chat.aside("Find tags.");
  expect((await chat.say("three")).sessionId).toBe(sessionId);
});

it("a chat of which the oldest messages are dropped goes on", async () => {
  const { sessionId } = await chat.say("one");
  await chat.say("two");
  const trimmed = chat.messages.slice(-1);
  expect(await chat.say("three", trimmed)).toMatchObject({ sessionId, prompts: ["one", "two", "three"] });
});

it("a client of another header that sends one message at a time has a memory by it", async () => {
  const client = new OpenAI({ baseURL, apiKey: broker.token, maxRetries: 0 });
  const headers = { "x-session-id": randomUUID() };
  let prompts: string[] = [];
  for (const text of ["one", "two"]) {
    const request = { model: "claude", messages: [asked(text)] };
    const { choices } = await client.chat.completions.create(request, { headers });
    prompts = promptsIn(choices[0]?.message.content ?? "");
  }
  expect(prompts).toEqual(["one", "two"]);
});
