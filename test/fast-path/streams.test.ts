/** Streams of the fast path that end otherwise than by themselves. */
import { connect } from "node:http2";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { revokeAll, type ScriptedServer, startScripted, tokens } from "./scripted-server.js";

const headers = { authorization: `Bearer ${tokens.admin}`, "x-stay": "yes" };

let server: ScriptedServer;
let warnings: Error[];
const onWarning = (warning: Error) => warnings.push(warning);

beforeEach(async () => {
  warnings = [];
  process.on("warning", onWarning);
  server = await startScripted(true);
});

afterEach(async () => {
  process.off("warning", onWarning);
  await server.close(0);
  expect(server.defects).toEqual([]);
  expect(warnings.filter(({ name }) => name === "MaxListenersExceededWarning")).toEqual([]);
});

function transportOf(protocol: string) {
  const baseUrl = `http://127.0.0.1:${server.port}`;
  if (protocol === "grpc") return createGrpcTransport({ baseUrl });
  return createConnectTransport({ baseUrl, httpVersion: protocol === "connect" ? "1.1" : "2" });
}

async function ending(stream: AsyncIterable<unknown>): Promise<unknown> {
  try {
    for await (const _ of stream);
  } catch (error) {
    return error;
  }
  return undefined;
}

describe.each(["connect", "connect over HTTP/2", "grpc"])("%s", (protocol) => {
  it("a server that stops ends streams with its reason", async () => {
    const client = createClient(SessionBroker, transportOf(protocol));
    const ended = Promise.all(
      Array.from({ length: 20 }, () => ending(client.attach({ turnId: "wait 1" }, { headers }))),
    );
    await vi.waitFor(() => expect(server.waiting).toHaveLength(20));
    server.shutdown.abort(new Error("stopping"));
    for (const error of await ended) expect(error).toBeInstanceOf(Error);
    expect(server.waiting.every(({ aborted }) => aborted)).toBe(true);
  });

  it("a client that leaves ends the implementation's signal", async () => {
    const client = createClient(SessionBroker, transportOf(protocol));
    const leaving = new AbortController();
    const ended = ending(client.attach({ turnId: "wait 1" }, { headers, signal: leaving.signal }));
    await vi.waitFor(() => expect(server.waiting).toHaveLength(1));
    expect(server.waiting[0]?.aborted).toBe(false);
    leaving.abort();
    await ended;
    await vi.waitFor(() => expect(server.waiting[0]?.aborted).toBe(true));
  });

  it("a credential that is taken away ends its streams", async () => {
    const client = createClient(SessionBroker, transportOf(protocol));
    const ended = ending(client.attach({ turnId: "wait 1" }, { headers }));
    await vi.waitFor(() => expect(server.waiting).toHaveLength(1));
    revokeAll(server);
    expect(String(await ended)).toMatch(/unauthenticated/);
    await vi.waitFor(() => expect(server.waiting[0]?.aborted).toBe(true));
  });

  it("a deadline passes in the middle", async () => {
    const client = createClient(SessionBroker, transportOf(protocol));
    const iterator = client.attach({ turnId: "wait 2" }, { headers, timeoutMs: 300 })[Symbol.asyncIterator]();
    expect((await iterator.next()).value?.event?.sequence).toBe(1);
    expect((await iterator.next()).value?.event?.sequence).toBe(2);
    await expect(iterator.next()).rejects.toThrow(/deadline_exceeded/);
    await vi.waitFor(() => expect(server.waiting[0]?.aborted).toBe(true));
  });
});

it("who may not call is told so before the body is sent", async () => {
  const session = connect(`http://127.0.0.1:${server.port}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/sessionbroker.v1.SessionBroker/Attach",
    "content-type": "application/grpc",
  });
  const status = await new Promise((resolve) =>
    stream.once("trailers", (trailers) => resolve(trailers["grpc-status"])).resume(),
  );
  expect(status).toBe("16");
  session.destroy();
});

it("a reader that stops reading stops what makes the messages", async () => {
  const session = connect(`http://127.0.0.1:${server.port}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/sessionbroker.v1.SessionBroker/Attach",
    "content-type": "application/connect+json",
    ...headers,
  });
  const message = Buffer.from('{"turnId":"endless"}');
  stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));
  let before = -1;
  await vi.waitFor(
    () => {
      const made = server.made.count;
      const stands = made > 0 && made === before;
      before = made;
      expect(stands).toBe(true);
    },
    { timeout: 10_000, interval: 100 },
  );
  // A window of HTTP/2 and the buffers on the way, in messages of a kilobyte.
  expect(server.made.count).toBeLessThan(2000);
  session.destroy();
});
