/** Clients that want to use up the broker. It serves others meanwhile, and has back what they took. */
import { connect, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { reasonOf } from "../support/answers.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { descriptorLimit, type ProcessState, processState } from "../support/process-state.js";
import { openRaw, type RawHttp1 } from "../support/raw-http1.js";
import {
  errorCode,
  flag,
  frame,
  frameType,
  headerBlock,
  RawHttp2,
  requestFields,
} from "../support/raw-http2.js";
import { dispatchTurn } from "../support/turns.js";

const reservePath = "/sessionbroker.v1.SessionBroker/Reserve";
const healthPath = "/grpc.health.v1.Health/Check";
const watchPath = "/grpc.health.v1.Health/Watch";
/** More than the heap grows by itself, and less than what is thrown at it. */
const most = 500;
const pipelined = 16;
const messageBytes = 4 * 1024 * 1024;
const mostBytes = 192 * 1024 * 1024;

let broker: TestBroker;
let client: BrokerClient;
let before: ProcessState;
const open: Socket[] = [];

beforeEach(async () => {
  broker = await TestBroker.start({
    config:
      `limits: { headerTimeout: 1s, requestTimeout: 1s, idleTimeout: 2s, messageBytes: ${messageBytes}, resetsPerConnection: ${most} }\n` +
      "providers: [{ id: echo, echo: {} }]\n",
  });
  client = broker.client();
  await serves();
  before = processState(broker.pid);
});

afterEach(() => broker.close());

let calls = 0;
/** Others are answered. */
async function serves(): Promise<void> {
  // A connection of its own: an attack may last as long as one may be idle, and longer.
  const client = broker.client();
  for (let i = 0; i < 5; i++) {
    const key = { scope: "acme", externalId: `chat ${++calls}`, provider: "echo" };
    expect(await reasonOf(client.reserve({ key }))).toBe("none");
  }
}

/** What the attack took is given back, once its connections are gone. */
async function recovers(): Promise<void> {
  for (const socket of open.splice(0)) socket.destroy();
  await serves();
  // A few belong to this test's own client.
  await expect
    .poll(() => processState(broker.pid).descriptors, { timeout: 15_000 })
    .toBeLessThanOrEqual(before.descriptors + 5);
  const grown = async () => {
    // What is let go of is collected as others are served.
    await serves();
    return processState(broker.pid).memoryBytes - before.memoryBytes;
  };
  await expect.poll(grown, { timeout: 20_000 }).toBeLessThan(mostBytes);
}

async function openHttp2(settings?: Buffer): Promise<RawHttp2> {
  const raw = await RawHttp2.open(broker.port, settings);
  open.push(raw.socket);
  return raw;
}

async function openHttp1(): Promise<RawHttp1> {
  const raw = await openRaw(broker.port);
  open.push(raw.socket);
  return raw;
}

/** Sends pieces until all are sent or the connection is gone. */
async function flood(raw: RawHttp2, pieces: Iterable<Buffer>): Promise<void> {
  let batch: Buffer[] = [];
  for (const piece of pieces) {
    batch.push(piece);
    if (batch.length < 50) continue;
    await raw.send(...batch);
    batch = [];
    if (raw.socket.destroyed) return;
  }
  await raw.send(...batch);
}

const times = function* <T>(count: number, make: (index: number) => T): Generator<T> {
  for (let i = 0; i < count; i++) yield make(i);
};
const streamNo = (index: number) => 2 * index + 1;

describe.skipIf(process.platform !== "linux")("HTTP/2", () => {
  const request = headerBlock(requestFields(healthPath, "application/json"));
  const reset = Buffer.from([0, 0, 0, errorCode.cancel]);
  const cancelled = (index: number) =>
    Buffer.concat([
      frame(frameType.headers, flag.endHeaders, streamNo(index), request),
      frame(frameType.rstStream, 0, streamNo(index), reset),
    ]);
  /** A client that goes on sending may not get to read it. */
  const expectCalm = (raw: RawHttp2) => expect([undefined, errorCode.enhanceYourCalm]).toContain(raw.goaway);

  it("with streams that are opened and cancelled at once is told to calm down", async () => {
    const raw = await openHttp2();
    const attack = flood(raw, times(5_000, cancelled));
    await serves();
    await attack;
    await raw.closed;
    expectCalm(raw);
    await recovers();
  });

  it("may cancel as many streams as it may, and one more is told to be too many", async () => {
    const raw = await openHttp2();
    // The settings that every client begins with count, too.
    await flood(raw, times(most - 1, cancelled));
    await raw.send(
      frame(frameType.headers, flag.endHeaders, streamNo(most), request),
      frame(frameType.data, flag.endStream, streamNo(most), Buffer.from("{}")),
    );
    await expect.poll(() => raw.of(frameType.data, streamNo(most)).length).toBeGreaterThan(0);
    expect(raw.goaway).toBeUndefined();
    await raw.send(cancelled(most + 1));
    await raw.closed;
    expect(raw.goaway).toBe(errorCode.enhanceYourCalm);
    await recovers();
  });

  it.each([
    ["pings", () => frame(frameType.ping, 0, 0, Buffer.alloc(8))],
    ["settings", () => frame(frameType.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0xff, 0xff]))],
  ])("with thousands of %s is told to calm down", async (_, piece) => {
    const raw = await openHttp2();
    await flood(raw, times(most - 1, piece));
    await serves();
    expect(raw.goaway).toBeUndefined();
    await flood(raw, times(1, piece));
    await raw.closed;
    expect(raw.goaway).toBe(errorCode.enhanceYourCalm);
    const other = await openHttp2();
    const attack = flood(other, times(20_000, piece));
    await serves();
    await attack;
    await other.closed;
    expectCalm(other);
    await recovers();
  });

  it("with a header that never ends is closed", async () => {
    const raw = await openHttp2();
    await raw.send(frame(frameType.headers, 0, 1, request));
    const part = headerBlock([["x-more", "y".repeat(1_000)]]);
    const attack = flood(
      raw,
      times(20_000, () => frame(frameType.continuation, 0, 1, part)),
    );
    await serves();
    await attack;
    await raw.closed;
    await recovers();
  });

  it("with a frame larger than allowed is closed", async () => {
    const raw = await openHttp2();
    const large = frame(frameType.data, 0, 1, Buffer.alloc(1_000_000));
    // Its length is told at its start. A connection that is closed with unread bytes is reset, and loses its last words.
    await raw.send(frame(frameType.headers, flag.endHeaders, 1, request), large.subarray(0, 100));
    await raw.closed;
    expect(raw.goaway).toBe(6); // FRAME_SIZE_ERROR
    await recovers();
  });

  it("with a frame that is wrong in the read that opened a stream ends nothing else", async () => {
    const head = frame(frameType.headers, flag.endHeaders, 1, request);
    // HTTP/2 has no such frame on a stream, none of that length, and nothing for a stream that nobody opened.
    for (const wrong of [
      frame(frameType.settings, 0, 1, Buffer.alloc(0)),
      frame(frameType.data, 0, 1, Buffer.alloc(20_000)).subarray(0, 100),
      frame(frameType.data, 0, 99, Buffer.alloc(1)),
      frame(frameType.continuation, 0, 1, Buffer.alloc(1)),
    ]) {
      const raws = await Promise.all(Array.from(times(20, () => openHttp2())));
      for (const raw of raws) await raw.send(head, wrong);
      await serves();
    }
    await recovers();
  });

  it("with one large field that is referred to again and again gets no call", async () => {
    const raw = await openHttp2();
    // With indexing, and then by its index, which is the first of the dynamic table.
    const name = Buffer.from("x-bomb");
    const value = Buffer.alloc(3_900, "a");
    const length = Buffer.from([
      127,
      ((value.length - 127) % 128) + 128,
      Math.floor((value.length - 127) / 128),
    ]);
    const literal = Buffer.concat([Buffer.from([0x40, name.length]), name, length, value]);
    const references = Buffer.alloc(10_000, 0x80 | 62);
    const block = Buffer.concat([
      headerBlock(requestFields(healthPath, "application/json")),
      literal,
      references,
    ]);
    for (const index of times(100, (i) => i)) {
      if (raw.socket.destroyed) break;
      await raw.send(frame(frameType.headers, flag.endHeaders | flag.endStream, streamNo(index), block));
    }
    await serves();
    expect(raw.of(frameType.data)).toEqual([]);
    await recovers();
  });

  it("with requests that do not end has them cancelled", async () => {
    const raw = await openHttp2();
    const last = streamNo(99);
    for (const index of times(100, (i) => i)) {
      await raw.send(
        frame(frameType.headers, flag.endHeaders, streamNo(index), request),
        frame(frameType.data, 0, streamNo(index), Buffer.from("{")),
      );
    }
    await serves();
    await expect.poll(() => raw.of(frameType.rstStream).length, { timeout: 15_000 }).toBe(100);
    expect(raw.of(frameType.rstStream, last)[0]?.payload.readUInt32BE()).toBe(errorCode.enhanceYourCalm);
    await recovers();
  });

  it("with readers that let nothing be sent has them cancelled, and others read the same turn", async () => {
    const text = "word ".repeat(6_000);
    const turn = dispatchTurn(client, text, {
      target: { case: "key", value: { scope: "acme", externalId: "long", provider: "echo" } },
    });
    await turn.event("completed");
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    const raw = await openHttp2(Buffer.from([0, 4, 0, 0, 0, 0]));
    const attach = headerBlock(
      requestFields("/sessionbroker.v1.SessionBroker/Attach", "application/connect+json", [
        ["authorization", `Bearer ${broker.token}`],
      ]),
    );
    const message = Buffer.from(JSON.stringify({ turnId: turn.turnId }));
    const head = Buffer.from([0, 0, 0, 0, message.length]);
    for (const index of times(5, (i) => i)) {
      await raw.send(
        frame(frameType.headers, flag.endHeaders, streamNo(index), attach),
        frame(frameType.data, flag.endStream, streamNo(index), Buffer.concat([head, message])),
      );
    }
    await expect.poll(() => raw.of(frameType.headers).length, { timeout: 15_000 }).toBe(5);
    await serves();
    await expect.poll(() => raw.of(frameType.rstStream).length, { timeout: 20_000 }).toBe(5);
    expect(raw.of(frameType.data)).toEqual([]);
    await recovers();
  });

  it("with a watch that is silent for longer than any timeout goes on", async () => {
    const raw = await openHttp2();
    const watch = headerBlock(requestFields(watchPath, "application/connect+json"));
    const body = Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from("{}")]);
    await raw.send(
      frame(frameType.headers, flag.endHeaders, 1, watch),
      frame(frameType.data, flag.endStream, 1, body),
    );
    // An idle connection that is closed shows that the time has passed.
    await (await openHttp2()).closed;
    await (await openHttp2()).closed;
    expect(raw.of(frameType.rstStream)).toEqual([]);
    expect(raw.socket.destroyed).toBe(false);
    await recovers();
  });
});

describe.skipIf(process.platform !== "linux")("HTTP/1.1", () => {
  const head = (path: string, more: string) =>
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${more}`;

  it("with headers that come byte by byte ends with 408", async () => {
    const slow = await Promise.all(Array.from(times(200, openHttp1)));
    const dribble = setInterval(() => {
      for (const { socket } of slow) if (socket.writable) socket.write("x");
    }, 100);
    for (const { socket } of slow) socket.write(`${head(healthPath, "")}X-Slow: `);
    await serves();
    for (const { closed } of slow) expect(await closed).toMatch(/^HTTP\/1\.1 408 /);
    clearInterval(dribble);
    await recovers();
  });

  it("with bodies that come byte by byte ends with 408", async () => {
    const slow = await Promise.all(Array.from(times(200, openHttp1)));
    const dribble = setInterval(() => {
      for (const { socket } of slow) if (socket.writable) socket.write(" ");
    }, 100);
    for (const { socket } of slow) socket.write(head(healthPath, "Content-Length: 1000\r\n\r\n{"));
    await serves();
    for (const { closed } of slow) expect(await closed).toMatch(/^HTTP\/1\.1 408 |^$/);
    clearInterval(dribble);
    await recovers();
  });

  it.each([
    ["one header of a megabyte", `X-Large: ${"a".repeat(1_000_000)}\r\n`],
    ["20,000 headers", "x: y\r\n".repeat(20_000)],
    ["1,000 headers", "x: y\r\n".repeat(1_000)],
  ])("with %s is refused with 431", async (_, fields) => {
    const attackers = await Promise.all(Array.from(times(20, openHttp1)));
    for (const { socket } of attackers)
      socket.write(`${head(healthPath, fields)}Content-Length: 2\r\n\r\n{}`);
    await serves();
    // What is sent after the refusal may reset the connection before it is read.
    for (const { closed } of attackers) expect(await closed).toMatch(/^HTTP\/1\.1 431 |^$/);
    await recovers();
  });

  it("that announces a body beyond every limit is refused before it comes", async () => {
    for (const length of [String(messageBytes + 1), "9007199254740991"]) {
      const { socket, received } = await openHttp1();
      const token = `Authorization: Bearer ${broker.token}\r\n`;
      socket.write(head(reservePath, `${token}Content-Length: ${length}\r\n\r\n{`));
      await expect.poll(received).toMatch(/^HTTP\/1\.1 429 [\s\S]*resource_exhausted/);
    }
    await recovers();
  });

  it.each([
    ["a length that is no number", "Content-Length: 1e9\r\n\r\n"],
    ["two lengths", "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"],
    ["a length and chunks", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
  ])("with %s is refused with 400", async (_, rest) => {
    const { socket, closed } = await openHttp1();
    socket.write(head(healthPath, rest));
    expect(await closed).toMatch(/^HTTP\/1\.1 400 /);
    await recovers();
  });

  it("may ask as often before it is answered as it may, and one more closes the connection", async () => {
    const one = head(healthPath, "Content-Length: 2\r\n\r\n{}");
    const fair = await openHttp1();
    fair.socket.write(one.repeat(pipelined));
    await expect.poll(() => fair.received().split("HTTP/1.1 200 OK").length - 1).toBe(pipelined);
    expect(fair.socket.destroyed).toBe(false);
    const greedy = await openHttp1();
    greedy.socket.write(one.repeat(pipelined + 1));
    await greedy.closed;
    await recovers();
  });

  it("with thousands of requests in a row that reads no answer does not fill the memory", async () => {
    const { socket } = await openHttp1();
    socket.pause();
    const one = head(healthPath, "Content-Length: 2\r\n\r\n{}");
    for (let i = 0; i < 200 && !socket.destroyed; i++) socket.write(one.repeat(100));
    await serves();
    await recovers();
  });
});

describe.skipIf(process.platform !== "linux")("bodies", () => {
  it("that grow beyond the limit when they are unpacked are refused", async () => {
    const bomb = gzipSync(Buffer.alloc(300 * 1024 * 1024), { level: 9 });
    const authorization = `Bearer ${broker.token}`;
    const envelope = Buffer.concat([Buffer.from([1, 0, 0, 0, 0]), bomb]);
    envelope.writeUInt32BE(bomb.length, 1);
    const post = (path: string, headers: Record<string, string>, body: Buffer) =>
      fetch(`${broker.url}/sessionbroker.v1.SessionBroker/${path}`, {
        method: "POST",
        headers: { authorization, ...headers },
        body,
      }).then((response) => response.text());
    const attack = Promise.all(
      Array.from(times(5, () => 0)).flatMap(() => [
        post("Reserve", { "content-type": "application/json", "content-encoding": "gzip" }, bomb),
        post(
          "Attach",
          { "content-type": "application/connect+json", "connect-content-encoding": "gzip" },
          envelope,
        ),
        post("Reserve", { "content-type": "application/grpc-web+proto", "grpc-encoding": "gzip" }, envelope),
      ]),
    );
    await serves();
    for (const answer of await attack) expect(answer).toMatch(/resource_exhausted|grpc-status: 8/);
    await recovers();
  });
});

describe.skipIf(process.platform !== "linux")("connections", () => {
  const crowd = 10_000;
  const needed = crowd + 500;

  it("that ask nothing make room for those that do", async (test) => {
    if (descriptorLimit() < needed) {
      return test.skip(`needs ${needed} open files; ulimit -n is ${descriptorLimit()}`);
    }
    // Kept long, so that nothing but the next one closes them.
    const patient = await TestBroker.start({
      config: "limits: { headerTimeout: 600s, requestTimeout: 600s }\n",
    });
    try {
      const own = processState(patient.pid).descriptors;
      const sockets: Socket[] = [];
      while (sockets.length < crowd) {
        const batch = Array.from(times(200, () => connect(patient.port, "127.0.0.1").on("error", () => {})));
        await Promise.all(batch.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
        sockets.push(...batch);
      }
      await expect.poll(() => processState(patient.pid).descriptors).toBeGreaterThanOrEqual(own + crowd);
      const key = { scope: "acme", externalId: "chat", provider: "echo" };
      expect(await reasonOf(patient.client().reserve({ key }))).toBe("none");
      expect(await reasonOf(patient.client("grpc").reserve({ key }))).toBe("none");
      expect(processState(patient.pid).memoryBytes).toBeLessThan(before.memoryBytes + 2 * mostBytes);
      for (const socket of sockets) socket.destroy();
      await expect.poll(() => processState(patient.pid).descriptors).toBeLessThanOrEqual(own + 5);
    } finally {
      await patient.close();
    }
  }, 120_000);
});
