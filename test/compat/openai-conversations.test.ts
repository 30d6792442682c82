/** Conversations, with OpenAI's own client, and what else the adapter shows. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { OpenApi, openapiFile, recordingFetch, type Sent } from "./openapi.js";
import { ScriptedService } from "./scripted-service.js";

let service: ScriptedService;
let broker: TestBroker;
let adapter: string;
let client: OpenAI;
let admin: OpenAI;
const sent: Sent[] = [];

beforeAll(async () => {
  service = await ScriptedService.start();
  broker = await TestBroker.start({
    config: JSON.stringify({ providers: [service.provider, { id: "echo", echo: {} }] }),
  });
  adapter = await broker.startAdapter();
  client = clientOf(broker.token);
  admin = clientOf(broker.adminToken);
});

afterAll(async () => {
  await broker.close();
  await service[Symbol.asyncDispose]();
});

function clientOf(token: string): OpenAI {
  return new OpenAI({ baseURL: `${adapter}/v1`, apiKey: token, maxRetries: 0, fetch: recordingFetch(sent) });
}

function ask(conversation: string | { id: string }, input: string, model = "scripted", headers = {}) {
  return client.responses.create({ model, input, conversation }, { headers });
}

it("a conversation is one session of each provider that answers in it", async () => {
  const { id } = await client.conversations.create();
  expect(id).toMatch(/^conv_[0-9a-f]{32}$/);
  const first = await ask(id, "say one");
  expect(first.conversation).toEqual({ id });
  expect(await client.responses.retrieve(first.id)).toMatchObject({ conversation: { id } });
  await ask({ id }, "say two");
  expect(service.asked.at(-1)?.messages).toHaveLength(3);
  expect((await ask(id, "three", "echo")).output_text).toBe("turn 1: three");
  const { sessions } = await broker.client().listSessions({ scope: "responses" });
  expect(sessions.map(({ key }) => `${key?.provider} ${key?.externalId}`).sort()).toEqual([
    `echo ${id}`,
    `scripted ${id}`,
  ]);
});

it("is shown as soon as it is made, and with an id of the client's own once it was used", async () => {
  const before = Math.floor(Date.now() / 1000);
  const made = await client.conversations.create({ metadata: { a: "b" } });
  expect(made.created_at).toBeGreaterThanOrEqual(before);
  expect(await client.conversations.retrieve(made.id)).toEqual(made);
  const missing = { status: 404, code: "conversation_not_found" };
  await expect(client.conversations.retrieve("mine")).rejects.toMatchObject(missing);
  await ask("mine", "say x");
  expect(await client.conversations.retrieve("mine")).toMatchObject({ id: "mine", object: "conversation" });
});

it("shows what was said in it, page by page", async () => {
  const { id } = await client.conversations.create();
  const asked = await ask(id, "say one");
  await ask(id, "say two");
  const items: object[] = [];
  for await (const item of client.conversations.items.list(id, { order: "asc", limit: 3 })) items.push(item);
  const [said] = asked.output;
  expect(items).toMatchObject([
    { role: "user", content: [{ type: "input_text", text: "say one" }] },
    { id: said?.id, role: "assistant", content: [{ type: "output_text", text: "one" }] },
    { role: "user", content: [{ text: "say two" }] },
    { role: "assistant", content: [{ text: "two" }] },
  ]);
  const newest = await client.conversations.items.list(id, { limit: 1 });
  expect(newest).toMatchObject({ has_more: true, data: [{ content: [{ text: "two" }] }] });
  expect((await client.conversations.items.list("unused")).data).toEqual([]);
  await expect(client.conversations.items.list(id, { after: "msg_x" })).rejects.toMatchObject({
    status: 400,
    param: "after",
  });
});

it("a response shows what it was asked", async () => {
  const { id } = await ask("inputs", "say one");
  const { data } = await client.responses.inputItems.list(id);
  expect(data).toMatchObject([{ type: "message", role: "user", content: [{ text: "say one" }] }]);
  await expect(client.responses.inputItems.list("resp_x")).rejects.toMatchObject({ status: 404 });
});

it("is deleted with its sessions, by those who may", async () => {
  const { id } = await client.conversations.create();
  await ask(id, "say one");
  const { id: kept } = await ask("other", "say one");
  await expect(client.conversations.delete(id)).rejects.toMatchObject({ status: 403 });
  expect(await admin.conversations.delete(id)).toEqual({ id, object: "conversation.deleted", deleted: true });
  await ask(id, "say two");
  expect(service.asked.at(-1)?.messages).toHaveLength(1);
  expect((await client.responses.retrieve(kept)).status).toBe("completed");
  await expect(admin.conversations.delete("never used")).rejects.toMatchObject({ status: 404 });
});

it("does not begin with items, and is not named beside another session", async () => {
  const item = { type: "message" as const, role: "user" as const, content: "hi" };
  await expect(client.conversations.create({ items: [item] })).rejects.toMatchObject({
    status: 400,
    param: "items",
  });
  await expect(ask("c", "x", "scripted", { "x-session-broker-key": "k" })).rejects.toMatchObject({
    status: 400,
    param: "conversation",
  });
});

it("needs a token that is good", async () => {
  await expect(clientOf("bad").conversations.create()).rejects.toMatchObject({ status: 401 });
});

it("metrics count requests by route and status, and hold nothing of a caller's", async () => {
  await client.models.list();
  await client.models.retrieve("echo").catch(() => {});
  await client.get("/secret-path").catch(() => {});
  const response = await fetch(`${adapter}/metrics`);
  const text = await response.text();
  expect(response.headers.get("content-type")).toContain("text/plain");
  const name = "session_broker_adapter_requests_total";
  expect(text).toContain(`${name}{route="GET /v1/models",status="200"} 1`);
  expect(text).toContain(`${name}{route="GET /v1/models/{name}",status="200"} 1`);
  expect(text).toContain(`${name}{route="other",status="404"} 1`);
  expect(text).toMatch(
    /session_broker_adapter_request_duration_seconds_count\{route="POST \/v1\/responses"\} \d/,
  );
  expect(text).toContain("process_cpu_seconds_total");
  for (const secret of ["secret-path", broker.token, "conv_", "never used"])
    expect(text).not.toContain(secret);
});

it.skipIf(openapiFile === undefined)(
  "obeys OpenAI's schema (SESSION_BROKER_TEST_OPENAPI)",
  { timeout: 120_000 },
  () => {
    const openapi = new OpenApi(openapiFile ?? "");
    const wrong = sent.flatMap(({ route, status, value }) => {
      if (!/conversations|input_items/.test(route)) return [];
      if (status !== 200) return openapi.problems("ErrorResponse", value);
      if (route.endsWith("/input_items")) return openapi.problems("ResponseItemList", value);
      if (route.endsWith("/items")) return openapi.problems("ConversationItemList", value);
      const deleted = route.startsWith("DELETE");
      return openapi.problems(deleted ? "DeletedConversationResource" : "ConversationResource", value);
    });
    expect(new Set(wrong)).toEqual(new Set());
    expect(openapi.problems("ConversationResource", {})).not.toEqual([]);
  },
);
