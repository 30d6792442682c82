/** Responses, with OpenAI's own client, against adapters in front of a real broker. */
import { createHash } from "node:crypto";
import OpenAI from "openai";
import type { ResponseStreamEvent } from "openai/resources/responses/responses";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { OpenApi, openapiFile, recordingFetch, type Sent } from "./openapi.js";
import { ScriptedService } from "./scripted-service.js";

const acmeToken = "token-of-acme";

let service: ScriptedService;
let broker: TestBroker;
let adapter: string;
let client: OpenAI;
const sent: Sent[] = [];

beforeAll(async () => {
  service = await ScriptedService.start();
  broker = await TestBroker.start({
    config: JSON.stringify({
      providers: [service.provider, { id: "echo", echo: {} }],
      credentials: [
        {
          name: "acme",
          tokenSha256: createHash("sha256").update(acmeToken).digest("hex"),
          role: "ROLE_DISPATCH",
          scopes: ["acme", "acme/*"],
        },
      ],
    }),
  });
  adapter = await broker.startAdapter();
  client = clientOf(adapter);
});

afterEach(() => service.letGo());

afterAll(async () => {
  await broker.close();
  await service[Symbol.asyncDispose]();
});

function clientOf(url: string, token = broker.token): OpenAI {
  return new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: token,
    maxRetries: 0,
    fetch: recordingFetch(sent),
  });
}

type Fields = Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming>;
type Headers = Readonly<Record<string, string>>;

function ask(
  input: OpenAI.Responses.ResponseCreateParams["input"],
  fields: Fields = {},
  headers: Headers = {},
) {
  return client.responses.create(
    { model: "scripted", ...(input === undefined ? {} : { input }), ...fields },
    { headers },
  );
}

function streamOf(input: string, fields: Fields = {}, headers: Headers = {}) {
  return client.responses.create({ model: "scripted", input, ...fields, stream: true }, { headers });
}

async function all(events: AsyncIterable<ResponseStreamEvent>): Promise<ResponseStreamEvent[]> {
  const list = [];
  for await (const event of events) list.push(event);
  return list;
}

function textOf(events: readonly ResponseStreamEvent[]): string {
  return events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("");
}

const lastMessages = () => service.asked.at(-1)?.messages;

describe("a response", () => {
  it("is the answer of a turn", async () => {
    const { data, response } = await ask("think hm|so\nsay hel|lo", {
      instructions: "Be brief.",
      metadata: { ticket: "7" },
      store: false,
    }).withResponse();
    expect(data).toMatchObject({
      object: "response",
      status: "completed",
      model: "scripted",
      output_text: "hello",
      output: [
        { type: "reasoning", summary: [{ type: "summary_text", text: "hmso" }] },
        { type: "message", role: "assistant", status: "completed", content: [{ text: "hello" }] },
      ],
      usage: { input_tokens: 9, output_tokens: 4, total_tokens: 13 },
      error: null,
      metadata: { ticket: "7" },
    });
    expect(data.id).toBe(`resp_${response.headers.get("x-session-broker-turn-id")}`);
    expect(response.headers.get("x-session-broker-outcome")).toBe("created");
    expect(lastMessages()).toMatchObject([{ role: "system", content: "Be brief." }, { role: "user" }]);
    const found = await client.responses.retrieve(data.id);
    expect({ ...found, output_text: data.output_text }).toEqual(data);
  });

  it("takes a list of items", async () => {
    await ask([
      { role: "developer", content: "Be kind." },
      { role: "user", content: [{ type: "input_text", text: "one" }] },
      { type: "reasoning", id: "rs_1", summary: [] },
      { type: "function_call", call_id: "c", name: "f", arguments: "{}" },
      { type: "function_call_output", call_id: "c", output: "x" },
      {
        type: "message",
        id: "msg_1",
        role: "assistant",
        status: "completed",
        content: [{ type: "output_text", text: "two", annotations: [] }],
      },
      { role: "user", content: "three" },
    ]);
    expect(lastMessages()).toMatchObject([
      { role: "system", content: "Be kind." },
      { role: "user", content: "one" },
      { role: "assistant", content: "two" },
      { role: "user", content: "three" },
    ]);
  });

  it("is streamed, each event with its number", async () => {
    const events = await all(await streamOf("think hm|so\nsay hel|lo"));
    expect(events.map(({ type }) => type.replace("response.", ""))).toEqual([
      ...["created", "in_progress"],
      ...["output_item.added", "reasoning_summary_part.added"],
      ...["reasoning_summary_text.delta", "reasoning_summary_text.delta"],
      ...["reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"],
      ...["output_item.added", "content_part.added", "output_text.delta", "output_text.delta"],
      ...["output_text.done", "content_part.done", "output_item.done", "completed"],
    ]);
    expect(events.map(({ sequence_number: number }) => number)).toEqual(events.map((_, i) => i));
    expect(events.at(-1)).toMatchObject({ response: { status: "completed", output: [{}, {}] } });
  });

  it("is put together by the client's own helper", async () => {
    const stream = client.responses.stream({ model: "scripted", input: "say a|b\nthink c\nsay d" });
    const final = await stream.finalResponse();
    expect(final.output_text).toBe("abd");
    expect(final.output.map(({ type }) => type)).toEqual(["message", "reasoning", "message"]);
    expect((await client.responses.retrieve(final.id)).output).toEqual(
      JSON.parse(JSON.stringify(final.output, (key, value) => (key === "parsed" ? undefined : value))),
    );
  });

  it("that was cut is incomplete", async () => {
    const cut = { status: "incomplete", incomplete_details: { reason: "max_output_tokens" } };
    expect(await ask("say a\ncut")).toMatchObject(cut);
    expect((await all(await streamOf("say a\ncut"))).at(-1)).toMatchObject({
      type: "response.incomplete",
      response: cut,
    });
  });

  it("that failed is an error, or an event, and is kept as failed", async () => {
    const error = await ask("fail").catch((thrown) => thrown);
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    expect(error.headers.get("retry-after")).toBe("7");
    const last = (await all(await streamOf("fail"))).at(-1);
    const failed = { status: "failed", error: { code: "rate_limit_exceeded" } };
    expect(last).toMatchObject({ type: "response.failed", response: failed });
    const id = last?.type === "response.failed" ? last.response.id : "";
    expect(await client.responses.retrieve(id)).toMatchObject(failed);
  });
});

describe("text.format", () => {
  const format = {
    type: "json_schema" as const,
    name: "person",
    strict: true,
    schema: { type: "object", properties: { name: { type: "string" } } },
  };

  it("reaches the agent, and is shown with the response", async () => {
    const asked = await ask('say {"name":"Ada"}', { text: { format } });
    const { type, ...named } = format;
    expect(service.asked.at(-1)?.response_format).toMatchObject({ type, json_schema: named });
    expect(asked.text).toEqual({ format });
    expect((await client.responses.retrieve(asked.id)).text).toEqual({ format });
    await ask("say text", { previous_response_id: asked.id });
    expect(service.asked.at(-1)?.response_format).toBeUndefined();
  });

  it("of a chat reaches it, too, and is refused where no agent can be held to it", async () => {
    const messages = [{ role: "user" as const, content: "say {}" }];
    const response_format = { type: "json_object" } as const;
    await client.chat.completions.create({ model: "scripted", messages, response_format });
    expect(service.asked.at(-1)?.response_format).toEqual(response_format);
    await expect(
      client.chat.completions.create({ model: "echo", messages, response_format }),
    ).rejects.toMatchObject({ status: 400, message: expect.stringContaining("output_format.json_object") });
  });
});

describe("previous_response_id", () => {
  it("goes on with the session, also of a streamed response and through another adapter", async () => {
    const other = clientOf(await broker.startAdapter());
    const first = await all(await streamOf("say one"));
    const id = first[0]?.type === "response.created" ? first[0].response.id : "";
    const second = await other.responses.create({
      model: "scripted",
      input: "say two",
      previous_response_id: id,
    });
    expect(second.previous_response_id).toBe(id);
    await broker.restart();
    await ask("say three", { previous_response_id: second.id });
    expect(lastMessages()).toMatchObject([
      ...[{ content: "say one" }, { content: "one" }],
      ...[{ content: "say two" }, { content: "two" }],
      { content: "say three" },
    ]);
  });

  it("is valid as soon as the first event was sent", async () => {
    const events = (await streamOf("hold\nsay one"))[Symbol.asyncIterator]();
    const created = (await events.next()).value;
    const id = created?.type === "response.created" ? created.response.id : "";
    await service.held();
    const next = ask("say two", { previous_response_id: id });
    service.letGo();
    expect((await next).output_text).toBe("two");
    while (!(await events.next()).done);
  });

  it.each(["resp_unknown", "nothing", "resp_../x"])("%s is 404, and runs nothing", async (id) => {
    const before = service.asked.length;
    await expect(ask("say x", { previous_response_id: id })).rejects.toMatchObject({
      status: 404,
      code: "previous_response_not_found",
      param: "previous_response_id",
    });
    expect(service.asked).toHaveLength(before);
  });

  it("that is a chat's turn is 404, too", async () => {
    const { response } = await client.chat.completions
      .create({ model: "echo", messages: [{ role: "user", content: "hi" }] })
      .withResponse();
    const id = `resp_${response.headers.get("x-session-broker-turn-id")}`;
    await expect(ask("say x", { model: "echo", previous_response_id: id })).rejects.toMatchObject({
      status: 404,
    });
    await expect(client.responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
  });

  it("contradicting the key or the model is 400", async () => {
    const keyed = await ask("say one", {}, { "x-session-broker-key": "k1" });
    const again = await ask("say two", { previous_response_id: keyed.id }, { "x-session-broker-key": "k1" });
    const refused = { status: 400, param: "previous_response_id" };
    const late = { previous_response_id: again.id };
    await expect(ask("x", late, { "x-session-broker-key": "k2" })).rejects.toMatchObject(refused);
    await expect(ask("x", { ...late, conversation: "c" })).rejects.toMatchObject(refused);
    await expect(ask("x", { ...late, model: "echo" })).rejects.toMatchObject({ status: 400, param: "model" });
  });

  it("that is not its session's newest forks a session that is given what was said until then", async () => {
    const first = await ask("say one");
    const second = await ask("say two", { previous_response_id: first.id });
    await ask("say three", { previous_response_id: second.id });
    const create = { model: "scripted", input: "say other", previous_response_id: second.id };
    const { data: fork, response } = await client.responses.create(create).withResponse();
    const said = [
      ...[{ content: "say one" }, { content: "one" }],
      ...[{ content: "say two" }, { content: "two" }],
      { content: "say other" },
    ];
    expect(lastMessages()).toMatchObject(said);
    expect(response.headers.get("x-session-broker-outcome")).toBe("created");
    await ask("say more", { previous_response_id: fork.id });
    expect(lastMessages()).toMatchObject([...said, { content: "other" }, { content: "say more" }]);
  });

  it("given twice at once goes on once, and forks once", async () => {
    const first = await ask("say one");
    const both = await Promise.all(
      ["say a", "say b"].map((input) =>
        client.responses.create({ model: "scripted", input, previous_response_id: first.id }).withResponse(),
      ),
    );
    const outcomes = both.map(({ response }) => response.headers.get("x-session-broker-outcome")).sort();
    expect(outcomes).toEqual(["created", "existing"]);
    expect(both.map(({ data }) => data.output_text)).toEqual(["a", "b"]);
  });

  it("may be given again after a response that failed", async () => {
    const first = await ask("say one");
    await expect(ask("fail", { previous_response_id: first.id })).rejects.toMatchObject({ status: 429 });
    expect((await ask("say two", { previous_response_id: first.id })).output_text).toBe("two");
  });

  it("of an SDK's own repeat is about the turn that it has begun", async () => {
    const first = await ask("say one");
    const second = await ask("say two", { previous_response_id: first.id });
    const retried = { "x-stainless-retry-count": "1" };
    const before = service.asked.length;
    expect((await ask("say two", { previous_response_id: first.id }, retried)).id).toBe(second.id);
    expect(service.asked).toHaveLength(before);
    await ask("say three", { previous_response_id: first.id }, retried);
    expect(service.asked).toHaveLength(before + 1);
  });

  it("of a session that was reset forks from there, and leaves the new session alone", async () => {
    const first = await ask("say one", { conversation: "reset" });
    const key = { scope: "responses", externalId: "reset", provider: "scripted" };
    const selector = { case: "key" as const, value: key };
    await broker.client().resetSession({ selector, expectedGeneration: 1 });
    expect((await ask("say two", { previous_response_id: first.id })).output_text).toBe("two");
    expect(lastMessages()).toHaveLength(3);
    expect((await broker.client().getSession({ selector })).session?.turnCount).toBe(0);
  });

  it("with an idempotency-key runs once, although it is no longer the newest", async () => {
    const first = await ask("say one");
    const headers = { "idempotency-key": "second of them" };
    const second = await ask("say two", { previous_response_id: first.id }, headers);
    await ask("say three", { previous_response_id: second.id });
    const before = service.asked.length;
    expect((await ask("say two", { previous_response_id: first.id }, headers)).id).toBe(second.id);
    expect(service.asked).toHaveLength(before);
  });
});

describe("a response in the background", () => {
  it("is polled, and streamed later", async () => {
    const begun = await ask("hold\nsay done", { background: true });
    expect(begun).toMatchObject({ status: "queued", background: true, output: [] });
    await service.held();
    expect(await client.responses.retrieve(begun.id)).toMatchObject({ status: "in_progress" });
    service.letGo();
    const events = await all(await client.responses.retrieve(begun.id, { stream: true }));
    expect(events.slice(0, 3).map(({ type }) => type)).toEqual([
      ...["response.created", "response.queued", "response.in_progress"],
    ]);
    expect(textOf(events)).toBe("done");
    expect(await client.responses.retrieve(begun.id)).toMatchObject({
      status: "completed",
      background: true,
    });
  });

  it("outlives the client that streamed it", async () => {
    const stream = await streamOf("hold\nsay done", { background: true });
    let id = "";
    for await (const event of stream) {
      if (event.type === "response.created") id = event.response.id;
      break;
    }
    await service.held();
    service.letGo();
    expect(textOf(await client.responses.retrieve(id, { stream: true }).then(all))).toBe("done");
  });

  it("is cancelled", async () => {
    const begun = await ask("say a\nhold", { background: true });
    for await (const { type } of await client.responses.retrieve(begun.id, { stream: true })) {
      if (type === "response.output_text.delta") break;
    }
    expect(await client.responses.cancel(begun.id)).toMatchObject({
      status: "cancelled",
      output: [{ status: "incomplete", content: [{ text: "a" }] }],
    });
    expect(await client.responses.cancel(begun.id)).toMatchObject({ status: "cancelled" });
  });
});

describe("responses that become one", () => {
  it("are each found, and the next one goes on with either", async () => {
    const named = { "x-session-broker-key": "merging" };
    const collect = { ...named, "x-session-broker-on-conflict": "collect" };
    const running = ask("hold\nsay first", {}, named);
    await service.held();
    const begun = [];
    for (const input of ["say a", "say b"]) begun.push(await ask(input, { background: true }, collect));
    const [one, two] = begun;
    expect(await client.responses.retrieve(two?.id ?? "")).toMatchObject({ status: "queued" });
    service.letGo();
    await running;
    const merged = await client.responses.retrieve(two?.id ?? "", { stream: true }).then(all);
    expect(textOf(merged)).toBe("ab");
    for (const each of begun) {
      const found = await client.responses.retrieve(each.id);
      expect(found).toMatchObject({
        id: each.id,
        status: "completed",
        output: [{ content: [{ text: "ab" }] }],
      });
    }
    expect((await ask("say c", { previous_response_id: two?.id ?? "" })).output_text).toBe("c");
    expect((await ask("say d", { previous_response_id: one?.id ?? "" })).output_text).toBe("d");
    expect(lastMessages().map(({ content }: { content: unknown }) => content)).not.toContain("c");
  });
});

describe("a credential that is confined to a scope", () => {
  it("finds its own responses and conversations, and nobody else's", async () => {
    const acme = clientOf(adapter, acmeToken);
    const foreign = await ask("say theirs");
    const missing = { status: 404 };
    await expect(acme.responses.retrieve(foreign.id)).rejects.toMatchObject(missing);
    await expect(acme.responses.cancel(foreign.id)).rejects.toMatchObject(missing);
    const body = { model: "scripted", input: "say x", previous_response_id: foreign.id };
    await expect(acme.responses.create(body)).rejects.toMatchObject({
      status: 404,
      code: "previous_response_not_found",
    });
    const own = await acme.responses.create({ model: "scripted", input: "say mine", conversation: "c" });
    expect((await acme.responses.retrieve(own.id)).status).toBe("completed");
    const { sessions } = await broker.client().listSessions({ scope: "acme/responses" });
    expect(sessions).toMatchObject([{ key: { externalId: "c" } }]);
  });
});

describe("a stream that broke off", () => {
  it("goes on after any event, through another adapter, when its own was killed", async () => {
    const victim = await broker.startAdapter();
    const seen: ResponseStreamEvent[] = [];
    const input = "think x|y\nsay a|b\nhold\nsay c|d";
    const broken = (async () => {
      const body = { model: "scripted", input, stream: true as const };
      for await (const event of await clientOf(victim).responses.create(body)) {
        seen.push(event);
        if (textOf(seen) === "ab") await broker.killAdapter(victim);
      }
    })();
    await expect(broken).rejects.toThrow();
    const [created] = seen;
    const id = created?.type === "response.created" ? created.response.id : "";
    const last = seen.at(-1)?.sequence_number ?? 0;
    // It is open before there is anything new.
    const rest = await client.responses.retrieve(id, { stream: true, starting_after: last });
    await service.held();
    service.letGo();
    const whole = [...seen, ...(await all(rest))];
    expect(textOf(whole)).toBe("abcd");
    expect(whole.map(({ sequence_number: number }) => number)).toEqual(whole.map((_, i) => i));
    expect(whole.at(-1)).toMatchObject({ type: "response.completed", response: { status: "completed" } });
    for (const [after] of whole.entries()) {
      const events = await client.responses.retrieve(id, { stream: true, starting_after: after }).then(all);
      expect(events).toEqual(whole.slice(after + 1));
    }
    const helper = client.responses.stream({ response_id: id, starting_after: last });
    expect((await helper.finalResponse()).output_text).toBe("abcd");
  });

  it("is the same turn for a repeat with its idempotency-key", async () => {
    const headers = { "idempotency-key": "once only", "x-session-broker-on-disconnect": "detach" };
    const victim = await broker.startAdapter();
    const broken = clientOf(victim)
      .responses.create({ model: "scripted", input: "say a\nhold\nsay b", stream: true }, { headers })
      .then(all)
      .catch((error) => error);
    await service.held();
    await broker.killAdapter(victim);
    expect(await broken).toBeInstanceOf(Error);
    const before = service.asked.length;
    const rest = streamOf("say a\nhold\nsay b", {}, headers).then(all);
    service.letGo();
    expect(textOf(await rest)).toBe("ab");
    expect(service.asked).toHaveLength(before);
  });

  it("is not noticed by an SDK that repeats by itself, in a named session", async () => {
    const victim = await broker.startAdapter();
    const before = service.asked.length;
    const eager = new OpenAI({ baseURL: `${victim}/v1`, apiKey: broker.token, maxRetries: 5 });
    const body = { model: "scripted", input: "say a\nhold\nsay b", conversation: "repeated" };
    const answer = eager.responses.create(body);
    await service.held();
    await broker.killAdapter(victim);
    await broker.startAdapter(victim);
    service.letGo();
    expect((await answer).output_text).toBe("ab");
    expect(service.asked).toHaveLength(before + 1);
  });

  it("is the same turn for the SDK's own repeat in a named session", async () => {
    const headers = { "x-session-broker-key": "retried", "x-session-broker-on-disconnect": "detach" };
    const victim = await broker.startAdapter();
    const broken = clientOf(victim)
      .responses.create({ model: "scripted", input: "say a\nhold\nsay b", stream: true }, { headers })
      .then(all)
      .catch((error) => error);
    await service.held();
    await broker.killAdapter(victim);
    await broken;
    const before = service.asked.length;
    const rest = streamOf("say a\nhold\nsay b", {}, { ...headers, "x-stainless-retry-count": "1" }).then(all);
    service.letGo();
    expect(textOf(await rest)).toBe("ab");
    expect(service.asked).toHaveLength(before);
    // Without the SDK's word for it, the same request is a new turn.
    service.letGo();
    await ask("say x", {}, headers);
    await ask("say x", {}, headers);
    expect(service.asked).toHaveLength(before + 2);
  });
});

describe("errors", () => {
  it.each([
    ["tools", { tools: [{ type: "web_search" }] }],
    ["text.format.type", { text: { format: { type: "grammar" as "text" } } }],
    ["text.format.name", { text: { format: { type: "json_schema" as const, schema: {}, name: "" } } }],
    ["prompt", { prompt: { id: "p" } }],
    ["conversation", { conversation: "" }],
    ["input", { input: [] }],
    ["input[0].type", { input: [{ type: "function_call_output", call_id: "c", output: "x" }] }],
    [
      "input[0].content[0].image_url",
      {
        input: [
          {
            role: "user",
            content: [{ type: "input_image", detail: "auto", image_url: "https://example.com/x.png" }],
          },
        ],
      },
    ],
    [
      "input[0].content[0].file_data",
      { input: [{ role: "user", content: [{ type: "input_file", file_id: "f" }] }] },
    ],
  ] satisfies [string, Fields][])("name the field %s", async (param, fields) => {
    await expect(ask("hi", fields)).rejects.toMatchObject({ status: 400, param });
  });

  it("a foreign token finds nothing", async () => {
    const { id } = await ask("say mine");
    const stranger = clientOf(adapter, "stranger");
    await expect(stranger.responses.retrieve(id)).rejects.toMatchObject({ status: 401 });
  });

  it.each([
    () => client.responses.retrieve("resp_none"),
    () => client.responses.retrieve("resp_none", { stream: true }),
    () => client.responses.cancel("resp_none"),
    () => client.responses.delete("resp_none"),
  ])("what is not there is 404", async (call) => {
    await expect(call()).rejects.toMatchObject({ status: 404, code: "response_not_found" });
  });

  it("starting_after that is no number is 400", async () => {
    const { id } = await ask("say x");
    const response = await fetch(`${adapter}/v1/responses/${id}?stream=true&starting_after=x`, {
      headers: { authorization: `Bearer ${broker.token}` },
    });
    expect(response.status).toBe(400);
  });
});

describe("DELETE", () => {
  it("removes a response with its session, if it is alone there and the token may", async () => {
    const admin = clientOf(adapter, broker.adminToken);
    const { id } = await ask("say x");
    await expect(client.responses.delete(id)).rejects.toMatchObject({ status: 403 });
    await admin.responses.delete(id);
    await expect(client.responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
    const first = await ask("say y");
    await ask("say z", { previous_response_id: first.id });
    await expect(admin.responses.delete(first.id)).rejects.toMatchObject({ status: 400 });
  });
});

it.skipIf(openapiFile === undefined)(
  "every body and event obeys OpenAI's schema (SESSION_BROKER_TEST_OPENAPI)",
  { timeout: 120_000 },
  () => {
    const openapi = new OpenApi(openapiFile ?? "");
    const wrong = sent.flatMap(({ route, status, value, streamed }) => {
      if (status !== 200) return openapi.problems("ErrorResponse", value);
      if (!route.includes("/responses") || route.startsWith("DELETE")) return [];
      return openapi.problems(streamed ? "ResponseStreamEvent" : "Response", value);
    });
    expect(new Set(wrong)).toEqual(new Set());
    expect(sent.filter(({ streamed }) => streamed).length).toBeGreaterThan(50);
    for (const schema of ["Response", "ResponseStreamEvent", "ErrorResponse"]) {
      expect(openapi.problems(schema, { type: "response.created" })).not.toEqual([]);
    }
  },
);
