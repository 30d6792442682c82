import { randomUUID } from "node:crypto";
import { setTimeout as delay, setImmediate as immediate } from "node:timers/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { OpenAi_Api, ProviderSchema } from "../../gen/sessionbroker/config/v1/config_pb.js";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { createOpenAiProvider, openAiKind } from "../../src/providers/openai/index.js";
import type { Provider, ProviderTurn } from "../../src/turns/provider.js";
import { freePort } from "../support/broker.js";
import {
  answerRecords,
  eventsOf,
  ModelService,
  type Said,
  type ServiceCall,
  sendError,
  stream,
} from "../support/model-service.js";
import { answerOf, atFirst, runTurn, turnOf } from "./turns.js";

const apis = [
  ["Responses", OpenAi_Api.RESPONSES, "/v1/responses"],
  ["Chat Completions", OpenAi_Api.CHAT_COMPLETIONS, "/v1/chat/completions"],
] as const;

const key = "sk-a-secret-key";

function provider(
  baseUrl: string,
  api: OpenAi_Api = OpenAi_Api.UNSPECIFIED,
  settings: MessageInitShape<typeof ProviderSchema> = {},
  environment: Readonly<Record<string, string>> = { SERVICE_KEY: key },
): Provider {
  const value = { baseUrl, api, keyVariable: "SERVICE_KEY" };
  return openAiKind.create(
    create(ProviderSchema, {
      id: "service",
      kind: { case: "openai", value },
      models: ["model-1", "model-2"],
      ...settings,
    }),
    environment,
  );
}

const turn = (text: string, fields: Partial<ProviderTurn> = {}) =>
  turnOf(text, { workspace: "/", ...fields });
const failed = (code: keyof typeof TurnErrorCode, more = {}) => ({
  status: "failed",
  code: TurnErrorCode[code],
  ...more,
});
const answers = (said: Said) => (call: ServiceCall) => {
  stream(call, ...answerRecords(call.path, said));
  call.response.end();
};
const ms = durationFromMs;

describe.each(apis)("over %s", (_, api, path) => {
  const ask = async (
    answer: (call: ServiceCall) => unknown,
    fields: Partial<ProviderTurn> = {},
    settings = {},
  ) => {
    await using service = await ModelService.start(answer);
    return await runTurn(provider(service.url, api, settings), turn("hello", fields));
  };

  test("an answer streams, with its model and its usage", async () => {
    const nativeId = randomUUID();
    const said = { texts: ["Hello ", "Ada", "!"], reasoning: ["hm", "m"] };
    const ran = await ask(answers(said), { binding: { state: "fresh", nativeId } });
    expect(ran.events.slice(0, -1)).toEqual([
      { kind: "started", nativeId, resumed: false, warm: false },
      { kind: "reasoning", text: "hm" },
      { kind: "reasoning", text: "m" },
      { kind: "text", text: "Hello " },
      { kind: "text", text: "Ada" },
      { kind: "text", text: "!" },
    ]);
    expect(ran.outcome).toEqual({
      status: "completed",
      text: "Hello Ada!",
      finishReason: FinishReason.STOP,
      model: "model-as-answered",
      usage: {
        inputTokens: 20,
        cacheReadTokens: 10,
        cacheWriteTokens: 0,
        outputTokens: 8,
        reasoningTokens: 3,
      },
    });
  });

  test("the request carries all that was said, the system prompt and the images", async () => {
    await using service = await ModelService.start(answers({ texts: ["ok"] }));
    const image = {
      kind: "image",
      mediaType: "image/png",
      name: "a.png",
      data: new Uint8Array([1, 2]),
    } as const;
    const service1 = provider(`${service.url}/`, api);
    await runTurn(
      service1,
      turn("", {
        input: [{ kind: "text", text: "look" }, image],
        system: "Be brief.",
        unseen: [
          { user: "I am Ada", assistant: "Hello Ada" },
          { user: "and", assistant: "" },
        ],
        model: "model-2",
      }),
    );
    const [call] = service.calls;
    expect(call?.path).toBe(path);
    expect(call?.headers.authorization).toBe(`Bearer ${key}`);
    const { input, messages = input, instructions, ...rest } = call?.body ?? {};
    const system = instructions === undefined ? messages.shift() : { role: "system", content: instructions };
    expect(system).toEqual({ role: "system", content: "Be brief." });
    const url = "data:image/png;base64,AQI=";
    const parts =
      api === OpenAi_Api.RESPONSES
        ? [
            { type: "input_text", text: "look" },
            { type: "input_image", image_url: url },
          ]
        : [
            { type: "text", text: "look" },
            { type: "image_url", image_url: { url } },
          ];
    expect(messages).toEqual([
      { role: "user", content: "I am Ada" },
      { role: "assistant", content: "Hello Ada" },
      { role: "user", content: "and" },
      { role: "user", content: parts },
    ]);
    const { stream_options, store, ...same } = rest;
    expect(same).toEqual({ model: "model-2", stream: true });
    expect(api === OpenAi_Api.RESPONSES ? store : stream_options).toEqual(
      api === OpenAi_Api.RESPONSES ? false : { include_usage: true },
    );
  });

  test("the request carries the form of the answer", async () => {
    await using service = await ModelService.start(answers({ texts: ["{}"] }));
    const asked = provider(service.url, api);
    const schema = { type: "object", properties: {} };
    const format = { kind: "json-schema", name: "n", description: "d", strict: true } as const;
    await runTurn(asked, turn("a", { outputFormat: { kind: "json-object" } }));
    await runTurn(asked, turn("b", { outputFormat: { ...format, schema: JSON.stringify(schema) } }));
    const named = { name: "n", description: "d", schema, strict: true };
    expect(
      service.calls.map(({ body }) =>
        api === OpenAi_Api.RESPONSES ? body.text.format : body.response_format,
      ),
    ).toEqual([
      { type: "json_object" },
      api === OpenAi_Api.RESPONSES
        ? { type: "json_schema", ...named }
        : { type: "json_schema", json_schema: named },
    ]);
  });

  test.each<[string, Said, FinishReason]>([
    ["length", { texts: ["half"], finish: "length" }, FinishReason.LENGTH],
    ["filter", { texts: ["half"], finish: "content_filter" }, FinishReason.REFUSAL],
    ["refusal", { refusal: "no" }, FinishReason.REFUSAL],
  ])("why it ended is told: %s", async (_, said, finishReason) => {
    const ran = await ask(answers(said));
    expect(ran.outcome).toMatchObject({ status: "completed", finishReason, text: said.refusal ?? "half" });
  });

  test("bytes may be cut anywhere, lines end in any way, and comments mean nothing", async () => {
    const texts = ["ä€", "🙂", "e\u0301"];
    const said = `\ufeff: hello\r\n\r\n${eventsOf(answerRecords(path, { texts })).replaceAll("\n", "\r\n")}`;
    const ran = await ask(async ({ response }) => {
      response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
      for (const byte of Buffer.from(said)) {
        response.write(Buffer.from([byte]));
        await immediate();
      }
      response.end();
    });
    expect(answerOf(ran)).toBe(texts.join(""));
    expect(ran.events.filter(({ kind }) => kind === "text")).toHaveLength(3);
  });

  const whole = answerRecords(path, { texts: ["half"] });
  /** Where the terminal record stands, and behind it what may be missing. */
  const isTerminal = (record: unknown) => /completed"|"finish_reason":"stop"/.test(JSON.stringify(record));
  const terminal = whole.findIndex(isTerminal);

  test.each([
    ["ends", (call: ServiceCall) => call.response.end()],
    ["breaks", (call: ServiceCall) => call.response.destroy()],
  ])("a stream that %s before its terminal record is no answer", async (_, finish) => {
    const ran = await ask(async (call) => {
      stream(call, ...whole.slice(0, terminal));
      call.response.write("data: {");
      await immediate();
      finish(call);
    });
    expect(ran.outcome).toMatchObject(failed("PROVIDER_ERROR", { retryable: true, modelNotAsked: false }));
    expect(ran.outcome).toMatchObject({ message: expect.stringContaining("broke off") });
  });

  test("a stream that breaks after its terminal record has answered", async () => {
    await using service = await ModelService.start((call) => stream(call, ...whole.slice(0, terminal + 1)));
    const options = {
      id: "service",
      models: ["m"],
      timeoutMs: 60_000,
      silenceTimeoutMs: 60_000,
      maxRunning: 1,
      lingerMs: 50,
      service: {
        baseUrl: service.url,
        key: undefined,
        keyVariable: undefined,
        api: api === OpenAi_Api.RESPONSES ? ("responses" as const) : ("chat" as const),
      },
    };
    expect(answerOf(await runTurn(createOpenAiProvider(options), turn("hello")))).toBe("half");
  });

  test("an error in the stream is its failure, whatever came before", async () => {
    const error = { code: "rate_limit_exceeded", message: `slow down, ${key}` };
    const ran = await ask((call) => {
      const record =
        api === OpenAi_Api.RESPONSES ? { type: "response.failed", response: { error } } : { error };
      stream(call, ...whole.slice(0, terminal), record, ...whole.slice(terminal));
      call.response.end();
    });
    expect(ran.text).toBe("half");
    expect(ran.outcome).toMatchObject(failed("RATE_LIMITED", { retryable: true }));
    expect(JSON.stringify(ran)).not.toContain(key);
  });

  test("records that nobody knows, and lines that are no records, are passed over", async () => {
    const ran = await ask((call) => {
      stream(call, { type: "response.new_thing" }, "not json", "[1]", "null", { choices: "odd" }, ...whole);
      call.response.end();
    });
    expect(answerOf(ran)).toBe("half");
  });

  test("a cancelled turn closes the request", async () => {
    await using service = await ModelService.start((call) => stream(call, ...whole.slice(0, terminal)));
    const cancel = new AbortController();
    const asked = provider(service.url, api);
    const ran = await runTurn(
      asked,
      turn("hello", { signal: cancel.signal }),
      atFirst("text", () => cancel.abort()),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
    await service.calls[0]?.closed;
  });

  test("so does one that takes too long, one that nobody answers, and a provider that closes", async () => {
    for (const [settings, code] of [
      [{ timeout: ms(200) }, "TIMEOUT"],
      [{ silenceTimeout: ms(200) }, "NO_OUTPUT_TIMEOUT"],
    ] as const) {
      for (const beginning of [[], whole.slice(0, terminal)]) {
        await using service = await ModelService.start((call) => {
          if (beginning.length > 0) stream(call, ...beginning);
        });
        const ran = await runTurn(provider(service.url, api, settings), turn("hello"));
        expect(ran.outcome).toMatchObject(failed(code, { retryable: true }));
        await service.calls[0]?.closed;
      }
    }
    await using service = await ModelService.start((call) => stream(call, ...whole.slice(0, terminal)));
    const closing = provider(service.url, api);
    const ran = await runTurn(
      closing,
      turn("hello"),
      atFirst("text", () => closing.close()),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
    await service.calls[0]?.closed;
  });

  test("a slow answer is no silent one", async () => {
    const ran = await ask(
      async (call) => {
        stream(call);
        for (let pings = 0; pings < 10; pings += 1) {
          await delay(250);
          call.response.write(": ping\n\n");
        }
        stream(call, ...whole);
        call.response.end();
      },
      {},
      { silenceTimeout: ms(2_000) },
    );
    expect(answerOf(ran)).toBe("half");
  });

  test("an answer that is too long ends the request", async () => {
    const text = "x".repeat(1024 * 1024);
    const long = answerRecords(path, { texts: Array(40).fill(text) });
    await using service = await ModelService.start(async (call) => {
      for (const record of long) {
        stream(call, record);
        await immediate();
      }
    });
    const ran = await runTurn(provider(service.url, api), turn("hello"));
    expect(ran.outcome).toMatchObject(failed("OUTPUT_LIMIT"));
    await service.calls[0]?.closed;
  });

  test("a line without an end ends the request", async () => {
    await using service = await ModelService.start(async (call) => {
      stream(call);
      call.response.on("error", () => {});
      while (!call.response.destroyed) {
        call.response.write(`data: ${"x".repeat(1024 * 1024)}`);
        await immediate();
      }
    });
    const ran = await runTurn(provider(service.url, api), turn("hello"));
    expect(ran.outcome).toMatchObject(failed("OUTPUT_LIMIT"));
  });

  test("a service that does not stream is told from one that does", async () => {
    const ran = await ask(({ response }) => {
      response.writeHead(200, { "content-type": "application/json" }).end('{"choices":[]}');
    });
    expect(ran.outcome).toMatchObject(
      failed("PROVIDER_ERROR", { message: expect.stringContaining("did not stream") }),
    );
  });
});

test("a Responses stream without deltas is read from its terminal record", async () => {
  const output = [{ type: "message", content: [{ type: "output_text", text: "all at once" }] }];
  await using service = await ModelService.start((call) => {
    stream(call, { type: "response.completed", response: { status: "completed", output } });
    call.response.end();
  });
  expect(answerOf(await runTurn(provider(service.url), turn("hello")))).toBe("all at once");
});

describe("a refusal", () => {
  test.each([
    [401, { message: "bad key" }, {}, failed("AUTH", { retryable: false })],
    [403, { message: "not here" }, {}, failed("AUTH")],
    [429, { message: "slow down" }, { "retry-after": "7" }, failed("RATE_LIMITED", { retryAfterMs: 7_000 })],
    [
      429,
      { message: "slow down" },
      { "retry-after-ms": "12.5" },
      failed("RATE_LIMITED", { retryAfterMs: 13 }),
    ],
    [429, { code: "insufficient_quota", message: "pay" }, {}, failed("RATE_LIMITED", { retryable: false })],
    [400, { message: "bad field" }, {}, failed("INVALID_REQUEST", { retryable: false })],
    [400, { code: "context_length_exceeded", message: "long" }, {}, failed("CONTEXT_OVERFLOW")],
    [400, { message: "This model's maximum context length is 8 tokens" }, {}, failed("CONTEXT_OVERFLOW")],
    [413, "too large", {}, failed("CONTEXT_OVERFLOW")],
    [404, { code: "model_not_found", message: "no such model" }, {}, failed("INVALID_REQUEST")],
    [500, { message: "oops" }, {}, failed("PROVIDER_ERROR", { retryable: true })],
    [502, "<html>bad gateway</html>", {}, failed("PROVIDER_ERROR", { retryable: true })],
    [503, { message: "busy" }, { "retry-after": "1" }, failed("OVERLOADED", { retryAfterMs: 1_000 })],
    [529, { message: "overloaded" }, {}, failed("OVERLOADED", { retryable: true })],
  ])("%i %j %j", async (status, error, headers, expected) => {
    await using service = await ModelService.start((call) => sendError(call, status, error, headers));
    const ran = await runTurn(provider(service.url), turn("hello"));
    expect(ran.events.map(({ kind }) => kind)).toEqual(["end"]);
    expect(ran.outcome).toMatchObject({ ...expected, message: expect.stringContaining(String(status)) });
    // It has the interface: it is not asked for the other one.
    expect(service.paths).toEqual(["/v1/responses"]);
  });

  test("that goes on for ever is read to a point", async () => {
    await using service = await ModelService.start(async ({ response }) => {
      response.writeHead(500);
      response.on("error", () => {});
      while (!response.destroyed) {
        response.write("x".repeat(10_000));
        await immediate();
      }
    });
    const ran = await runTurn(provider(service.url), turn("hello"));
    expect(ran.outcome).toMatchObject(failed("PROVIDER_ERROR"));
    await service.calls[0]?.closed;
  });

  test("that repeats the key is told without it", async () => {
    await using service = await ModelService.start((call) =>
      sendError(call, 401, { message: `no key ${key}` }),
    );
    const asked = provider(service.url);
    const ran = await runTurn(asked, turn("hello"));
    expect(ran.outcome).toMatchObject({ message: "The model's service answered 401: no key ***" });
    expect(await asked.health()).toEqual({
      available: false,
      detail: "The model's service answered 401: no key ***",
    });
  });

  test("that points elsewhere is not followed, and the key stays", async () => {
    await using other = await ModelService.start(answers({ texts: ["stolen"] }));
    await using service = await ModelService.start(({ response }) => {
      response.writeHead(307, { location: `${other.url}/responses` }).end();
    });
    const ran = await runTurn(provider(service.url), turn("hello"));
    expect(ran.outcome).toMatchObject(failed("UNAVAILABLE", { message: expect.stringContaining("307") }));
    expect(other.calls).toEqual([]);
  });
});

describe("a conversation that the model has no room for", () => {
  const unseen = Array.from({ length: 5 }, (_, index) => ({ user: `u${index}`, assistant: `a${index}` }));
  const withRoomFor = (messages: number) =>
    ModelService.start((call) => {
      if (call.body.input.length <= messages) return answers({ texts: ["ok"] })(call);
      return sendError(call, 400, { code: "context_length_exceeded", message: "too long" });
    });

  test("is sent with its newer part, and the turn says so", async () => {
    await using service = await withRoomFor(5);
    const ran = await runTurn(provider(service.url), turn("hello", { unseen }));
    expect(service.calls.map(({ body }) => body.input.length)).toEqual([11, 5]);
    expect(service.calls.at(-1)?.body.input[0].content).toBe("u3");
    expect(ran.events.slice(0, 2)).toEqual([
      expect.objectContaining({ kind: "started" }),
      { kind: "notice", message: "The 3 oldest exchanges do not fit the model, and were left out." },
    ]);
    expect(answerOf(ran)).toBe("ok");
  });

  test("fails if the message alone is too long", async () => {
    await using service = await withRoomFor(0);
    const ran = await runTurn(provider(service.url), turn("hello", { unseen }));
    expect(service.calls.map(({ body }) => body.input.length)).toEqual([11, 5, 3, 1]);
    expect(ran.outcome).toMatchObject(failed("CONTEXT_OVERFLOW"));
  });
});

describe("the interface", () => {
  test.each([404, 405, 501])("is found out once: %i", async (status) => {
    await using service = await ModelService.start((call) => {
      if (call.path.endsWith("/responses")) sendError(call, status, { message: "no such path" });
      else answers({ texts: ["ok"] })(call);
    });
    const asked = provider(service.url);
    expect(answerOf(await runTurn(asked, turn("one")))).toBe("ok");
    expect(answerOf(await runTurn(asked, turn("two")))).toBe("ok");
    expect(service.paths).toEqual(["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"]);
  });

  test("that is there is not looked for again", async () => {
    await using service = await ModelService.start(answers({ texts: ["ok"] }));
    const asked = provider(service.url);
    for (const text of ["one", "two"]) await runTurn(asked, turn(text));
    expect(service.paths).toEqual(["/v1/responses", "/v1/responses"]);
  });

  test("is looked for again if neither was there", async () => {
    await using service = await ModelService.start((call) => sendError(call, 404, { message: "starting" }));
    const asked = provider(service.url);
    for (const text of ["one", "two"]) {
      const ran = await runTurn(asked, turn(text));
      expect(ran.outcome).toMatchObject(failed("INVALID_REQUEST"));
    }
    expect(service.paths).toHaveLength(4);
  });

  test("that is configured is the only one", async () => {
    await using service = await ModelService.start((call) =>
      sendError(call, 404, { message: "no such path" }),
    );
    await runTurn(provider(service.url, OpenAi_Api.RESPONSES), turn("one"));
    expect(service.paths).toEqual(["/v1/responses"]);
  });
});

describe("before anything is asked", () => {
  test("a service that is not there is unavailable", async () => {
    const asked = provider(`http://127.0.0.1:${await freePort()}/v1`);
    const ran = await runTurn(asked, turn("hello"));
    expect(ran.outcome).toMatchObject(failed("UNAVAILABLE", { modelNotAsked: true, retryable: true }));
    expect(await asked.health()).toMatchObject({ available: false });
  });

  test.each([{}, { SERVICE_KEY: " " }, { SERVICE_KEY: "two\nlines" }])(
    "a key that cannot be sent is missed by name: %j",
    async (environment: Readonly<Record<string, string>>) => {
      await using service = await ModelService.start(answers({ texts: ["ok"] }));
      const asked = provider(service.url, OpenAi_Api.UNSPECIFIED, {}, environment);
      const ran = await runTurn(asked, turn("hello"));
      expect(ran.outcome).toMatchObject(failed("AUTH", { message: expect.stringContaining("SERVICE_KEY") }));
      expect(JSON.stringify(ran)).not.toContain("lines");
      expect(await asked.health()).toMatchObject({ available: false });
      expect(service.calls).toEqual([]);
    },
  );

  test("a key is sent without the line break behind it", async () => {
    await using service = await ModelService.start(answers({ texts: ["ok"] }));
    await runTurn(
      provider(service.url, OpenAi_Api.UNSPECIFIED, {}, { SERVICE_KEY: `${key}\n` }),
      turn("hello"),
    );
    expect(service.calls[0]?.headers.authorization).toBe(`Bearer ${key}`);
  });

  test.each([
    ["an empty message", { input: [{ kind: "text", text: " " }] }, {}],
    ["a file", { input: [{ kind: "file", mediaType: "text/plain", name: "a", data: new Uint8Array() }] }, {}],
    ["no model at all", {}, { models: [] }],
  ] as const)("%s is refused", async (_, fields, settings) => {
    await using service = await ModelService.start(answers({ texts: ["ok"] }));
    const asked = provider(service.url, OpenAi_Api.UNSPECIFIED, settings as { models?: string[] });
    const ran = await runTurn(asked, turn("hello", fields));
    expect(ran.outcome).toMatchObject(failed("INVALID_REQUEST", { modelNotAsked: true }));
    expect(service.calls).toEqual([]);
  });

  test("a turn that is cancelled asks nothing", async () => {
    await using service = await ModelService.start(answers({ texts: ["ok"] }));
    const ran = await runTurn(provider(service.url), turn("hello", { signal: AbortSignal.abort() }));
    expect(ran.events).toEqual([{ kind: "end", outcome: { status: "cancelled" } }]);
    expect(service.calls).toEqual([]);
  });
});

describe("health", () => {
  test.each([
    [200, '{"data":[{"id":"a"},{"id":"b"}]}', true, "with 2 models"],
    [200, "hello", true, "lists no models"],
    [404, "{}", true, "lists no models"],
    [500, "{}", false, "500"],
  ])("%i %s", async (status, body, available, detail) => {
    await using service = await ModelService.start(({ response }) => response.writeHead(status).end(body));
    const asked = provider(service.url);
    expect(await asked.health()).toEqual({ available, detail: expect.stringContaining(detail) });
    await asked.health();
    expect(service.paths).toEqual(["/v1/models"]);
  });
});
