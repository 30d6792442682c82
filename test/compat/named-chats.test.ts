/** Requests of programs that are not run here, in the form in which they send them. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";

let broker: TestBroker;
let adapter: string;

beforeAll(async () => {
  broker = await TestBroker.start();
  adapter = await broker.startAdapter();
});

afterAll(() => broker?.close());

type Message = { readonly role: string; readonly content: unknown };

/** The session, and what was streamed. */
async function send(body: object, headers: Readonly<Record<string, string>> = {}) {
  const response = await fetch(`${adapter}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${broker.token}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: "echo", stream: true, ...body }),
  });
  const stream = await response.text();
  const chunks = [...stream.matchAll(/^data: (\{.*)$/gm)].map(([, json = ""]) => JSON.parse(json));
  const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
  const sessionId = response.headers.get("x-session-broker-session-id");
  return { status: response.status, sessionId, text, usage: chunks.at(-1)?.usage };
}

describe("LibreChat", () => {
  const settings = { temperature: 1, top_p: 1, presence_penalty: 0, frequency_penalty: 0, user: "66f2a1" };

  it("goes on with its chat, whatever titles it asks for", async () => {
    const headers = { "x-conversation-id": randomUUID() };
    const say = (messages: readonly Message[]) => send({ ...settings, messages }, headers);
    const one = { role: "user", content: "one" };
    const first = await say([one]);
    const title = await say([{ role: "user", content: `A title, please: one ${first.text}` }]);
    expect(title.sessionId).not.toBe(first.sessionId);
    const answer = { role: "assistant", content: first.text };
    const second = await say([one, answer, { role: "user", content: "two" }]);
    expect(second).toMatchObject({ sessionId: first.sessionId, text: "turn 2: two" });
  });
});

describe("Cursor", () => {
  const settings = { temperature: 0, stream_options: { include_usage: true }, user: "google-oauth2|1" };
  const say = (messages: readonly Message[]) => send({ ...settings, messages });
  const part = (text: string) => [{ type: "text", text }];

  it("is known by its history", async () => {
    const system = { role: "system", content: "You are a programmer's assistant." };
    const one = { role: "user", content: part(`one ${randomUUID()}`) };
    const first = await say([system, one]);
    expect(first.usage).toMatchObject({ total_tokens: 0 });
    const answer = { role: "assistant", content: first.text };
    const second = await say([system, one, answer, { role: "user", content: part("two") }]);
    expect(second).toMatchObject({ sessionId: first.sessionId, text: "turn 2: two" });
  });

  it("is told that its tools are not taken", async () => {
    const tool = { type: "function", function: { name: "read_file", parameters: {} } };
    const { status } = await send({ messages: [{ role: "user", content: "hi" }], tools: [tool] });
    expect(status).toBe(400);
  });
});
