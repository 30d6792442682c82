/** One trace, from a request to the adapter to the environment of the agent. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createClient } from "@connectrpc/connect";
import { propagation, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { afterEach, describe, expect, it, vi } from "vitest";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { createAdapter } from "../../src/adapters/openai/server.js";
import { systemClock } from "../../src/clock.js";
import { transportTo } from "../../src/commands/broker-client.js";
import { createRequestTracing } from "../../src/trace-requests.js";
import { TestBroker } from "../support/broker.js";
import { InProcessBroker } from "../support/in-process.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";
const traceparent = `00-${traceId}-${spanId}-01`;
const program = {
  first: ["/bin/sh", "-c", 'echo "$TRACEPARENT $TRACESTATE"; grep -q fail && exit 1; true', "sh"],
};
const config = JSON.stringify({ providers: [{ id: "program", command: program }] });

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function ask(url: string, token: string, content: string, headers: Record<string, string> = {}) {
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: "program", messages: [{ role: "user", content }] }),
  });
  const body = (await answer.json()) as { choices?: { message: { content: string } }[] };
  return body.choices?.[0]?.message.content.trim() ?? `status ${answer.status}`;
}

describe("processes without an SDK", () => {
  it("hand on what they were given, to the agent", async () => {
    const broker = await TestBroker.start({ config });
    cleanups.push(() => broker.close());
    const adapter = await broker.startAdapter();
    const headers = { traceparent, tracestate: "vendor=1" };
    expect(await ask(adapter, broker.token, "hello", headers)).toBe(`${traceparent} vendor=1`);
    expect(await ask(adapter, broker.token, "hello")).toBe("");
    expect(await ask(adapter, broker.token, "hello", { traceparent: "00-wrong" })).toBe("");
  });
});

describe("with an SDK", () => {
  it("that NODE_OPTIONS loads, both processes record, and the agent does not load it", async () => {
    const setUp = new URL("../fixtures/tracing-set-up.mjs", import.meta.url).href;
    const broker = await TestBroker.start({ config, environment: { NODE_OPTIONS: `--import=${setUp}` } });
    cleanups.push(() => broker.close());
    const adapter = await broker.startAdapter();
    const given = await ask(adapter, broker.token, "hello", { traceparent });
    expect(given).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
    const recorded = () =>
      broker.output
        .join("")
        .split("\n")
        .filter((line) => line.startsWith('{"span":'))
        .map((line) => JSON.parse(line))
        .filter((span) => span.traceId === traceId)
        .map(({ span }) => span);
    const wanted = ["POST", "sessionbroker.v1.SessionBroker/Dispatch", "turn", "queue wait", "agent program"];
    await expect.poll(() => recorded(), { timeout: 10_000 }).toEqual(expect.arrayContaining(wanted));
  });

  it("each step is a span of the caller's trace, and the agent is given the last", async () => {
    const exporter = new InMemorySpanExporter();
    const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
    trace.setGlobalTracerProvider(provider);
    propagation.setGlobalPropagator(new W3CTraceContextPropagator());
    cleanups.push(() => {
      trace.disable();
      propagation.disable();
    });
    const broker = await InProcessBroker.start(systemClock, config);
    cleanups.push(() => broker.close());
    const tracing = createRequestTracing();
    const socket = `unix:${broker.folder}/b.sock`;
    const client = createClient(SessionBroker, transportTo(socket, [tracing.interceptor]));
    const adapter = createServer(tracing.around(createAdapter({ broker: client, brokerAddress: socket })));
    adapter.listen(0, "127.0.0.1");
    await once(adapter, "listening");
    cleanups.push(() => adapter.close());
    const url = `http://127.0.0.1:${(adapter.address() as AddressInfo).port}`;

    const given = await ask(url, broker.token, "hello", { traceparent });
    const spans = () => exporter.getFinishedSpans();
    const named = (name: string) => spans().find((span) => span.name === name) as ReadableSpan;
    const dispatch = "sessionbroker.v1.SessionBroker/Dispatch";
    await vi.waitUntil(() => ["POST", "turn", dispatch].every((name) => named(name) !== undefined), 10_000);
    const chain = [named("POST"), named(dispatch), named("turn"), named("agent program")];
    expect(chain.map((span) => span.spanContext().traceId)).toEqual(Array(4).fill(traceId));
    const ids = chain.map((span) => span.spanContext().spanId);
    expect(chain.map((span) => span.parentSpanContext?.spanId)).toEqual([spanId, ...ids.slice(0, 3)]);
    expect(named("queue wait").parentSpanContext?.spanId).toBe(ids[2]);
    expect(given).toBe(`00-${traceId}-${ids[3]}-01`);
    expect(named("turn").attributes).toMatchObject({
      "session_broker.provider": "program",
      "session_broker.ending": "COMPLETED",
    });
    // What was said is in none of them.
    expect(JSON.stringify(spans().map(({ attributes }) => attributes))).not.toContain("hello");

    exporter.reset();
    await ask(url, broker.token, "fail", { traceparent });
    await vi.waitUntil(() => named("turn") !== undefined && named("POST") !== undefined, 10_000);
    // Status 2: ERROR.
    expect(named("turn")).toMatchObject({ status: { code: 2, message: "FAILED" } });
    expect(named("agent program")).toMatchObject({ status: { code: 2 } });
    // Each span that began has ended.
    const begun = spans().map(({ name }) => name);
    expect(begun.filter((name) => name === "turn")).toHaveLength(1);
  });
});
