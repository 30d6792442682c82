/** A model service behind the broker, which alone remembers the conversation. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { answerRecords, ModelService, sendError, stream } from "../support/model-service.js";
import { dispatchTurn } from "../support/turns.js";

const key = "sk-of-the-service";

interface Message {
  readonly role: string;
  readonly content: string;
}

/** Has Chat Completions alone, and answers with the number of messages. */
const serve = () =>
  ModelService.start((call) => {
    if (!call.path.endsWith("/chat/completions")) return sendError(call, 404, { message: "no such path" });
    const messages: readonly Message[] = call.body.messages;
    const text = messages.at(-1)?.content ?? "";
    if (text === "fail") return sendError(call, 429, { message: "slow down" }, { "retry-after": "3" });
    stream(call, ...answerRecords(call.path, { texts: ["answer ", `to ${text}`] }));
    return call.response.end();
  });

let service: ModelService;
let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  service = await serve();
  const openai = { baseUrl: service.url, keyVariable: "SERVICE_KEY" };
  broker = await TestBroker.start({
    config: JSON.stringify({ providers: [{ id: "local", openai, models: ["small", "large"] }] }),
    environment: { SERVICE_KEY: key },
  });
  client = broker.client();
});

afterAll(async () => {
  await broker.close();
  await service[Symbol.asyncDispose]();
});

async function ask(externalId: string, text: string, more: { system?: string; model?: string } = {}) {
  const target = { case: "key" as const, value: { scope: "acme", externalId, provider: "local" } };
  const events = await dispatchTurn(client, text, { target, ...more }).ended;
  return events.at(-1)?.event;
}

const lastMessages = () => service.calls.at(-1)?.body.messages as readonly Message[];

describe("a conversation", () => {
  it("is sent with each turn, and the system prompt with it", async () => {
    expect(await ask("chat", "one", { system: "Be brief." })).toMatchObject({
      case: "completed",
      value: {
        text: "answer to one",
        model: "model-as-answered",
        usage: { inputTokens: 20n, outputTokens: 8n },
      },
    });
    expect((await ask("chat", "fail"))?.value).toMatchObject({
      error: { code: TurnErrorCode.RATE_LIMITED, retryable: true, retryAfter: { seconds: 3n } },
    });
    await broker.restart();
    client = broker.client();
    await ask("chat", "two", { system: "Be brief.", model: "large" });
    expect(lastMessages()).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "one" },
      { role: "assistant", content: "answer to one" },
      { role: "user", content: "two" },
    ]);
    expect(service.calls.at(-1)?.body.model).toBe("large");
  });

  it("begins anew with a reset", async () => {
    await ask("reset", "one");
    const selector = {
      case: "key" as const,
      value: { scope: "acme", externalId: "reset", provider: "local" },
    };
    await client.resetSession({ selector, expectedGeneration: 1 });
    await ask("reset", "two");
    expect(lastMessages()).toEqual([{ role: "user", content: "two" }]);
  });

  it("is cancelled with its request", async () => {
    await using silent = await ModelService.start((call) =>
      stream(call, ...answerRecords("chat", { texts: ["x"] }).slice(0, 2)),
    );
    const openai = { baseUrl: silent.url, api: "API_CHAT_COMPLETIONS" };
    const config = JSON.stringify({ providers: [{ id: "local", openai, models: ["m"] }] });
    const other = await TestBroker.start({ config });
    try {
      const target = { case: "key" as const, value: { scope: "acme", externalId: "c", provider: "local" } };
      const turn = dispatchTurn(other.client(), "hello", { target });
      await turn.event("textDelta");
      await other.client().cancelTurn({ turnId: turn.turnId });
      await turn.event("cancelled");
      await silent.calls[0]?.closed;
    } finally {
      await other.close();
    }
  });
});

it("the key is sent to the service, and stands nowhere else", async () => {
  await ask("key", "one");
  expect(service.calls.every(({ headers }) => headers.authorization === `Bearer ${key}`)).toBe(true);
  expect(broker.output.join("")).not.toContain(key);
  const { providers } = await client.getServerInfo({});
  expect(providers[0]).toMatchObject({ id: "local", kind: "openai", available: true });
  expect(
    JSON.stringify(providers, (_, value) => (typeof value === "bigint" ? String(value) : value)),
  ).not.toContain(key);
});

it("another broker behind its adapter is such a service", async () => {
  const upstream = await TestBroker.start();
  const downstream = new TestBroker({
    config: JSON.stringify({
      providers: [
        {
          id: "upstream",
          openai: { baseUrl: `${await upstream.startAdapter()}/v1`, keyVariable: "UPSTREAM_TOKEN" },
          models: ["echo"],
        },
      ],
    }),
    environment: { UPSTREAM_TOKEN: upstream.token },
  });
  try {
    await downstream.start();
    const target = {
      case: "key" as const,
      value: { scope: "acme", externalId: "far", provider: "upstream" },
    };
    const answers: unknown[] = [];
    for (const text of ["hello", "again"]) {
      const events = await dispatchTurn(downstream.client(), text, { target }).ended;
      answers.push(events.at(-1)?.event.value);
    }
    // Each request tells what was said before, and so finds its session there.
    expect(answers).toMatchObject([{ text: "turn 1: hello" }, { text: "turn 2: again" }]);
  } finally {
    await downstream.close();
    await upstream.close();
  }
});

it.each([
  ["ftp://127.0.0.1/v1", "http:// or https://"],
  ["http://me:secret@127.0.0.1/v1", "no password"],
  ["http://127.0.0.1/v1?key=x", "no query"],
])("%s ends the start with code 2 and names the field", async (baseUrl, message) => {
  const broken = new TestBroker({
    config: JSON.stringify({ providers: [{ id: "x", openai: { baseUrl } }] }),
  });
  try {
    const refusal = await broken.start().then(
      () => "it started",
      (error: Error) => error.message,
    );
    expect(refusal).toContain("ended with 2");
    expect(refusal).toContain("providers[0].openai.base_url: ");
    expect(refusal).toContain(message);
  } finally {
    await broken.close();
  }
});
