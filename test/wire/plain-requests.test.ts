/** HTTP/1.1 without Node's server: which requests the short way is asked about, and what becomes of a connection. */
import { afterEach, describe, expect, it } from "vitest";
import type { ShortWay } from "../../src/server/handler.js";
import { type Listening, type ListenOptions, listen } from "../../src/server/one-port.js";
import { PlainRequest } from "../../src/server/plain-connection.js";
import { openRaw, type RawHttp1 } from "../support/raw-http1.js";

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Door extends Listening {
  /** What the short way was asked, in order; it leaves paths that begin with /left. */
  readonly asked: PlainRequest[];
  /** How often the handler was. */
  readonly left: { count: number };
}

/** Answers those it leaves with their bodies, as `left: ...`. */
async function start(limits: ListenOptions["limits"] = {}): Promise<Door> {
  const asked: PlainRequest[] = [];
  const left = { count: 0 };
  const shortWay: ShortWay = (request) => {
    if (!(request instanceof PlainRequest)) return false;
    asked.push(request);
    return !request.url.startsWith("/left");
  };
  const handler = (async (req: AsyncIterable<Buffer>, res: { end(text: string): void }) => {
    left.count += 1;
    let body = "";
    for await (const chunk of req) body += chunk;
    res.end(`left: ${body}`);
  }) as unknown as ListenOptions["handler"];
  const server = await listen({ host: "127.0.0.1", port: 0, handler, shortWay, limits });
  cleanups.push(() => server.close(0));
  return { ...server, asked, left };
}

async function open({ port }: Listening): Promise<RawHttp1> {
  const raw = await openRaw(port);
  cleanups.push(async () => {
    raw.socket.destroy();
  });
  return raw;
}

function requestText(path: string, body = "", more: readonly string[] = []): string {
  const lines = [`POST ${path} HTTP/1.1`, "Host: localhost", `Content-Length: ${body.length}`, ...more];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

function answer({ reply }: PlainRequest, text: string): void {
  reply.head(200, { "content-length": text.length });
  reply.end(text);
}

/** Of a list that a server fills. */
async function nth<T>(list: readonly T[], n: number): Promise<T> {
  await expect.poll(() => list.length).toBeGreaterThanOrEqual(n);
  return list[n - 1] as T;
}

const bodiesOf = (text: string) =>
  text
    .split(/HTTP\/1\.1 200 OK\r\n/)
    .slice(1)
    .map((each) => each.split("\r\n\r\n").slice(1).join("\r\n\r\n"));

describe("a plain request", () => {
  it("is answered on its socket, and the next one on the same", async () => {
    const door = await start();
    const { socket, received } = await open(door);
    for (const n of [1, 2, 3]) {
      socket.write(requestText(`/${n}`, `body ${n}`, ["X-Number: 1"]));
      const request = await nth(door.asked, n);
      expect(request).toMatchObject({ method: "POST", url: `/${n}` });
      expect(request.headers).toMatchObject({ host: "localhost", "x-number": "1" });
      expect(`${request.body}`).toBe(`body ${n}`);
      answer(request, `answer ${n}`);
      await expect.poll(received).toContain(`answer ${n}`);
    }
    const [, head = ""] = /^HTTP\/1\.1 200 OK\r\n(.*?)\r\n\r\n/s.exec(received()) ?? [];
    const fields = Object.fromEntries(head.split("\r\n").map((line) => line.split(": ")));
    expect(fields).toMatchObject({ "content-length": "8", Connection: "keep-alive" });
    expect(fields["Keep-Alive"]).toBe("timeout=300");
    expect(Math.abs(Date.parse(fields.Date ?? "") - Date.now())).toBeLessThan(60_000);
  });

  it("may be answered in pieces, of bytes or of text", async () => {
    const door = await start();
    const { socket, received, closed } = await open(door);
    socket.write(requestText("/", "", ["Connection: close"]));
    const { reply } = await nth(door.asked, 1);
    reply.head(404, { "x-list": ["a", "b"] });
    expect(received()).toBe("");
    expect(reply.write(Buffer.from("\u00e9".repeat(8)))).toBe(true);
    reply.end("text");
    const text = await closed;
    expect(text).toMatch(/^HTTP\/1\.1 404 Not Found\r\nx-list: a\r\nx-list: b\r\n/);
    expect(text).toContain("\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    expect(Buffer.from(text.split("\r\n\r\n").slice(1).join("\r\n\r\n"), "latin1").toString()).toBe(
      `10\r\n${"\u00e9".repeat(8)}\r\n4\r\ntext\r\n0\r\n\r\n`,
    );
    expect(reply.gone).toBe(true);
  });

  it("has a reader to wait for", async () => {
    const door = await start();
    const { socket } = await open(door);
    socket.pause();
    socket.write(requestText("/"));
    const { reply } = await nth(door.asked, 1);
    reply.head(200, {});
    const piece = Buffer.alloc(2 ** 20);
    let written = 1;
    while (reply.write(piece)) written += 1;
    expect(written).toBeLessThan(100);
    const drained = reply.drained();
    socket.resume();
    await drained;
    expect(reply.gone).toBe(false);
    await reply.drained();
  });

  it("is over when its client leaves, which is told once", async () => {
    const door = await start();
    const leaving: ((raw: RawHttp1) => unknown)[] = [
      ({ socket }) => socket.destroy(),
      ({ socket }) => socket.resetAndDestroy(),
      ({ socket }) => socket.end(),
    ];
    for (const [n, leave] of leaving.entries()) {
      const raw = await open(door);
      raw.socket.write(requestText("/"));
      const { reply } = await nth(door.asked, n + 1);
      let told = 0;
      reply.onGone(() => {
        told += 1;
      });
      reply.head(200, {});
      leave(raw);
      await expect.poll(() => told).toBe(1);
      expect(reply.gone).toBe(true);
      expect(reply.write(Buffer.from("x"))).toBe(true);
      await reply.drained();
      reply.end();
      expect(told).toBe(1);
    }
  });

  it("is left without an answer when the server says so, and a whole answer is not lost", async () => {
    const door = await start();
    const raw = await open(door);
    raw.socket.write(requestText("/1"));
    const first = await nth(door.asked, 1);
    let lost = false;
    first.reply.onGone(() => {
      lost = true;
    });
    answer(first, "whole");
    await expect.poll(raw.received).toContain("whole");
    raw.socket.write(requestText("/2"));
    (await nth(door.asked, 2)).reply.cutOff();
    expect(bodiesOf(await raw.closed)).toEqual(["whole"]);
    expect(lost).toBe(false);
  });
});

describe("requests on one connection", () => {
  it("are answered one after the other, however they come", async () => {
    const door = await start();
    const { socket, received } = await open(door);
    socket.write(requestText("/1"));
    const first = await nth(door.asked, 1);
    for (const path of ["/2", "/left/3", "/4"]) socket.write(requestText(path, path));
    // The last of them is in the server when a later connection has been served.
    const other = await open(door);
    other.socket.write(requestText("/left", "other"));
    await expect.poll(other.received).toContain("left: other");
    expect(door.asked.map(({ url }) => url)).toEqual(["/1", "/left"]);
    answer(first, "first");
    await expect.poll(() => bodiesOf(received()).length).toBeGreaterThanOrEqual(2);
    const second = door.asked[2];
    if (second?.url === "/2" && !received().includes("left: /2")) answer(second, "left: /2");
    await expect.poll(() => bodiesOf(received())).toEqual(["first", "left: /2", "left: /left/3", "left: /4"]);
  });

  it("are all left to the handler from one that is unusual", async () => {
    const door = await start();
    const { socket, received } = await open(door);
    socket.write(requestText("/1"));
    answer(await nth(door.asked, 1), "first");
    socket.write(requestText("/left", "second"));
    await expect.poll(received).toContain("left: second");
    socket.write(requestText("/3", "third"));
    await expect.poll(received).toContain("left: third");
    expect(door.asked.map(({ url }) => url)).toEqual(["/1", "/left"]);
  });

  it("are left to the handler where one comes in pieces", async () => {
    const door = await start();
    const { socket, received } = await open(door);
    socket.write(requestText("/", "body").slice(0, -2));
    await expect.poll(() => door.left.count).toBe(1);
    socket.write("dy");
    await expect.poll(received).toContain("left: body");
    expect(door.asked).toEqual([]);
  });

  it.each([
    [
      "is in chunks",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ],
    ["has no host", "POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody"],
    ["is larger than a read", requestText("/", "body".repeat(100_000))],
  ])("are left to the handler where one %s", async (_, bytes) => {
    const door = await start();
    const { socket, received } = await open(door);
    socket.write(bytes);
    await expect.poll(received).toMatch(/left: (body)+/);
    expect(door.asked).toEqual([]);
  });

  it("are not asked about where the header is beyond its bounds", async () => {
    const door = await start({ headerFields: 10, headerBytes: 1000 });
    for (const more of [Array.from({ length: 9 }, (_, i) => `x-${i}: 1`), [`x-long: ${"x".repeat(1000)}`]]) {
      const { socket, received } = await open(door);
      socket.write(requestText("/", "", more));
      await expect.poll(received).toMatch(/^HTTP\/1\.1 431 /);
    }
    expect(door.asked).toEqual([]);
  });
});

describe("a connection", () => {
  it("is closed after its last answer, and when the client has closed it", async () => {
    const door = await start();
    const one = await open(door);
    one.socket.write(requestText("/", "", ["Connection: close"]));
    answer(await nth(door.asked, 1), "bye");
    expect(await one.closed).toMatch(/Connection: close\r\n\r\nbye$/);
    const two = await open(door);
    two.socket.write(requestText("/"));
    answer(await nth(door.asked, 2), "bye");
    await expect.poll(two.received).toContain("bye");
    two.socket.end();
    await two.closed;
  });

  it("is closed when it is idle, and not while an answer takes its time", async () => {
    const door = await start({ idleTimeoutMs: 50 });
    const slow = await open(door);
    slow.socket.write(requestText("/"));
    const request = await nth(door.asked, 1);
    for (let i = 0; i < 3; i++) {
      const idle = await open(door);
      idle.socket.write(requestText("/"));
      answer(await nth(door.asked, i + 2), "bye");
      await idle.closed;
    }
    answer(request, "late");
    expect(await slow.closed).toContain("late");
  });

  it("is closed when its reader takes nothing", async () => {
    const door = await start({ idleTimeoutMs: 50 });
    const { socket } = await open(door);
    socket.pause();
    socket.write(requestText("/"));
    const { reply } = await nth(door.asked, 1);
    const gone = new Promise<void>((resolve) => reply.onGone(resolve));
    reply.head(200, {});
    const piece = Buffer.alloc(2 ** 20);
    while (reply.write(piece));
    await gone;
  });

  it("ends with the server: at once if it is idle, and after the answer if not", async () => {
    const door = await start();
    const [idle, busy] = [await open(door), await open(door)];
    idle.socket.write(requestText("/"));
    answer(await nth(door.asked, 1), "idle");
    await expect.poll(idle.received).toContain("idle");
    busy.socket.write(requestText("/"));
    const request = await nth(door.asked, 2);
    const closed = door.close(60_000);
    await idle.closed;
    answer(request, "busy");
    expect(await busy.closed).toMatch(/Connection: close\r\n\r\nbusy$/);
    await closed;
  });

  it("gives its place to a new one only before its first request", async () => {
    const door = await start({ connections: 1 });
    const first = await open(door);
    first.socket.write(requestText("/"));
    answer(await nth(door.asked, 1), "first");
    await expect.poll(first.received).toContain("first");
    expect(await (await open(door)).closed).toBe("");
    first.socket.write(requestText("/"));
    answer(await nth(door.asked, 2), "second");
    await expect.poll(first.received).toContain("second");
  });
});
