import { createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { type EventStream, openEventStream } from "./sse.js";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** A stream on a real socket, and the client's end of it, which reads nothing by itself. */
async function open() {
  let tick = () => {};
  const every = (callback: () => void) => {
    tick = callback;
    return () => {
      tick = () => {};
    };
  };
  const server = createServer();
  const opened = new Promise<{ stream: EventStream; res: ServerResponse }>((resolve) => {
    server.on("request", (_, res) => resolve({ stream: openEventStream(res, { "x-a": "b" }, every), res }));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const response = new Promise<IncomingMessage>((got) => get({ host: "127.0.0.1", port, agent: false }, got));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { ...(await opened), response: await response, tick: () => tick() };
}

/** Sends until the client's not reading is felt, and answers the send that waits. */
async function fill(stream: EventStream, res: ServerResponse): Promise<{ readonly waiting: Promise<void> }> {
  const large = "x".repeat(1 << 20);
  for (;;) {
    const waiting = stream.send(large);
    if (res.writableNeedDrain) return { waiting };
    await waiting;
  }
}

describe("openEventStream", () => {
  it("sends the head at once, then events, comments and the end", async () => {
    const { stream, response, tick } = await open();
    expect(response.headers).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "x-a": "b",
    });
    await stream.send({ text: "a\nü" });
    tick();
    tick();
    stream.keepAlive();
    await stream.end("[DONE]");
    response.setEncoding("utf8");
    let body = "";
    for await (const chunk of response) body += chunk;
    // The first tick comes after an event, the second after silence.
    expect(body).toBe('data: {"text":"a\\nü"}\n\n: keep-alive\n\n: keep-alive\n\ndata: [DONE]\n\n');
  });

  it("waits for a client that does not read, and sends it no comments", async () => {
    const { stream, res, response, tick } = await open();
    const { waiting } = await fill(stream, res);
    const before = res.writableLength;
    tick();
    tick();
    expect(res.writableLength).toBe(before);
    response.resume();
    await waiting;
    expect(res.writableNeedDrain).toBe(false);
  });

  it("does not wait for a client that has left", async () => {
    const { stream, res, response } = await open();
    const { waiting } = await fill(stream, res);
    response.destroy();
    await waiting;
    await stream.send("nobody reads this");
    await stream.end("[DONE]");
  });
});
