/** Sessions that have grown old, and responses that are gone on with. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { createAdapter } from "../../src/adapters/openai/server.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const clock = new ManualClock(Date.UTC(2026, 0, 1));
const retention = "retention: { eventsFor: 86400s }\nmaintenance: { every: 1s }\n";
const config =
  retention +
  "providers: [{ id: echo, echo: {} }]\nscopes: [{ pattern: default, resetPolicy: { idle: 3600s } }]";
const server = createServer();
let broker: InProcessBroker;
let client: OpenAI;

beforeAll(async () => {
  broker = await InProcessBroker.start(clock, config);
  server.on("request", createAdapter({ broker: broker.client, brokerAddress: "here" }));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
});

afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await broker.close();
});

function ask(input: string, previous_response_id: string | null = null, headers = {}) {
  return client.responses.create({ model: "echo", input, previous_response_id }, { headers }).withResponse();
}

it("age does not put a new session in the place of a response's", async () => {
  const named = { "x-session-broker-key": "aged" };
  const { data: first } = await ask("one", null, named);
  clock.advance(2 * 3_600_000);
  const { data, response } = await ask("two", first.id);
  expect(data.output_text).toBe("turn 2: two");
  expect(response.headers.get("x-session-broker-outcome")).toBe("existing");
  clock.advance(2 * 3_600_000);
  // The key alone goes to a new session, as its policy says.
  expect((await ask("three", null, named)).data.output_text).toBe("turn 1: three");
  // The old one is archived: what was said in it is gone on with in another.
  const fork = await ask("four", data.id);
  expect(fork.response.headers.get("x-session-broker-outcome")).toBe("created");
});

it("a response keeps its text when the turn's events are no longer kept", async () => {
  const { data } = await ask("kept as one");
  const again = () =>
    client.responses.retrieve(data.id, { stream: true }).catch(({ status, code }) => ({ status, code }));
  clock.advance(48 * 3_600_000);
  const expired = async () => {
    clock.advance(1_000);
    return "status" in (await again());
  };
  await vi.waitUntil(expired, { timeout: 20_000 });
  expect(await again()).toEqual({ status: 410, code: "events_expired" });
  const { output_text: text, ...rest } = data;
  const found = await client.responses.retrieve(data.id);
  expect(found).toMatchObject({ ...rest, output: [{ type: "message", content: [{ text }] }] });
  // It can still be gone on with.
  expect((await ask("next", data.id)).data.output_text).toBe("turn 2: next");
});
