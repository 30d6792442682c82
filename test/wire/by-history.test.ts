/** Conversations of callers that name none, found by what was said in them. */
import { createHash, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HistoryMessage_Author } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  const tokenSha256 = createHash("sha256").update("shared-token").digest("hex");
  const credentials = [{ name: "shared", tokenSha256, role: "ROLE_DISPATCH", shared: true }];
  broker = await TestBroker.start({ config: JSON.stringify({ credentials }) });
  client = broker.client();
});

afterAll(() => broker?.close());

interface ChatOptions {
  readonly scope?: string;
  readonly system?: string;
  readonly model?: string;
  readonly endUser?: string;
  readonly client?: BrokerClient;
}

const part = (text: string) => ({ part: { case: "text" as const, value: text } });

/** A client that sends its whole history with each message, and no id. */
class Chat {
  readonly said: { readonly user: string; readonly answer: string }[] = [];

  constructor(private readonly options: ChatOptions = {}) {}

  fork(keep = this.said.length): Chat {
    const fork = new Chat(this.options);
    fork.said.push(...this.said.slice(0, keep));
    return fork;
  }

  ask(text: string) {
    const { scope = "acme/history", system = "", model = "", endUser = "" } = this.options;
    const target = { case: "byHistory" as const, value: { scope, provider: "echo", endUser } };
    const history = this.said.flatMap(({ user, answer }) => [
      { author: HistoryMessage_Author.USER, parts: [part(user)] },
      { author: HistoryMessage_Author.ASSISTANT, parts: [part(answer)] },
    ]);
    return dispatchTurn(this.options.client ?? client, text, { target, history, system, model });
  }

  /** The session that the message went to. */
  async say(text: string): Promise<string> {
    const turn = this.ask(text);
    const { session } = await turn.event("accepted");
    const { text: answer } = await turn.event("completed");
    this.said.push({ user: text, answer });
    return session?.sessionId ?? "";
  }
}

it("are one session over many turns, and over kill -9", async () => {
  const chat = new Chat();
  const first = await chat.say(`hello ${randomUUID()}`);
  for (const text of ["two", "three"]) expect(await chat.say(text)).toBe(first);
  await broker.restart("SIGKILL");
  client = broker.client();
  expect(await chat.say("four")).toBe(first);
  expect(chat.said.map(({ answer }) => answer.slice(0, 6))).toEqual(["turn 1", "turn 2", "turn 3", "turn 4"]);
});

it("that begin with the same words are as many sessions as there are chats", async () => {
  const word = `hi ${randomUUID()}`;
  const chats = Array.from({ length: 100 }, () => new Chat());
  const sessions = await Promise.all(chats.map((chat) => chat.say(word)));
  expect(new Set(sessions).size).toBe(100);
  // All were answered the same: nobody can tell whose the next message is, and none goes to another's session.
  const next = await Promise.all(chats.map((chat, i) => chat.say(`I am number ${i}`)));
  expect(next.filter((session) => sessions.includes(session))).toEqual([]);
  expect(new Set(next).size).toBe(100);
  // From now on they differ.
  expect(await Promise.all(chats.map((chat) => chat.say("And now?")))).toEqual(next);
});

describe("that branch", () => {
  it("leave the session to whoever goes on from its last answer", async () => {
    const chat = new Chat();
    const first = await chat.say(`one ${randomUUID()}`);
    await chat.say("two");
    const branch = chat.fork(1);
    const second = await branch.say("another two");
    expect(second).not.toBe(first);
    expect(await chat.say("three")).toBe(first);
    expect(await branch.say("another three")).toBe(second);
  });

  it("at the same time are two sessions", async () => {
    const chat = new Chat();
    const first = await chat.say(`one ${randomUUID()}`);
    const branch = chat.fork();
    const sessions = await Promise.all([chat.say("left"), branch.say("right")]);
    expect(new Set(sessions).size).toBe(2);
    expect(sessions).toContain(first);
    expect(await chat.say("more")).toBe(sessions[0]);
    expect(await branch.say("more")).toBe(sessions[1]);
  });
});

it.each([
  ["scope", { scope: "acme/other" }],
  ["system prompt", { system: "Be brief." }],
  ["end user", { endUser: "ada" }],
])("of another %s are another's", async (_, options) => {
  const chat = new Chat();
  const first = await chat.say(`one ${randomUUID()}`);
  const other = new Chat(options);
  other.said.push(...chat.said);
  expect(await other.say("two")).not.toBe(first);
});

it("of another credential are another's", async () => {
  const chat = new Chat();
  const first = await chat.say(`one ${randomUUID()}`);
  const other = new Chat({ client: broker.client("connect-h2", broker.token) });
  other.said.push(...chat.said);
  expect(await other.say("two")).not.toBe(first);
});

it("of a credential that several people use are found only by their end user", async () => {
  const shared = broker.client("connect-h2", "shared-token");
  const nobody = new Chat({ client: shared });
  const first = await nobody.say(`one ${randomUUID()}`);
  expect(await nobody.say("two")).not.toBe(first);
  const ada = new Chat({ client: shared, endUser: "ada" });
  const hers = await ada.say(`one ${randomUUID()}`);
  expect(await ada.say("two")).toBe(hers);
});

it("go on in a new session when the old one was reset or deleted", async () => {
  for (const end of ["reset", "delete"]) {
    const chat = new Chat();
    const first = await chat.say(`one ${randomUUID()}`);
    const selector = { case: "sessionId" as const, value: first };
    if (end === "reset") await client.resetSession({ selector, expectedGeneration: 1 });
    else await client.deleteSession({ selector, expectedGeneration: 1 });
    const second = await chat.say("two");
    expect(second).not.toBe(first);
    expect(await chat.say("three")).toBe(second);
  }
});

it("do not go on from an answer that was not whole", async () => {
  const chat = new Chat();
  const first = await chat.say(`one ${randomUUID()}`);
  const broken = chat.fork();
  broken.said.push({ user: "two", answer: "half of an ans" });
  expect(await broken.say("three")).not.toBe(first);
  expect(await chat.say("two")).toBe(first);
});

it("meet a retry with the same turn id, and run it once", async () => {
  const chat = new Chat();
  await chat.say(`one ${randomUUID()}`);
  const turn = chat.ask("two");
  await turn.ended;
  const { said } = chat;
  const target = { case: "byHistory" as const, value: { scope: "acme/history", provider: "echo" } };
  const history = said.flatMap(({ user, answer }) => [
    { author: HistoryMessage_Author.USER, parts: [part(user)] },
    { author: HistoryMessage_Author.ASSISTANT, parts: [part(answer)] },
  ]);
  const again = dispatchTurn(client, "two", { target, history, turnId: turn.turnId });
  expect((await again.event("accepted")).session?.sessionId).toBe(
    (await turn.event("accepted")).session?.sessionId,
  );
  expect(await again.ended).toHaveLength(turn.events.length);
});
