import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import {
  Cancelled_Reason as CancelReason,
  OnConflict,
  OnDisconnect,
  TurnErrorCode,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { headerValue } from "../../src/adapters/openai/headers.js";
import { createAdapter } from "../../src/adapters/openai/server.js";
import { systemTimers } from "../../src/adapters/openai/time.js";
import { OpenApi, openapiFile, recordingFetch, type Sent } from "./openapi.js";
import {
  accepted,
  brokerError,
  completed,
  delta,
  perform,
  type StubBroker,
  say,
  startStubBroker,
} from "./stub-broker.js";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[45][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const sent: Sent[] = [];
let broker: StubBroker;
let server: Server;
let url: string;
let client: OpenAI;
let ticks: Set<() => void>;
/** Held up until the test lets a re-attachment go on. */
let sleep: () => Promise<void>;

beforeEach(async () => {
  broker = await startStubBroker();
  ticks = new Set();
  sleep = async () => {};
  const transport = createConnectTransport({ httpVersion: "2", baseUrl: broker.url });
  server = createServer(
    createAdapter({
      broker: createClient(SessionBroker, transport),
      brokerAddress: broker.url,
      limits: { bodyBytes: 100_000, reattachAttempts: 2 },
      timers: {
        ...systemTimers,
        sleep: () => sleep(),
        every(_, callback) {
          ticks.add(callback);
          return () => ticks.delete(callback);
        },
      },
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const fetch = openapiFile === undefined ? {} : { fetch: recordingFetch(sent) };
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "good", maxRetries: 0, ...fetch });
});

afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await broker.stop();
});

type Headers = Readonly<Record<string, string>>;

function complete(content = "hi", headers: Headers = {}, fields: object = {}) {
  return client.chat.completions.create(
    { model: "echo", messages: [{ role: "user", content }], ...fields },
    { headers },
  );
}

function stream(content = "hi", headers: Headers = {}, fields: object = {}) {
  return client.chat.completions.create(
    { model: "echo", messages: [{ role: "user", content }], stream: true, ...fields },
    { headers },
  );
}

function post(body: string | Uint8Array<ArrayBuffer>, headers: Headers = {}) {
  return fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: "Bearer good", ...headers },
    body,
  });
}

/** A promise that the test resolves. */
function gate(): { readonly promise: Promise<void>; resolve(): void } {
  let resolve = () => {};
  const promise = new Promise<void>((resolvePromise) => {
    resolve = resolvePromise;
  });
  return { promise, resolve };
}

/** The text of a streamed answer. */
async function textOf(chunks: AsyncIterable<OpenAI.ChatCompletionChunk>): Promise<string> {
  let text = "";
  for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

describe("a chat completion", () => {
  it("is one turn, with the client's own token", async () => {
    const { data, response } = await complete("hi", {}, { model: "echo/vendor/large" }).withResponse();
    const [request] = broker.dispatched;
    expect(data).toMatchObject({
      id: `chatcmpl-${request?.turnId}`,
      object: "chat.completion",
      model: "echo/vendor/large",
      choices: [{ index: 0, message: { role: "assistant", content: "hello" }, finish_reason: "stop" }],
      usage: {
        prompt_tokens: 6,
        completion_tokens: 4,
        total_tokens: 10,
        prompt_tokens_details: { cached_tokens: 2 },
        completion_tokens_details: { reasoning_tokens: 1 },
      },
    });
    expect(data.created).toBeGreaterThan(1_700_000_000);
    expect(request).toMatchObject({
      target: { case: "byHistory", value: { scope: "history", provider: "echo" } },
      model: "vendor/large",
      input: [{ part: { case: "text", value: "hi" } }],
      onConflict: OnConflict.UNSPECIFIED,
      onDisconnect: OnDisconnect.DETACH,
    });
    expect(request?.turnId).toMatch(uuid);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "x-session-broker-outcome": "created",
      "x-session-broker-session-id": headerValue("session-ü"),
      "x-session-broker-turn-id": request?.turnId,
    });
    expect(new Set(broker.authorizations)).toEqual(new Set(["Bearer good"]));
    expect(broker.cancelled).toEqual([]);
  });

  it("is streamed piece by piece", async () => {
    broker.play = say("hel", "lo ", "🦊");
    const chunks = [];
    for await (const chunk of await stream("hi", {}, { stream_options: { include_usage: true } }))
      chunks.push(chunk);
    expect(chunks.map(({ choices }) => [choices[0]?.delta, choices[0]?.finish_reason])).toEqual([
      [{ role: "assistant", content: "" }, null],
      [{ content: "hel" }, null],
      [{ content: "lo " }, null],
      [{ content: "🦊" }, null],
      [{}, "stop"],
      [undefined, undefined],
    ]);
    expect(chunks.map(({ usage }) => usage?.total_tokens)).toEqual([
      ...Array.from({ length: 5 }, () => undefined),
      10,
    ]);
    expect(new Set(chunks.map(({ id, created, model }) => `${id} ${created} ${model}`)).size).toBe(1);
  });

  it("sends its head and the role while the turn still waits", async () => {
    const go = gate();
    broker.play = async function* () {
      yield accepted;
      yield { case: "queued", value: { position: 1 } };
      await go.promise;
      yield completed("late");
    };
    const { data, response } = await stream().withResponse();
    expect(response.headers.get("x-session-broker-turn-id")).toBe(broker.dispatched[0]?.turnId);
    const chunks = data[Symbol.asyncIterator]();
    expect((await chunks.next()).value?.choices[0]?.delta.role).toBe("assistant");
    go.resolve();
    // What was not streamed comes from the ending.
    expect((await chunks.next()).value?.choices[0]?.delta.content).toBe("late");
  });

  it("carries reasoning beside the text", async () => {
    const think = { case: "reasoningDelta" as const, value: { text: "hm" } };
    broker.play = perform(accepted, think, think, delta("a"), completed("a"));
    expect((await complete()).choices[0]?.message).toMatchObject({ content: "a", reasoning_content: "hmhm" });
    const deltas = [];
    for await (const chunk of await stream()) deltas.push(chunk.choices[0]?.delta);
    expect(deltas).toContainEqual({ reasoning_content: "hm" });
  });

  it("shows that it lives while the agent is silent", async () => {
    const go = gate();
    broker.play = async function* () {
      yield accepted;
      yield { case: "heartbeat", value: {} };
      await go.promise;
      yield completed("x");
    };
    const response = await post(
      JSON.stringify({ model: "echo", messages: [{ role: "user", content: "hi" }], stream: true }),
    );
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const readUntil = async (mark: RegExp) => {
      while (!mark.test(text)) text += (await reader?.read())?.value ?? "";
    };
    await readUntil(/: keep-alive\n\n/);
    for (const tick of ticks) tick();
    for (const tick of ticks) tick();
    await readUntil(/: keep-alive\n\n: keep-alive\n\n/);
    go.resolve();
    await readUntil(/data: \[DONE\]\n\n$/);
    expect(ticks.size).toBe(0);
  });

  it("keeps every character, in text and in ids", async () => {
    const text = "Grüße 🦊 \u2028 漢字 \0";
    const key = "chat-🦊 ü";
    broker.play = say(...text);
    expect(await textOf(await stream(text, { "x-session-broker-key": headerValue(key) }))).toBe(text);
    expect(broker.dispatched[0]).toMatchObject({
      target: { value: { scope: "default", externalId: key } },
      input: [{ part: { value: text } }],
    });
  });

  it("answers requests that run at once, each its own", async () => {
    const both = gate();
    broker.play = async function* ({ input }) {
      yield accepted;
      if (broker.dispatched.length === 2) both.resolve();
      await both.promise;
      yield completed(`you said ${input[0]?.part.value}`);
    };
    const [one, two] = await Promise.all([complete("one"), stream("two").then(textOf)]);
    expect(one.choices[0]?.message.content).toBe("you said one");
    expect(two).toBe("you said two");
    expect(new Set(broker.dispatched.map(({ turnId }) => turnId)).size).toBe(2);
  });

  it("passes history, system prompt and options on", async () => {
    broker.baseScope = "acme";
    const headers = {
      "x-openclaw-session-key": "discord:1",
      "x-session-broker-provider": "claude",
      "x-session-broker-on-conflict": "interrupt",
    };
    await client.chat.completions.create(
      {
        model: "openclaw/ops",
        messages: [
          { role: "system", content: "Be brief." },
          { role: "user", content: "one" },
          { role: "assistant", content: "two" },
          {
            role: "user",
            content: [{ type: "image_url", image_url: { url: "data:image/png;base64,iVBORw==" } }],
          },
        ],
      },
      { headers },
    );
    expect(broker.dispatched[0]).toMatchObject({
      target: { value: { scope: "acme/openclaw", externalId: "agent:ops:discord:1", provider: "claude" } },
      model: "",
      system: "Be brief.",
      history: [{ parts: [{ part: { value: "one" } }] }, { parts: [{ part: { value: "two" } }] }],
      input: [{ part: { case: "image", value: { mediaType: "image/png" } } }],
      onConflict: OnConflict.INTERRUPT,
    });
  });
});

describe("idempotency-key", () => {
  it("names the turn, however the answer is sent", async () => {
    await complete("hi", { "idempotency-key": "order 66" });
    await textOf(await stream("hi", { "idempotency-key": "order 66" }));
    await complete("hi", { "idempotency-key": "0B8DC3E8-3D6D-4C5D-8F0E-3B8E5F1B2A10" });
    await complete("hi");
    const [first, second, third, fourth] = broker.dispatched;
    expect(first?.turnId).toMatch(uuid);
    expect(second?.turnId).toBe(first?.turnId);
    expect(second?.payloadDigest).toEqual(first?.payloadDigest);
    expect(third?.turnId).toBe("0b8dc3e8-3d6d-4c5d-8f0e-3b8e5f1b2a10");
    expect(fourth?.turnId).not.toBe(first?.turnId);
  });
});

describe("a client that leaves", () => {
  /** A turn that is accepted once `accept` is called, and never ends. */
  function hang() {
    const accept = gate();
    broker.play = async function* (_, signal) {
      await accept.promise;
      yield accepted;
      yield delta("working");
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    return accept.resolve;
  }

  function expectCancelled() {
    expect(broker.cancelled).toHaveLength(1);
    expect(broker.cancelled[0]).toMatchObject({ turnId: broker.dispatched[0]?.turnId, scope: "history" });
    expect(broker.authorizations.at(-1)).toBe("Bearer good");
  }

  it("cancels the turn it streamed", async () => {
    hang()();
    const chunks = await stream();
    for await (const chunk of chunks) if (chunk.choices[0]?.delta.content === "working") break;
    chunks.controller.abort();
    await vi.waitUntil(() => broker.cancelled.length > 0 && broker.abandoned.length > 0);
    expectCancelled();
  });

  it("cancels the turn it waited for", async () => {
    hang()();
    const leave = new AbortController();
    const answer = client.chat.completions.create(
      { model: "echo", messages: [{ role: "user", content: "hi" }] },
      { signal: leave.signal },
    );
    await vi.waitUntil(() => broker.dispatched.length > 0);
    leave.abort();
    await expect(answer).rejects.toThrow(OpenAI.APIUserAbortError);
    await vi.waitUntil(() => broker.cancelled.length > 0 && broker.abandoned.length > 0);
    expectCancelled();
  });

  it("cancels a turn that is accepted later", async () => {
    const accept = hang();
    const socketClosed = new Promise((resolve) => {
      server.once("connection", (socket) => socket.once("close", resolve));
    });
    const leave = new AbortController();
    const answer = client.chat.completions.create(
      { model: "echo", messages: [{ role: "user", content: "hi" }] },
      { signal: leave.signal },
    );
    await vi.waitUntil(() => broker.dispatched.length > 0);
    leave.abort();
    await expect(answer).rejects.toThrow(OpenAI.APIUserAbortError);
    await socketClosed;
    expect(broker.cancelled).toEqual([]);
    accept();
    await vi.waitUntil(() => broker.cancelled.length > 0 && broker.abandoned.length > 0);
    expectCancelled();
  });

  it("leaves the turn running if it asked for that", async () => {
    hang()();
    const chunks = await stream("hi", { "x-session-broker-on-disconnect": "detach" });
    for await (const chunk of chunks) if (chunk.choices[0]?.delta.content === "working") break;
    chunks.controller.abort();
    await vi.waitUntil(() => broker.abandoned.length > 0);
    expect(broker.cancelled).toEqual([]);
  });
});

describe("a broken connection to the broker", () => {
  it("does not show in the answer", async () => {
    const restarted = gate();
    sleep = () => restarted.promise;
    broker.play = async function* (_, signal) {
      if (broker.attached.length > 0) {
        yield delta("there");
        yield completed("here and there");
        return;
      }
      yield accepted;
      yield delta("here and ");
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    let text = "";
    for await (const chunk of await stream()) {
      text += chunk.choices[0]?.delta.content ?? "";
      if (text !== "here and " || broker.attached.length > 0) continue;
      await broker.stop();
      await broker.restart();
      restarted.resolve();
    }
    expect(text).toBe("here and there");
    expect(broker.attached).toMatchObject([{ turnId: broker.dispatched[0]?.turnId, scope: "history" }]);
    expect(broker.dispatched).toHaveLength(1);
  });

  it("is told in the stream when it does not come back", async () => {
    broker.play = async function* (_, signal) {
      yield accepted;
      yield delta("begun");
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    const chunks = await stream();
    await broker.stop();
    await expect(textOf(chunks)).rejects.toMatchObject({ code: "broker_unreachable" });
    await broker.restart();
  });

  it("before the turn is accepted does not make it run twice", async () => {
    broker.play = async function* (_, signal) {
      if (broker.dispatched.length === 1)
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      yield accepted;
      yield completed("once");
    };
    const restarted = gate();
    sleep = () => restarted.promise;
    const answer = complete();
    await vi.waitUntil(() => broker.dispatched.length === 1);
    await broker.stop();
    await broker.restart();
    restarted.resolve();
    expect((await answer).choices[0]?.message.content).toBe("once");
    expect(broker.dispatched[1]).toEqual(broker.dispatched[0]);
  });

  it("is 503 with the address before a turn is accepted", async () => {
    await broker.stop();
    const error = await complete().catch((reason) => reason);
    expect(error).toBeInstanceOf(OpenAI.InternalServerError);
    expect(error).toMatchObject({ status: 503, code: "broker_unreachable", type: "server_error" });
    expect(error.message).toContain(broker.url);
    expect(error.headers.get("retry-after")).toBe("1");
    await broker.restart();
    expect((await complete()).choices[0]?.message.content).toBe("hello");
  });
});

describe("errors", () => {
  it.each([
    ["UNAUTHENTICATED", OpenAI.AuthenticationError, null],
    ["FOREIGN_SCOPE", OpenAI.PermissionDeniedError, null],
    ["TURN_ID_REUSED", OpenAI.ConflictError, null],
    ["SESSION_BUSY", OpenAI.ConflictError, null],
    ["QUEUE_FULL", OpenAI.RateLimitError, "1"],
    ["DRAINING", OpenAI.InternalServerError, "1"],
    ["MALFORMED_KEY", OpenAI.BadRequestError, null],
  ] as const)("%s of the broker, in both kinds of answer", async (reason, type, retryAfter) => {
    // biome-ignore lint/correctness/useYield: it fails before it speaks
    broker.play = async function* () {
      throw brokerError(reason);
    };
    for (const ask of [complete, stream]) {
      const error = await ask().catch((thrown) => thrown);
      expect(error).toBeInstanceOf(type);
      expect(error).toMatchObject({ code: reason.toLowerCase() });
      expect(error.message).toContain(`refused: ${reason}`);
      expect(error.headers.get("retry-after")).toBe(retryAfter);
    }
  });

  it("of the agent have a status, and the turn's headers", async () => {
    const failure = { code: TurnErrorCode.RATE_LIMITED, message: "slow down", retryAfter: { seconds: 7n } };
    broker.play = perform(accepted, { case: "failed", value: { error: failure } });
    const error = await complete().catch((thrown) => thrown);
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    expect(error.headers.get("retry-after")).toBe("7");
    expect(error.headers.get("x-session-broker-outcome")).toBe("created");
    expect(error.headers.get("x-session-broker-turn-id")).toBe(broker.dispatched[0]?.turnId);
  });

  it("after the start are told in the stream", async () => {
    const failure = { code: TurnErrorCode.CRASHED, message: "the agent is gone" };
    broker.play = perform(accepted, delta("par"), { case: "failed", value: { error: failure } });
    let text = "";
    const read = async () => {
      for await (const chunk of await stream()) text += chunk.choices[0]?.delta.content ?? "";
    };
    await expect(read()).rejects.toMatchObject({ code: "crashed", type: "server_error" });
    expect(text).toBe("par");
    const raw = await post(
      JSON.stringify({ model: "echo", messages: [{ role: "user", content: "hi" }], stream: true }),
    );
    expect((await raw.text()).split("\n\n").slice(-3)).toEqual([
      'data: {"error":{"message":"the agent is gone","type":"server_error","param":null,"code":"crashed"}}',
      "data: [DONE]",
      "",
    ]);
  });

  it.each([
    ["cancelled", { case: "cancelled" as const, value: { reason: CancelReason.SUPERSEDED } }, 409],
    ["interrupted", { case: "interrupted" as const, value: {} }, 502],
  ])("a turn that was %s is not run again by the client's own retries", async (_, ending, status) => {
    broker.play = perform(accepted, ending);
    const eager = new OpenAI({ baseURL: `${url}/v1`, apiKey: "good", maxRetries: 2 });
    const answer = eager.chat.completions.create({
      model: "echo",
      messages: [{ role: "user", content: "hi" }],
    });
    await expect(answer).rejects.toMatchObject({ status });
    expect(broker.dispatched).toHaveLength(1);
  });

  it.each([
    ["model", { model: "gpt-5" }, 404],
    ["tools", { tools: [{ type: "function", function: { name: "f" } }] }, 400],
    ["messages", { messages: [] }, 400],
    ["n", { n: 2 }, 400],
  ])("of the request name the field %s", async (param, fields, status) => {
    await expect(complete("hi", {}, fields)).rejects.toMatchObject({ status, param });
    expect(broker.dispatched).toEqual([]);
  });

  it.each([
    ["x-session-broker-on-conflict", "maybe"],
    ["x-session-broker-on-disconnect", "Cancel"],
    ["x-session-broker-key", "gr\u00fcn"],
    ["x-openclaw-session-key", "cron:1"],
  ])("of the request name the header %s", async (param, value) => {
    await expect(complete("hi", { [param]: value })).rejects.toMatchObject({ status: 400, param });
    expect(broker.dispatched).toEqual([]);
  });

  it("a header that is given twice", async () => {
    const status = await new Promise((resolve, reject) => {
      const req = httpRequest(`${url}/v1/chat/completions`, { method: "POST" }, (res) => {
        res.resume();
        resolve(res.statusCode);
      });
      req.once("error", reject);
      req.setHeader("authorization", "Bearer good");
      req.setHeader("x-session-broker-key", ["a", "b"]);
      req.end(JSON.stringify({ model: "echo", messages: [{ role: "user", content: "hi" }] }));
    });
    expect(status).toBe(400);
  });

  it.each([
    ["no JSON", "{", 400, "invalid_json"],
    ["no object", "[]", 400, "invalid_json"],
    ["no UTF-8", new Uint8Array([0x22, 0xff, 0x22]), 400, "invalid_utf8"],
    ["too much", "x".repeat(100_001), 413, "message_too_large"],
    ["far too much", "x".repeat(300_000), 413, "message_too_large"],
  ])("a body with %s", async (_, body, status, code) => {
    const response = await post(body);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", code } });
  });

  it("a compressed body", async () => {
    expect((await post("x", { "content-encoding": "gzip" })).status).toBe(415);
  });

  it("no token, or one that is not the broker's", async () => {
    const response = await fetch(`${url}/v1/models`);
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe("Bearer");
    expect(await response.json()).toMatchObject({ error: { type: "authentication_error" } });
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "bad", maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });

  it("no such route, or no such method", async () => {
    const missing = await fetch(`${url}/v1/embeddings`, { method: "POST" });
    expect(missing.status).toBe(404);
    expect(await missing.json()).toMatchObject({ error: { code: "unknown_url" } });
    const wrong = await fetch(`${url}/v1/chat/completions`);
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get("allow")).toBe("POST");
    expect(await wrong.json()).toMatchObject({ error: { code: "method_not_allowed" } });
  });
});

describe("the other routes", () => {
  it("list the models of the broker's providers", async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(["echo", "echo/small", "echo/vendor/large", "claude"]);
    const model = {
      id: "echo/vendor/large",
      object: "model",
      created: 1_700_000_000,
      owned_by: "session-broker",
    };
    expect(data).toContainEqual(model);
    expect(await client.models.retrieve("echo/vendor/large")).toMatchObject(model);
    const raw = await fetch(`${url}/v1/models/echo/vendor/large`, {
      headers: { authorization: "Bearer good" },
    });
    expect(await raw.json()).toEqual(model);
    await expect(client.models.retrieve("gpt-5")).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
    });
  });

  it("say without a token that the adapter is there", async () => {
    expect(await (await fetch(`${url}/healthz`)).json()).toEqual({ status: "ok" });
  });
});

it.skipIf(openapiFile === undefined)(
  "every body and chunk obeys OpenAI's schema (SESSION_BROKER_TEST_OPENAPI)",
  { timeout: 120_000 },
  () => {
    const openapi = new OpenApi(openapiFile ?? "");
    const schemaOf = ({ route, status, value, streamed }: Sent) => {
      if (status !== 200 || "error" in (value as object)) return "ErrorResponse";
      if (route.endsWith("/models")) return "ListModelsResponse";
      if (route.includes("/models/")) return "Model";
      return streamed ? "CreateChatCompletionStreamResponse" : "CreateChatCompletionResponse";
    };
    const wrong = sent.flatMap((each) => openapi.problems(schemaOf(each), each.value));
    expect(new Set(wrong)).toEqual(new Set());
    expect(new Set(sent.map(schemaOf)).size).toBe(5);
  },
);
