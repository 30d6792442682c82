/** Requests that no client sends, to a broker and to its adapter, over raw sockets. */
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Outcome, ReserveRequestSchema } from "../../gen/sessionbroker/v1/session_pb.js";
import { DispatchRequestSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import { TestBroker } from "../support/broker.js";
import { mutated, parameters, timeoutFor } from "./fuzzing.js";
import { framed, http1Bytes, http2Bytes, isHeard, residentMib } from "./raw-client.js";

const service = "/sessionbroker.v1.SessionBroker";
const batch = 12;
const batches = 25;
/** More than a request may be, and far less than a leak of each would come to. */
const mostGrowthMib = 400;

let broker: TestBroker;
let adapter: string;

beforeAll(async () => {
  broker = await TestBroker.start();
  adapter = await broker.startAdapter();
});

afterAll(() => broker.close());

describe("requests that are not quite right", () => {
  it("to the broker are answered or end the connection, and it goes on", {
    timeout: timeoutFor(batches, 20_000),
  }, async () => {
    const samples = await brokerSamples();
    await withBatches({ port: broker.port, pid: broker.pid }, samples, async (index) => {
      const key = { scope: "healthy", externalId: `chat-${index}`, provider: "echo" };
      expect((await broker.client("connect").reserve({ key })).outcome).toBe(Outcome.CREATED);
      expect((await broker.client("grpc").reserve({ key })).outcome).toBe(Outcome.EXISTING);
    });
  });

  it("to the adapter are answered or end the connection, and it goes on", {
    timeout: timeoutFor(batches, 20_000),
  }, async () => {
    const port = Number(new URL(adapter).port);
    await withBatches({ port, pid: broker.adapterPid(adapter) }, adapterSamples(), async (index) => {
      const answer = await fetch(`${adapter}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${broker.token}`, "content-type": "application/json" },
        body: JSON.stringify({ model: "echo", messages: [{ role: "user", content: `healthy ${index}` }] }),
      });
      expect([answer.status, await answer.text()]).toEqual([
        200,
        expect.stringContaining(`healthy ${index}`),
      ]);
    });
  });
});

/** Batches at once, each followed by a request that has to succeed. */
async function withBatches(
  { port, pid }: { readonly port: number; readonly pid: number },
  samples: readonly Buffer[],
  isHealthy: (index: number) => Promise<void>,
): Promise<void> {
  for (const sample of samples) expect(await isHeard(port, sample)).toBe(true);
  const before = residentMib(pid);
  let index = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(mutated(samples), { minLength: batch, maxLength: batch }), async (requests) => {
      const heard = await Promise.all(requests.map((request) => isHeard(port, request)));
      expect(heard).toEqual(requests.map(() => true));
      await isHealthy(index++);
    }),
    parameters(batches),
  );
  expect(residentMib(pid) - before).toBeLessThan(mostGrowthMib);
}

async function brokerSamples(): Promise<readonly Buffer[]> {
  const authorization = `Bearer ${broker.adminToken}`;
  const key = { scope: "fuzz", externalId: "chat", provider: "echo" };
  const reserve = { key, labels: { a: "b" }, aliases: ["one", "two"], idempotencyKey: "again" };
  const text = { case: "text" as const, value: "hello" };
  const dispatch = create(DispatchRequestSchema, {
    target: { case: "key", value: key },
    input: [{ part: text }],
  });
  const json = { authorization, "content-type": "application/json", "connect-protocol-version": "1" };
  const dispatchJson = framed(Buffer.from(JSON.stringify({ key, input: [{ text: "hello" }] })));
  const reserveBytes = Buffer.from(toBinary(ReserveRequestSchema, create(ReserveRequestSchema, reserve)));
  const dispatchBytes = framed(toBinary(DispatchRequestSchema, dispatch));
  const grpc = { ":method": "POST", authorization, "content-type": "application/grpc", te: "trailers" };
  return [
    http1Bytes(`${service}/Reserve`, json, JSON.stringify(reserve)),
    http1Bytes(`${service}/ListSessions`, json, JSON.stringify({ scope: "*", pageSize: 5, states: [1] })),
    http1Bytes(
      `${service}/ImportSessions`,
      { ...json, "content-type": "application/connect+json" },
      framed(Buffer.from(JSON.stringify({ session: { key, labels: {} }, row: 1 }))),
    ),
    http1Bytes(`${service}/Dispatch`, { ...json, "content-type": "application/connect+json" }, dispatchJson),
    http1Bytes(`${service}/Reserve`, { authorization, "content-type": "application/proto" }, reserveBytes),
    http1Bytes(
      `${service}/Dispatch`,
      { authorization, "content-type": "application/grpc-web+proto" },
      dispatchBytes,
    ),
    http1Bytes(`${service}/GetServerInfo?connect=v1&encoding=json&message=%7B%7D`, { authorization }),
    await http2Bytes({ ...grpc, ":path": `${service}/Reserve` }, framed(reserveBytes)),
    await http2Bytes({ ...grpc, ":path": `${service}/Dispatch` }, dispatchBytes),
    await http2Bytes(
      { ...json, ":method": "POST", ":path": `${service}/Reserve` },
      Buffer.from(JSON.stringify(reserve)),
    ),
  ];
}

function adapterSamples(): readonly Buffer[] {
  const authorization = `Bearer ${broker.token}`;
  const json = { authorization, "content-type": "application/json" };
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "user", content: [{ type: "text", text: "hello" }] },
    { role: "assistant", content: "hi" },
    { role: "user", content: "again" },
  ];
  const chat = { model: "echo", messages, user: "ada", metadata: { a: "b" } };
  const keyed = { ...json, "x-session-broker-key": "fuzz" };
  return [
    http1Bytes("/v1/chat/completions", json, JSON.stringify(chat)),
    http1Bytes(
      "/v1/chat/completions",
      keyed,
      JSON.stringify({ ...chat, stream: true, stream_options: { include_usage: true } }),
    ),
    http1Bytes(
      "/v1/responses",
      json,
      JSON.stringify({ model: "echo", input: "hello", stream: true, store: true }),
    ),
    http1Bytes(
      "/v1/responses",
      json,
      JSON.stringify({
        model: "echo",
        input: [{ role: "user", content: [{ type: "input_text", text: "x" }] }],
        previous_response_id: "resp_1",
      }),
    ),
    http1Bytes("/v1/conversations", json, JSON.stringify({ metadata: { topic: "fuzz" } })),
    http1Bytes(
      "/v1/messages",
      { ...json, "anthropic-version": "2023-06-01" },
      JSON.stringify({ model: "echo", max_tokens: 10, stream: true, messages: messages.slice(1) }),
    ),
    http1Bytes("/v1/models", { authorization }),
  ];
}
