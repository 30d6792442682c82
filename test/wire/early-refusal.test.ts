/** Callers that no credential knows get their error before they have sent what they ask. */
import { request as httpRequest } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { reasonOf } from "../support/answers.js";
import { TestBroker } from "../support/broker.js";

const service = "/sessionbroker.v1.SessionBroker";
const messageBytes = 32 * 1024 * 1024;

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly trailers: Record<string, unknown>;
}

type Ask = (port: number, path: string, headers: Record<string, string>) => Promise<Answer>;

/** The answer to a request of which only the header is sent. */
const overHttp1: Ask = (port, path, headers) =>
  new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: "127.0.0.1", port, path, method: "POST", headers, agent: false },
      async (response) => {
        let body = "";
        for await (const chunk of response.setEncoding("latin1")) body += chunk;
        request.destroy();
        resolve({ status: response.statusCode ?? 0, body, trailers: response.trailers });
      },
    );
    request.once("error", reject);
    request.flushHeaders();
  });

const overHttp2: Ask = async (port, path, headers) => {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = session.request({ ":method": "POST", ":path": path, ...headers });
  let status = 0;
  let trailers: Record<string, unknown> = {};
  stream.once("response", (response) => {
    status = Number(response[":status"]);
    // gRPC may say it all in the header.
    trailers = { ...response };
  });
  stream.once("trailers", (received) => {
    trailers = { ...received };
  });
  let body = "";
  for await (const chunk of stream.setEncoding("latin1")) body += chunk;
  session.destroy();
  return { status, body, trailers };
};

/** What each protocol makes of UNAUTHENTICATED, in a word. */
function told({ status, body, trailers }: Answer): string {
  const all = `${body} ${JSON.stringify(trailers)}`;
  const isIt = /"code":"unauthenticated"|grpc-status"?: ?"?16/.test(all);
  const hasMessage = /send Authorization: Bearer|send%20Authorization/.test(all);
  const hasDetail = /google\.rpc\.ErrorInfo|grpc-status-details-bin/.test(all);
  return isIt && hasMessage && hasDetail ? `unauthenticated ${status}` : `${status} ${all}`;
}

const forms: readonly (readonly [string, Ask, string, string, number])[] = [
  ["Connect's JSON over HTTP/1.1", overHttp1, "Reserve", "application/json", 401],
  ["Connect's protobuf over HTTP/1.1", overHttp1, "Reserve", "application/proto", 401],
  ["Connect's JSON over HTTP/2", overHttp2, "Reserve", "application/json", 401],
  ["Connect's JSON stream over HTTP/1.1", overHttp1, "Dispatch", "application/connect+json", 200],
  ["Connect's protobuf stream over HTTP/2", overHttp2, "Dispatch", "application/connect+proto", 200],
  ["Connect's stream of requests", overHttp2, "ImportSessions", "application/connect+proto", 200],
  ["gRPC", overHttp2, "Reserve", "application/grpc", 200],
  ["gRPC's JSON", overHttp2, "Reserve", "application/grpc+json", 200],
  ["gRPC's stream", overHttp2, "Dispatch", "application/grpc+proto", 200],
  ["gRPC's stream of requests", overHttp2, "ImportSessions", "application/grpc", 200],
  ["gRPC-Web over HTTP/1.1", overHttp1, "Reserve", "application/grpc-web+proto", 200],
  ["gRPC-Web's stream over HTTP/2", overHttp2, "Dispatch", "application/grpc-web", 200],
];

describe.each(["true", "false"])("with fastPath: %s", (fastPath) => {
  let broker: TestBroker;

  beforeAll(async () => {
    broker = await TestBroker.start({ config: `fastPath: ${fastPath}\n` });
  });

  afterAll(() => broker.close());

  it.each(forms)("tells them in %s, without a body", async (_, ask, method, contentType, status) => {
    const headers = { "content-type": contentType };
    for (const more of [
      {},
      { authorization: "Bearer wrong" },
      { authorization: "Basic wrong", "content-length": String(messageBytes) },
      { authorization: "Bearer wrong", "content-encoding": "gzip", "connect-content-encoding": "gzip" },
    ] as Record<string, string>[]) {
      const answer = await ask(broker.port, `${service}/${method}`, { ...headers, ...more });
      expect(told(answer)).toBe(`unauthenticated ${status}`);
    }
  });

  it("tells clients of all protocols", async () => {
    for (const protocol of ["connect", "connect-h2", "grpc", "grpc-web"] as const) {
      const client = broker.client(protocol, "wrong");
      const big = "x".repeat(3 * 1024 * 1024);
      const input = [{ part: { case: "text" as const, value: big } }];
      const target = { case: "key" as const, value: { scope: "a", externalId: "b", provider: "echo" } };
      const told = [
        await reasonOf(client.getSession({ selector: { case: "sessionId", value: "x" } })),
        await reasonOf(client.dispatch({ target, input })),
      ];
      expect([protocol, ...told]).toEqual([protocol, ...Array(2).fill("Unauthenticated UNAUTHENTICATED")]);
    }
  });

  it("keeps the connection of a client whose small request is refused", async () => {
    const socket = connect(broker.port, "127.0.0.1").setEncoding("latin1");
    let answers = "";
    socket.on("data", (chunk) => {
      answers += chunk;
    });
    const request = (token: string) =>
      `POST ${service}/Reserve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n` +
      `Content-Type: application/json\r\nContent-Length: 62\r\n\r\n` +
      `{"key":{"scope":"acme","externalId":"chat","provider":"echo"}}`;
    socket.write(request("wrong"));
    await expect.poll(() => answers).toMatch(/^HTTP\/1\.1 401 /);
    socket.write(request(broker.token));
    await expect.poll(() => answers).toMatch(/HTTP\/1\.1 200 [\s\S]*"outcome"/);
    socket.destroy();
  });

  it.each([
    ["a length", `Content-Length: ${messageBytes}\r\n\r\n`, ""],
    ["chunks", "Transfer-Encoding: chunked\r\n\r\n", `${(64 * 1024).toString(16)}\r\n`],
  ])("does not read a large body with %s", async (_, rest, head) => {
    const socket = connect(broker.port, "127.0.0.1").setEncoding("latin1");
    let answer = "";
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.write(
      `POST ${service}/Reserve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
        `Authorization: Bearer wrong\r\n${rest}`,
    );
    const piece = `${head}${" ".repeat(64 * 1024)}${head === "" ? "" : "\r\n"}`;
    const taken = () => socket.bytesWritten - socket.writableLength;
    for (let sent = 0; sent < messageBytes && !socket.destroyed; sent += 64 * 1024) {
      const more = new Promise<void>((resolve) => socket.write(piece, () => resolve()));
      await Promise.race([more, closed]);
    }
    await closed;
    expect(answer).toMatch(/^HTTP\/1\.1 401 [\s\S]*"code":"unauthenticated"/);
    // What the buffers of the two ends hold.
    expect(taken()).toBeLessThan(messageBytes / 2);
  });

  it("does not read more than a window of HTTP/2", async () => {
    const session = connectHttp2(`http://127.0.0.1:${broker.port}`);
    const stream = session.request({
      ":method": "POST",
      ":path": `${service}/Reserve`,
      "content-type": "application/grpc",
      authorization: "Bearer wrong",
    });
    const closed = new Promise((resolve) => stream.once("close", resolve));
    stream.on("error", () => {});
    stream.resume();
    let written = 0;
    const push = () => {
      if (stream.closed || written >= messageBytes) return;
      written += 64 * 1024;
      stream.write(Buffer.alloc(64 * 1024), push);
    };
    push();
    await closed;
    expect(written).toBeLessThan(1024 * 1024);
    session.destroy();
  });

  it("reads only what names need of those who ask for health", async () => {
    const post = async (bytes: number) => {
      const response = await fetch(`${broker.url}/grpc.health.v1.Health/Check`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}".padEnd(bytes),
      });
      return response.status;
    };
    expect(await post(64 * 1024)).toBe(200);
    expect(await post(64 * 1024 + 1)).toBe(429);
  });
});
