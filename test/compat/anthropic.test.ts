/** Messages, with Anthropic's own client, against adapters in front of a real broker. */
import Anthropic from "@anthropic-ai/sdk";
import type { MessageParam, RawMessageStreamEvent } from "@anthropic-ai/sdk/resources/messages";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { ScriptedService } from "./scripted-service.js";

let service: ScriptedService;
let broker: TestBroker;
let adapter: string;
let client: Anthropic;

beforeAll(async () => {
  service = await ScriptedService.start();
  broker = await TestBroker.start({
    config: JSON.stringify({ providers: [service.provider, { id: "echo", echo: {} }] }),
  });
  adapter = await broker.startAdapter();
  client = clientOf(adapter);
});

afterEach(() => service.letGo());

afterAll(async () => {
  await broker.close();
  await service[Symbol.asyncDispose]();
});

function clientOf(url: string, apiKey = broker.token): Anthropic {
  return new Anthropic({ baseURL: url, apiKey, authToken: null, maxRetries: 0 });
}

type Fields = Partial<Anthropic.MessageCreateParamsNonStreaming>;

function ask(content: MessageParam["content"], fields: Fields = {}, headers = {}) {
  const messages = [{ role: "user" as const, content }];
  return client.messages.create({ model: "scripted", max_tokens: 100, messages, ...fields }, { headers });
}

async function streamOf(
  content: string,
  fields: Fields = {},
  headers = {},
): Promise<RawMessageStreamEvent[]> {
  const messages = [{ role: "user" as const, content }];
  const events = [];
  const body = { model: "scripted", max_tokens: 100, messages, ...fields, stream: true as const };
  for await (const event of await client.messages.create(body, { headers })) events.push(event);
  return events;
}

function textOf(events: readonly RawMessageStreamEvent[]): string {
  return events
    .map((event) =>
      event.type === "content_block_delta" && event.delta.type === "text_delta" ? event.delta.text : "",
    )
    .join("");
}

const lastMessages = () => service.asked.at(-1)?.messages;

describe("a message", () => {
  it("is the answer of a turn", async () => {
    const { data, response } = await ask("think hm\nsay hel|lo", {
      system: [
        { type: "text", text: "Be brief." },
        { type: "text", text: "Be kind.", cache_control: { type: "ephemeral" } },
      ],
      metadata: { user_id: "somebody" },
      stop_sequences: ["ignored"],
    }).withResponse();
    expect(data).toMatchObject({
      id: `msg_${response.headers.get("x-session-broker-turn-id")}`,
      type: "message",
      role: "assistant",
      model: "scripted",
      content: [{ type: "text", text: "hello" }],
      stop_reason: "end_turn",
      usage: { input_tokens: 9, output_tokens: 4 },
    });
    expect(lastMessages()).toMatchObject([
      { role: "system", content: "Be brief.\nBe kind." },
      { role: "user" },
    ]);
  });

  it("shows the agent's thinking to those who ask for it", async () => {
    const thinking = { type: "enabled" as const, budget_tokens: 1024 };
    const shown = await ask("think hm|so\nsay a\nthink b\nsay c", { thinking });
    expect(shown.content).toMatchObject([
      { type: "thinking", thinking: "hmso" },
      { type: "text", text: "a" },
      { type: "thinking", thinking: "b" },
      { type: "text", text: "c" },
    ]);
    expect((await ask("think hm\nsay a\nthink b\nsay c")).content).toMatchObject([{ text: "ac" }]);
  });

  it("is streamed in the order of the protocol", async () => {
    const events = await streamOf("think hm\nsay a|b", {
      thinking: { type: "enabled", budget_tokens: 1024 },
    });
    expect(events.map(({ type }) => type)).toEqual([
      "message_start",
      ...["content_block_start", "content_block_delta", "content_block_stop"],
      ...["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"],
      ...["message_delta", "message_stop"],
    ]);
    expect(textOf(events)).toBe("ab");
    expect(events.at(-2)).toMatchObject({ delta: { stop_reason: "end_turn" }, usage: { output_tokens: 4 } });
  });

  it("is put together by the client's own helper", async () => {
    const stream = client.messages.stream({
      model: "scripted",
      max_tokens: 9,
      messages: [{ role: "user", content: "say a|b|c\ncut" }],
    });
    expect(await stream.finalText()).toBe("abc");
    expect((await stream.finalMessage()).stop_reason).toBe("max_tokens");
  });

  it("goes on with the named session, and its history is not sent twice", async () => {
    const headers = { "x-claude-code-session-id": "s-1" };
    await ask("say one", {}, headers);
    await ask("say two", {}, headers);
    expect(lastMessages()).toHaveLength(3);
    const messages: MessageParam[] = [
      { role: "user", content: "say one" },
      {
        role: "assistant",
        content: [
          { type: "tool_use", id: "t", name: "f", input: {} },
          { type: "text", text: "one" },
        ],
      },
      { role: "user", content: "say three" },
    ];
    await client.messages.create({ model: "scripted", max_tokens: 9, messages });
    expect(lastMessages()).toMatchObject([
      { content: "say one" },
      { content: "one" },
      { content: "say three" },
    ]);
    const { sessions } = await broker.client().listSessions({ scope: "claude-code" });
    expect(sessions).toMatchObject([{ key: { externalId: "s-1" }, turnCount: 2 }]);
  });

  it("shows that it lives", async () => {
    const response = await fetch(`${adapter}/v1/messages`, {
      method: "POST",
      headers: { "x-api-key": broker.token },
      body: JSON.stringify({
        model: "scripted",
        stream: true,
        messages: [{ role: "user", content: "hold" }],
      }),
    });
    await service.held();
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (!text.includes('event: ping\ndata: {"type":"ping"}\n\n')) text += (await reader?.read())?.value;
    expect(text.startsWith("event: message_start\n")).toBe(true);
    await reader?.cancel();
  });

  it("is the same turn for a repeat with its idempotency-key through another adapter", async () => {
    const headers = { "idempotency-key": "once", "x-session-broker-on-disconnect": "detach" };
    const victim = await broker.startAdapter();
    const body = {
      model: "scripted",
      max_tokens: 100,
      messages: [{ role: "user" as const, content: "say a\nhold\nsay b" }],
    };
    const broken = clientOf(victim)
      .messages.create(body, { headers })
      .catch((error) => error);
    await service.held();
    await broker.killAdapter(victim);
    expect(await broken).toBeInstanceOf(Anthropic.APIConnectionError);
    const before = service.asked.length;
    const rest = streamOf("say a\nhold\nsay b", {}, headers);
    service.letGo();
    expect(textOf(await rest)).toBe("ab");
    expect(service.asked).toHaveLength(before);
  });
});

describe("errors", () => {
  it("of the agent have their status, in a stream their event", async () => {
    const error = await ask("fail").catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Anthropic.RateLimitError);
    expect(error.headers.get("retry-after")).toBe("7");
    expect(error.error).toMatchObject({ type: "error", error: { type: "rate_limit_error" } });
    await expect(streamOf("fail")).rejects.toMatchObject({ type: "rate_limit_error" });
  });

  it.each([
    ["tools", { tools: [{ name: "f", input_schema: { type: "object" } }] }],
    ["model", { model: "" }],
    ["messages", { messages: [] }],
    [
      "messages",
      {
        messages: [
          { role: "user", content: "a" },
          { role: "assistant", content: "b" },
        ],
      },
    ],
    [
      "messages[0].content[0].source.url",
      {
        messages: [
          {
            role: "user",
            content: [{ type: "image", source: { type: "url", url: "https://example.com/x.png" } }],
          },
        ],
      },
    ],
    [
      "messages[0].content[0].type",
      { messages: [{ role: "user", content: [{ type: "tool_result", tool_use_id: "t" }] }] },
    ],
  ] satisfies [string, Fields][])("name the field %s", async (field, fields) => {
    const error = await ask("hi", fields).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Anthropic.BadRequestError);
    expect(error.error.error).toMatchObject({ type: "invalid_request_error" });
    expect(error.error.error.message).toContain(field);
  });

  it("of tokens and models have their types", async () => {
    await expect(
      clientOf(adapter, "bad").messages.create({
        model: "echo",
        max_tokens: 1,
        messages: [{ role: "user", content: "x" }],
      }),
    ).rejects.toMatchObject({ status: 401, type: "authentication_error" });
    await expect(ask("x", { model: "gpt-5" })).rejects.toMatchObject({
      status: 404,
      type: "not_found_error",
    });
    const post = async (authorization: string) => {
      const headers = { "x-api-key": broker.token, authorization };
      const body = JSON.stringify({ model: "echo", messages: [{ role: "user", content: "x" }] });
      return (await fetch(`${adapter}/v1/messages`, { method: "POST", headers, body })).status;
    };
    expect(await post("Bearer another")).toBe(400);
    expect(await post(`bearer ${broker.token}`)).toBe(200);
    const wrong = await fetch(`${adapter}/v1/messages`, { headers: { "x-api-key": "k" } });
    expect(await wrong.json()).toMatchObject({ type: "error", error: { type: "invalid_request_error" } });
  });
});

it("images are passed on, and refused by a provider that takes none", async () => {
  const source = { type: "base64" as const, media_type: "image/png" as const, data: "iVBORw==" };
  await expect(ask([{ type: "image", source }], { model: "echo" })).rejects.toMatchObject({ status: 400 });
  await ask([
    { type: "image", source },
    { type: "text", text: "say x" },
  ]);
  expect(JSON.stringify(lastMessages())).toContain("data:image/png;base64,iVBORw==");
});

it("tokens are counted by estimate", async () => {
  const count = (content: string) =>
    client.messages.countTokens({ model: "scripted", messages: [{ role: "user", content }] });
  expect(await count("x".repeat(400))).toEqual({ input_tokens: 100 });
});

it("models are listed in Anthropic's form", async () => {
  const models = await client.models.list();
  expect(models.data.map(({ id }) => id)).toEqual(["scripted", "scripted/small", "scripted/large", "echo"]);
  expect(await client.models.retrieve("scripted/small")).toEqual(models.data[1]);
  expect(models.data[1]?.created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  await expect(client.models.retrieve("gpt-5")).rejects.toMatchObject({
    status: 404,
    type: "not_found_error",
  });
});
