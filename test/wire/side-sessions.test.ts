/** Chat clients that send their whole history, name the chat, and use its name for calls beside it. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { HistoryMessage_Author } from "../../gen/sessionbroker/v1/turn_pb.js";
import { findMarked } from "../../src/providers/marks.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

let home: string;
let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "sides-"));
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
  broker = await TestBroker.start({
    config: JSON.stringify({ providers: [{ id: "claude", claude: { executable, environment } }] }),
  });
  client = broker.client();
});

afterAll(async () => {
  await broker?.close();
  rmSync(home, { recursive: true, force: true });
});

type Said = readonly [user: string, answer: string];

const part = (text: string) => ({ part: { case: "text" as const, value: text } });
/** What the agent remembers, its own last prompt included. */
const promptsOf = (answer: string): string[] => JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");

class Chat {
  readonly key = { scope: "acme/openwebui", externalId: randomUUID(), provider: "claude" };
  said: Said[] = [];

  ask(text: string, said: readonly Said[] = this.said) {
    const history = said.flatMap(([user, answer]) => [
      { author: HistoryMessage_Author.USER, parts: [part(user)] },
      { author: HistoryMessage_Author.ASSISTANT, parts: [part(answer)] },
    ]);
    const target = { case: "key" as const, value: this.key };
    return dispatchTurn(client, text, { target, history, historyReplayed: true });
  }

  async say(text: string, said: readonly Said[] = this.said) {
    const turn = this.ask(text, said);
    const { session } = await turn.event("accepted");
    const { text: answer } = await turn.event("completed");
    this.said = [...said, [text, answer]];
    return { sessionId: session?.sessionId ?? "", prompts: promptsOf(answer), answer };
  }

  async current() {
    const { session } = await client.getSession({ selector: { case: "key", value: this.key } });
    return session;
  }
}

it("a chat goes on, and its agent is told only what is new", async () => {
  const chat = new Chat();
  const { sessionId } = await chat.say("one");
  const second = await chat.say("two");
  expect(second).toMatchObject({ sessionId, prompts: ["one", "two"] });
  // A client that drops what is old goes on all the same.
  const third = await chat.say("three", chat.said.slice(-1));
  expect(third).toMatchObject({ sessionId, prompts: ["one", "two", "three"] });
});

it("a title for the chat is made beside it", async () => {
  const chat = new Chat();
  const { sessionId } = await chat.say("one");
  const { said } = chat;
  // As clients ask for it: a history of their own, under the chat's id.
  const title = await chat.say("Give this chat a title.", [["You make titles.", "I do."]]);
  expect(title.sessionId).not.toBe(sessionId);
  expect(title.prompts.at(-1)).toContain("Give this chat a title.");
  chat.said = said;
  expect((await chat.current())?.sessionId).toBe(sessionId);
  expect(await chat.say("two")).toMatchObject({ sessionId, prompts: ["one", "two"] });
  // Nothing of it is kept running.
  expect(await findMarked((mark) => mark.endsWith(`/${title.sessionId}`))).toEqual([]);
});

it("a chat that is edited goes on in a session of its own, which becomes the chat's", async () => {
  const chat = new Chat();
  const { sessionId } = await chat.say("one");
  await chat.say("two");
  const { said } = chat;
  const edited = await chat.say("another two", said.slice(0, 1));
  expect(edited.sessionId).not.toBe(sessionId);
  expect(edited.prompts[0]).toContain("one");
  expect(edited.prompts.join()).not.toContain('"two"');
  // Nobody knows yet which of the two the chat is.
  expect((await chat.current())?.sessionId).toBe(sessionId);

  const next = await chat.say("three");
  expect(next.sessionId).toBe(edited.sessionId);
  expect(next.prompts.slice(-2)).toEqual([edited.prompts.at(-1), "three"]);
  expect(await chat.current()).toMatchObject({ sessionId: edited.sessionId, generation: 2 });

  // The branch that was left can be gone back to.
  const back = await chat.say("and two again", said);
  expect(back).toMatchObject({ sessionId, prompts: ["one", "two", "and two again"] });
  expect(await chat.current()).toMatchObject({ sessionId, generation: 3 });
});

it("a chat whose answer is asked for again goes on from the new one", async () => {
  const chat = new Chat();
  await chat.say("one");
  const first = await chat.say("two");
  const again = await chat.say("two", chat.said.slice(0, 1));
  expect(again.sessionId).not.toBe(first.sessionId);
  expect((await chat.say("three")).sessionId).toBe(again.sessionId);
});

it("an answer that was stopped is gone on from with what was delivered of it", async () => {
  const chat = new Chat();
  const { sessionId } = await chat.say("one");
  const stopped = chat.ask("two [[hang]]");
  await stopped.event("textDelta");
  await client.cancelTurn({ turnId: stopped.turnId });
  const { partialText } = await stopped.event("cancelled");
  expect(partialText).not.toBe("");
  const next = await chat.say("three", [...chat.said, ["two [[hang]]", partialText]]);
  expect(next.sessionId).toBe(sessionId);
});

it("a broker that is killed knows the branches", async () => {
  const chat = new Chat();
  await chat.say("one");
  await chat.say("two");
  const edited = await chat.say("another two", chat.said.slice(0, 1));
  await broker.restart("SIGKILL");
  client = broker.client();
  expect((await chat.say("three")).sessionId).toBe(edited.sessionId);
});

it("20 first messages at once are turns of one session", async () => {
  const chat = new Chat();
  // Its answer is held back until all of them are there.
  const first = chat.ask("message 0 [[hang]]", []);
  await first.event("textDelta");
  const others = Array.from({ length: 19 }, (_, i) => chat.ask(`message ${i + 1}`, []));
  const accepted = await Promise.all([first, ...others].map((turn) => turn.event("accepted")));
  await client.cancelTurn({ turnId: first.turnId });
  await Promise.all(others.map((turn) => turn.event("completed")));
  expect(new Set(accepted.map(({ session }) => session?.sessionId)).size).toBe(1);
});

it("what comes in one message, once there was an answer, runs beside the chat", async () => {
  const chat = new Chat();
  const { sessionId } = await chat.say("one");
  const { said } = chat;
  const aside = await chat.say("Give this chat a title: one …", []);
  expect(aside).toMatchObject({ prompts: ["Give this chat a title: one …"] });
  expect(aside.sessionId).not.toBe(sessionId);
  expect(await chat.say("two", said)).toMatchObject({ sessionId, prompts: ["one", "two"] });
});
