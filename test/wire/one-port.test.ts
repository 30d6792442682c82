import { once } from "node:events";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { type ClientHttp2Session, connect as connectH2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createConnectTransport } from "@connectrpc/connect-node";
import { execa } from "execa";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { createHealth, ServingStatus } from "../../src/rpc/health.js";
import { reflectionRoutes } from "../../src/rpc/reflection.js";
import { guardHost } from "../../src/server/host-guard.js";
import { type Listening, type ListenOptions, listen } from "../../src/server/one-port.js";
import { openRaw, type RawHttp1 } from "../support/raw-http1.js";

const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Answers with the HTTP version, the path and the body. */
function echo(req: IncomingMessage, res: ServerResponse): void {
  const chunks: Buffer[] = [];
  req.on("data", (chunk: Buffer) => chunks.push(chunk));
  req.on("end", () => res.end(`${req.httpVersion} ${req.url} ${Buffer.concat(chunks)}`));
}

async function start(options: Partial<ListenOptions> = {}): Promise<Listening> {
  const server = await listen({
    host: "127.0.0.1",
    port: 0,
    handler: echo as ListenOptions["handler"],
    ...options,
  });
  cleanups.push(() => server.close(0));
  return server;
}

async function socketDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "sb-"));
  cleanups.push(() => rm(directory, { recursive: true }));
  return directory;
}

async function open(port: number): Promise<RawHttp1> {
  const raw = await openRaw(port);
  cleanups.push(async () => {
    raw.socket.destroy();
  });
  return raw;
}

/** Sends each piece by itself. */
async function send(socket: Socket, pieces: Iterable<string | Buffer>): Promise<void> {
  for (const piece of pieces) {
    await new Promise<void>((resolve) => socket.write(piece, () => setImmediate(resolve)));
  }
}

function openH2(port: number): ClientHttp2Session {
  const session = connectH2(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  cleanups.push(async () => session.destroy());
  return session;
}

async function getH2(session: ClientHttp2Session, path: string): Promise<string> {
  const stream = session.request({ ":path": path });
  stream.setEncoding("utf8");
  let body = "";
  for await (const chunk of stream) body += chunk;
  return body;
}

function getH1(port: number, path = "/", headers: Record<string, string> = {}) {
  return new Promise<{ status: number | undefined; body: string }>((resolve, reject) => {
    const req = httpRequest({ host: "127.0.0.1", port, path, headers, agent: false }, async (res) => {
      res.setEncoding("utf8");
      let body = "";
      for await (const chunk of res) body += chunk;
      resolve({ status: res.statusCode, body });
    });
    req.once("error", reject);
    req.end();
  });
}

describe("one port", () => {
  it("speaks HTTP/1.1 and HTTP/2", async () => {
    const { port } = await start();
    expect(await getH1(port, "/a")).toEqual({ status: 200, body: "1.1 /a " });
    expect(await getH2(openH2(port), "/b")).toBe("2.0 /b ");
  });

  it("answers several requests on one HTTP/1.1 connection", async () => {
    const { port } = await start();
    const { socket, received } = await open(port);
    await send(socket, ["GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    await vi.waitUntil(() => received().includes("1.1 /1 "));
    await send(socket, ["GET /2 HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    await vi.waitUntil(() => received().includes("1.1 /2 "));
  });

  it("answers a client that has closed its half", async () => {
    const { port } = await start();
    const { socket, closed } = await open(port);
    socket.end("GET /half HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(await closed).toContain("1.1 /half ");
  });

  it("takes the HTTP/2 preface byte by byte", async () => {
    const { port } = await start();
    const { socket, received } = await open(port);
    await send(socket, http2Preface);
    await send(socket, [emptySettings]);
    // A SETTINGS frame of the server: type 4 at byte 3.
    await vi.waitUntil(() => received().length >= 9);
    expect(received().charCodeAt(3)).toBe(4);
  });

  it("takes an HTTP/1.1 method that begins like the preface", async () => {
    const { port } = await start();
    const { socket, received } = await open(port);
    await send(socket, ["P", "OST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n", "bo", "dy"]);
    await vi.waitUntil(() => received().includes("1.1 /p body"));
  });

  it("takes a large body that arrives with the first bytes", async () => {
    const { port } = await start();
    const { socket, received } = await open(port);
    const body = "x".repeat(300_000);
    socket.write(`POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await vi.waitUntil(() => received().endsWith(`1.1 /big ${body}`));
  });

  it.each([
    ["a TLS hello", Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 1, 0, 0, 1, 3])],
    ["garbage", "\x00\x01\x02\x03"],
    ["a wrong preface", "PRI /x HTTP/2.0\r\n\r\n"],
  ])("answers %s with 400 and closes", async (_, bytes) => {
    const { port } = await start();
    const { socket, closed } = await open(port);
    await send(socket, [bytes]);
    expect(await closed).toMatch(/^HTTP\/1\.1 400 /);
  });

  it("answers a request without a usable host with 400", async () => {
    const handler = connectNodeAdapter({ routes: createHealth([]).routes });
    const { port } = await start({ handler });
    for (const head of ["POST /grpc.health.v1.Health/Check HTTP/1.0\r\n", "HTTP/1.1\r\nHost: a b\r\n"]) {
      const { socket, closed } = await open(port);
      const line = head.startsWith("POST") ? head : `POST /grpc.health.v1.Health/Check ${head}`;
      await send(socket, [`${line}Connection: close\r\nContent-Length: 0\r\n\r\n`]);
      expect(await closed).toMatch(/^HTTP\/1\.1 400 /);
    }
    expect((await getH1(port)).status).toBe(404);
  });

  it("closes a connection that sends nothing", async () => {
    const { port } = await start({ limits: { headersTimeoutMs: 50 } });
    const { closed } = await open(port);
    expect(await closed).toBe("");
  });

  it("answers a preface that does not end with 408", async () => {
    const { port } = await start({ limits: { headersTimeoutMs: 50 } });
    const { socket, closed } = await open(port);
    await send(socket, ["PRI * HT"]);
    expect(await closed).toMatch(/^HTTP\/1\.1 408 /);
  });

  it("answers a header that does not end with 408", async () => {
    const { port } = await start({ limits: { headersTimeoutMs: 100 } });
    const { socket, closed } = await open(port);
    await send(socket, ["GET / HTTP/1.1\r\nHost: localhost\r\n"]);
    const dribble = setInterval(() => socket.write("x-a: b\r\n"), 20);
    const answer = await closed;
    clearInterval(dribble);
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
  });

  it("does not end a response that takes longer than any timeout", async () => {
    const limits = { headersTimeoutMs: 20, requestTimeoutMs: 20, idleTimeoutMs: 20 };
    const responses: { end(): void }[] = [];
    const { port } = await start({ limits, handler: (_, res) => responses.push(res) as never });
    const h1 = getH1(port);
    const h2 = getH2(openH2(port), "/");
    await vi.waitUntil(() => responses.length === 2);
    // A connection that is closed for its silence shows that the timeouts have passed.
    await (await open(port)).closed;
    await (await open(port)).closed;
    for (const response of responses) response.end();
    expect((await h1).status).toBe(200);
    expect(await h2).toBe("");
  });

  it("closes idle HTTP/2 connections", async () => {
    const { port } = await start({ limits: { idleTimeoutMs: 50 } });
    const session = openH2(port);
    expect(await getH2(session, "/")).toBe("2.0 / ");
    await new Promise((resolve) => session.once("close", resolve));
  });

  it("lets go of an HTTP/2 client that leaves without a word", async () => {
    const server = await start();
    const { socket, received } = await open(server.port);
    await send(socket, [http2Preface, emptySettings]);
    await vi.waitUntil(() => received().length > 0);
    socket.end();
    await new Promise((resolve) => socket.once("close", resolve));
  });

  it("refuses connections over the cap and takes them again later", async () => {
    const { port } = await start({ limits: { connections: 1 } });
    const first = await open(port);
    await send(first.socket, ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    await vi.waitUntil(() => first.received().includes("1.1 / "));
    expect(await (await open(port)).closed).toBe("");
    first.socket.destroy();
    await vi.waitUntil(async () => (await getH1(port).catch(() => undefined))?.status === 200);
  });

  it("refuses headers that are too large", async () => {
    const { port } = await start({ limits: { headerBytes: 4096 } });
    expect((await getH1(port, "/", { "x-large": "a".repeat(8000) })).status).toBe(431);
    const session = openH2(port);
    const stream = session.request({ ":path": "/", "x-large": "a".repeat(8000) });
    const [headers] = await once(stream, "response");
    expect(headers[":status"]).toBe(431);
    expect((await getH1(port)).status).toBe(200);
  });

  it("limits the streams of a connection", async () => {
    const { port } = await start({ limits: { streamsPerConnection: 3 } });
    const session = openH2(port);
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    expect(session.remoteSettings.maxConcurrentStreams).toBe(3);
  });
});

describe("listen", () => {
  it("says what to do about an address that is taken", async () => {
    const { port } = await start();
    await expect(start({ port })).rejects.toThrow(
      `cannot listen on 127.0.0.1:${port}: another process listens there; stop it or choose another address`,
    );
  });

  it("gives the port back if the unix socket cannot be had", async () => {
    const socketPath = join(await socketDirectory(), "missing", "s");
    const earlier = await start();
    await earlier.close(0);
    const { port } = earlier;
    await expect(start({ port, socketPath })).rejects.toThrow("its directory does not exist");
    await start({ port });
  });

  it("listens on a unix socket that only its user may open", async () => {
    const socketPath = join(await socketDirectory(), "s");
    const server = await start({ socketPath });
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
    await server.close(0);
    await expect(stat(socketPath)).rejects.toThrow("ENOENT");
  });

  it("replaces the socket of a dead server, and leaves a live one and other files alone", async () => {
    const socketPath = join(await socketDirectory(), "s");
    const script = `require("node:net").createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, "SIGKILL"))`;
    await execa(process.execPath, ["-e", script], { reject: false });
    expect((await stat(socketPath)).isSocket()).toBe(true);
    await start({ socketPath });
    await expect(start({ socketPath })).rejects.toThrow(
      `cannot listen on ${socketPath}: another server listens there; stop it or choose another path`,
    );
    const file = `${socketPath}.txt`;
    await writeFile(file, "precious");
    await expect(start({ socketPath: file })).rejects.toThrow("no socket");
    await expect(start({ socketPath: `/tmp/${"x".repeat(120)}` })).rejects.toThrow("at most");
  });
});

describe("drain", () => {
  /** A server whose responses are ended by the test. */
  async function startHeld() {
    const responses: ServerResponse[] = [];
    const server = await start({
      handler: ((_: IncomingMessage, res: ServerResponse) => {
        res.write("begun ");
        responses.push(res);
      }) as ListenOptions["handler"],
    });
    return { server, responses };
  }

  it("lets running requests end and then closes", async () => {
    const { server, responses } = await startHeld();
    const h1 = await open(server.port);
    await send(h1.socket, ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    const idle = await open(server.port);
    const session = openH2(server.port);
    const h2 = getH2(session, "/");
    await vi.waitUntil(() => responses.length === 2);

    const goaway = new Promise((resolve) => session.once("goaway", resolve));
    const closed = server.close(60_000);
    await goaway;
    await idle.closed;
    await expect(getH1(server.port)).rejects.toThrow("ECONNREFUSED");

    for (const response of responses) response.end("done");
    expect(await h2).toBe("begun done");
    expect(await h1.closed).toContain("begun ");
    expect(h1.received()).toContain("done");
    await closed;
  });

  it("cuts off what has not ended in time", async () => {
    const { server, responses } = await startHeld();
    const h1 = await open(server.port);
    await send(h1.socket, ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    const h2 = getH2(openH2(server.port), "/").catch(() => "cut off");
    await vi.waitUntil(() => responses.length === 2);
    await server.close(1);
    expect(await h1.closed).not.toContain("done");
    await h2;
  });

  it("cuts off an HTTP/2 client that keeps its half of a closed session open", async () => {
    const server = await start();
    const socket = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
    const greeted = once(socket, "data");
    socket.write(Buffer.concat([Buffer.from(http2Preface), emptySettings]));
    await greeted;
    socket.resume();
    const ended = once(socket, "end");
    const closed = server.close(200);
    await ended;
    expect(socket.writable).toBe(true);
    await closed;
    socket.destroy();
  });
});

describe("buf curl", () => {
  const buf = fileURLToPath(new URL("../../node_modules/.bin/buf", import.meta.url));
  let server: Listening;
  let directory: string;
  let socketPath: string;
  const health = createHealth([SessionBroker.typeName]);

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "sb-"));
    socketPath = join(directory, "s");
    health.set(ServingStatus.SERVING);
    const handler = connectNodeAdapter({
      routes(router) {
        router.service(SessionBroker, {
          getServerInfo: () => ({ version: "1.2.3" }),
          async *dispatch({ turnId }) {
            for (const text of ["hé", "llo"]) {
              yield { event: { turnId, event: { case: "textDelta" as const, value: { text } } } };
            }
          },
        });
        reflectionRoutes([SessionBroker, Health])(router);
        health.routes(router);
      },
    });
    const guarded = guardHost(
      handler,
      () => ({ hosts: [], origins: [] }),
      () => false,
    );
    server = await listen({
      host: "127.0.0.1",
      port: 0,
      socketPath,
      handler: guarded,
      socketHandler: handler,
    });
    return async () => {
      await server.close(0);
      await rm(directory, { recursive: true });
    };
  });

  const protocols = ["connect", "grpc", "grpcweb"] as const;
  const routes = protocols.flatMap((protocol) =>
    (["tcp", "unix"] as const).map((route) => [protocol, route] as const),
  );

  async function curl(route: "tcp" | "unix", path: string, ...args: string[]): Promise<string> {
    const base = route === "tcp" ? `http://127.0.0.1:${server.port}` : "http://localhost";
    const where = route === "tcp" ? [] : ["--unix-socket", socketPath];
    const { stdout } = await execa(buf, ["curl", "--http2-prior-knowledge", ...where, ...args, base + path]);
    return stdout;
  }

  it.each(["tcp", "unix"] as const)("lists services and methods over %s", async (route) => {
    expect((await curl(route, "", "--list-services")).split("\n")).toEqual([
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      "sessionbroker.v1.SessionBroker",
    ]);
    const methods = (await curl(route, "", "--list-methods")).split("\n");
    for (const { name } of SessionBroker.methods) {
      expect(methods).toContain(`sessionbroker.v1.SessionBroker/${name}`);
    }
  });

  it.each(routes)("calls over %s and %s", async (protocol, route) => {
    const info = await curl(
      route,
      "/sessionbroker.v1.SessionBroker/GetServerInfo",
      "--protocol",
      protocol,
      "-d",
      "{}",
    );
    expect(JSON.parse(info)).toEqual({ version: "1.2.3" });
    const request = JSON.stringify({ turnId: "t", sessionId: "s", input: [{ text: "hi" }] });
    const turn = await curl(
      route,
      "/sessionbroker.v1.SessionBroker/Dispatch",
      "--protocol",
      protocol,
      "-d",
      request,
    );
    expect(turn).toContain('"hé"');
    expect(turn).toContain('"llo"');
    const status = await curl(route, "/grpc.health.v1.Health/Check", "--protocol", protocol, "-d", "{}");
    expect(JSON.parse(status)).toEqual({ status: "SERVING" });
  });

  it("ends a health watch when it is told to stop", async () => {
    const transport = createConnectTransport({
      httpVersion: "1.1",
      baseUrl: `http://127.0.0.1:${server.port}`,
    });
    const watch = createClient(Health, transport).watch({})[Symbol.asyncIterator]();
    expect((await watch.next()).value?.status).toBe(ServingStatus.SERVING);
    health.set(ServingStatus.NOT_SERVING);
    expect((await watch.next()).value?.status).toBe(ServingStatus.NOT_SERVING);
    health.set(ServingStatus.SERVING);
  });

  it("answers a foreign host with a Connect error on the port, not on the socket", async () => {
    const refused = await getH1(server.port, "/", { host: "evil.example" });
    expect(refused.status).toBe(403);
    expect(JSON.parse(refused.body)).toEqual({
      code: "permission_denied",
      message: '"evil.example" is not a known host name of this server',
    });
    const viaSocket = await execa(buf, [
      ...["curl", "--http2-prior-knowledge", "--unix-socket", socketPath, "-d", "{}"],
      "http://any.example/grpc.health.v1.Health/Check",
    ]);
    expect(viaSocket.stdout).toContain("SERVING");
  });
});
