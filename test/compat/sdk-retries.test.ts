/** An SDK's own repeats, which have no idempotency key. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { ScriptedService } from "./scripted-service.js";

let service: ScriptedService;
let broker: TestBroker;
let client: OpenAI;

beforeAll(async () => {
  service = await ScriptedService.start();
  broker = await TestBroker.start({ config: JSON.stringify({ providers: [service.provider] }) });
  const baseURL = `${await broker.startAdapter()}/v1`;
  client = new OpenAI({ baseURL, apiKey: broker.token, maxRetries: 0 });
});

afterAll(async () => {
  await broker.close();
  await service[Symbol.asyncDispose]();
});

const retried = { "x-stainless-retry-count": "1" };

function chat(said: readonly string[], headers = {}) {
  const messages = said.map((content, i) => ({
    role: i % 2 === 0 ? ("user" as const) : ("assistant" as const),
    content,
  }));
  return client.chat.completions.create({ model: "scripted", messages }, { headers });
}

it("in a chat without an id follows the turn that runs, and gets its answer once it has ended", async () => {
  const first = await chat(["say hello"]);
  const said = ["say hello", first.choices[0]?.message.content ?? "", "hold\nsay more"];
  const before = service.asked.length;
  const running = chat(said);
  await service.held();
  const again = chat(said, retried);
  service.letGo();
  expect((await again).id).toBe((await running).id);
  expect((await chat(said, retried)).id).toBe((await running).id);
  expect(service.asked).toHaveLength(before + 1);
  const next = await chat([...said, "more", "say on"]);
  expect(service.asked.at(-1)?.messages).toHaveLength(5);
  expect(next.choices[0]?.message.content).toBe("on");
});

it("is a new turn if the same is asked again by a person, or by somebody else", async () => {
  const first = await chat(["say hi"]);
  const said = ["say hi", first.choices[0]?.message.content ?? "", "say there"];
  const ids = [await chat(said), await chat(said), await chat(["say hi"], retried)].map(({ id }) => id);
  expect(new Set(ids).size).toBe(3);
  const others = new OpenAI({ baseURL: client.baseURL, apiKey: broker.adminToken, maxRetries: 0 });
  const messages = [{ role: "user" as const, content: "say there" }];
  const keyed = { "x-session-broker-key": "k" };
  const one = await client.chat.completions.create({ model: "scripted", messages }, { headers: keyed });
  const other = await others.chat.completions.create(
    { model: "scripted", messages },
    { headers: { ...keyed, ...retried } },
  );
  expect(other.id).not.toBe(one.id);
});

it("whose client leaves cancels the turn that it follows", async () => {
  const keyed = { "x-session-broker-key": "left" };
  const messages = [{ role: "user" as const, content: "hold\nsay late" }];
  const running = client.chat.completions
    .create({ model: "scripted", messages }, { headers: keyed })
    .catch((error) => error);
  await service.held();
  const leaving = new AbortController();
  const stream = await client.chat.completions.create(
    { model: "scripted", messages, stream: true },
    { headers: { ...keyed, ...retried }, signal: leaving.signal },
  );
  for await (const _ of stream) break;
  leaving.abort();
  expect(await running).toMatchObject({ status: 409 });
});
