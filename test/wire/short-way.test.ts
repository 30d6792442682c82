/** HTTP/2 without Node's request and response: what is asked of a request before, and what is left to them. */
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { ShortWay } from "../../src/server/handler.js";
import { type Listening, type ListenOptions, listen } from "../../src/server/one-port.js";
import { TestBroker } from "../support/broker.js";
import {
  errorCode,
  flag,
  frame,
  frameType,
  headerBlock,
  RawHttp2,
  requestFields,
} from "../support/raw-http2.js";

const checkPath = "/grpc.health.v1.Health/Check";
const infoPath = "/sessionbroker.v1.SessionBroker/GetServerInfo";

interface Answer {
  readonly status: unknown;
  readonly body: string;
}

async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  let status: unknown;
  stream.once("response", (headers) => {
    status = headers[":status"];
  });
  let body = "";
  for await (const chunk of stream.setEncoding("utf8")) body += chunk;
  return { status, body };
}

/** A request whose body is `{}`. */
function begin(session: ClientHttp2Session, headers: Record<string, string>): ClientHttp2Stream {
  return session.request({
    ":method": "POST",
    ":path": checkPath,
    "content-type": "application/json",
    ...headers,
  });
}

describe("the broker", () => {
  let broker: TestBroker;
  let session: ClientHttp2Session;
  const ask = (headers: Record<string, string>) => {
    const stream = begin(session, headers);
    stream.end("{}");
    return answerOf(stream);
  };

  beforeAll(async () => {
    broker = await TestBroker.start({ config: "limits: { headerFields: 20 }\n" });
    session = connect(broker.url);
  });

  afterAll(async () => {
    session.destroy();
    await broker.close();
  });

  it("refuses a foreign host, unless it knows the caller and that is no browser", async () => {
    const foreign = { ":authority": "foreign.example" };
    const authorization = `Bearer ${broker.token}`;
    expect(await ask({})).toMatchObject({ status: 200 });
    expect(await ask(foreign)).toMatchObject({
      status: 403,
      body: expect.stringContaining("foreign.example"),
    });
    expect(await ask({ ...foreign, authorization })).toMatchObject({ status: 200 });
    expect(await ask({ ...foreign, authorization, "sec-fetch-site": "none" })).toMatchObject({ status: 403 });
    expect(await ask({ origin: "https://foreign.example" })).toMatchObject({ status: 403 });
  });

  it("knows callers by their tokens, each request anew", async () => {
    const known = { ":path": infoPath, authorization: `Bearer ${broker.adminToken}` };
    for (const headers of [known, { ...known, authorization: "Bearer unknown" }, known]) {
      const status = headers.authorization === known.authorization ? 200 : 401;
      expect(await ask(headers)).toMatchObject({ status });
    }
  });

  it("tells a client that waits for it to go on", async () => {
    const stream = begin(session, { expect: "100-continue" });
    await once(stream, "continue");
    stream.end("{}");
    expect(await answerOf(stream)).toMatchObject({ status: 200 });
  });

  it("serves on after a client has ended its request with an error", async () => {
    const raw = await RawHttp2.open(broker.port);
    const block = headerBlock(requestFields(checkPath, "application/json"));
    const internalError = Buffer.from([0, 0, 0, 2]);
    await raw.send(
      frame(frameType.headers, flag.endHeaders, 1, block),
      frame(frameType.data, 0, 1, Buffer.from("{")),
    );
    // It has begun: the next one on the connection is answered.
    await raw.send(
      frame(frameType.headers, flag.endHeaders, 3, block),
      frame(frameType.data, flag.endStream, 3, Buffer.from("{}")),
    );
    await expect.poll(() => raw.of(frameType.data, 3).length).toBeGreaterThan(0);
    await raw.send(frame(frameType.rstStream, 0, 1, internalError));
    await raw.send(
      frame(frameType.headers, flag.endHeaders, 5, block),
      frame(frameType.data, flag.endStream, 5, Buffer.from("{}")),
    );
    await expect.poll(() => raw.of(frameType.data, 5).length).toBeGreaterThan(0);
    raw.socket.destroy();
    expect(await ask({})).toMatchObject({ status: 200 });
  });
});

describe("a door", () => {
  const asked: string[] = [];
  const shortWay: ShortWay = (request) => {
    const { url, method } = request;
    asked.push(`${method} ${url}`);
    if (url !== "/short" || !("stream" in request)) return false;
    request.stream.respond({ ":status": 200 });
    request.stream.end("short");
    return true;
  };
  const handler = ((req: { url: string }, res: { end(text: string): void }) => {
    if (req.url !== "/wait") res.end(`complete ${req.url}`);
  }) as unknown as ListenOptions["handler"];
  let server: Listening;
  let session: ClientHttp2Session;

  beforeAll(async () => {
    const limits = { headerFields: 10, headersTimeoutMs: 200, requestTimeoutMs: 200 };
    server = await listen({ host: "127.0.0.1", port: 0, handler, shortWay, limits });
  });

  afterEach(() => {
    session.destroy();
    asked.length = 0;
  });

  afterAll(() => server.close(0));

  function request(path: string, more: Record<string, string> = {}): Promise<Answer> {
    const stream = session.request({ ":path": path, ...more });
    return answerOf(stream);
  }

  it("asks the short way first, and gives what it leaves to the handler", async () => {
    session = connect(`http://127.0.0.1:${server.port}`);
    expect(await request("/short")).toEqual({ status: 200, body: "short" });
    expect(await request("/other")).toEqual({ status: 200, body: "complete /other" });
    expect(asked).toEqual(["GET /short", "GET /other"]);
  });

  it("does not ask it about a header that is too large", async () => {
    session = connect(`http://127.0.0.1:${server.port}`);
    const fields = Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`x-${i}`, ""]));
    expect(await request("/short", fields)).toMatchObject({ status: 431 });
    expect(asked).toEqual([]);
  });

  it("ends a request that stalls after many that did not", async () => {
    session = connect(`http://127.0.0.1:${server.port}`);
    for (let i = 0; i < 50; i++) {
      const answers = [request("/short"), request("/other"), request("/short")];
      for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    }
    session.destroy();
    const raw = await RawHttp2.open(server.port);
    const block = headerBlock(requestFields("/wait", "text/plain"));
    await raw.send(frame(frameType.headers, flag.endHeaders, 1, block));
    await expect.poll(() => raw.of(frameType.rstStream, 1).length).toBe(1);
    expect(raw.of(frameType.rstStream, 1)[0]?.payload.readUInt32BE()).toBe(errorCode.enhanceYourCalm);
    raw.socket.destroy();
  });
});
