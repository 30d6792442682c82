/** curl, with nothing but the Connect protocol written out in JSON. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import type { TestBroker } from "../support/broker.js";
import {
  type Answer,
  type Call,
  checkReport,
  type Failure,
  fieldsOf,
  service,
  startBroker,
  takeJourney,
} from "./journey.js";
import { attempt, prepare } from "./programs.js";

const found = await prepare("curl", () => attempt("curl", ["--version"]));

const ways = {
  "HTTP/1.1": () => ["--http1.1"],
  "HTTP/2": () => ["--http2-prior-knowledge"],
  "the unix socket": () => ["--unix-socket", broker.socket],
} as const;
const everyWay = Object.keys(ways) as (keyof typeof ways)[];
const json = { "content-type": "application/json" };

let broker: TestBroker;
let folder: string;

describe.skipIf("missing" in found)("curl", () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "polyglot-curl-"));
    broker = await startBroker();
  });
  afterAll(async () => {
    await broker?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(everyWay)("takes the journey over %s", async (way) => {
    const name = `curl-${way}`;
    checkReport(await takeJourney(caller(ways[way]()), broker.token, name), name);
  });

  it.each(everyWay)("asks for the health without a token over %s", async (way) => {
    const path = "grpc.health.v1.Health/Check";
    const reply = await curl(path, { flags: ways[way](), headers: json, body: "{}" });
    expect(reply.version).toBe(way === "HTTP/2" ? "2" : "1.1");
    expect(reply).toMatchObject({ status: 200, contentType: "application/json" });
    expect(JSON.parse(reply.body.toString())).toEqual({ status: "SERVING" });
  });

  it.each(everyWay)("reads with plain GET over %s", async (way) => {
    const flags = ways[way]();
    const key = { scope: "polyglot", externalId: `get/é 🐢 & ${way}`, provider: "echo" };
    const turnId = `get-${everyWay.indexOf(way)}`;
    const { failure } = await caller(flags)(
      "Dispatch",
      { key, turnId, input: [{ text: "hi" }] },
      { token: broker.token },
    );
    expect(failure).toBeUndefined();
    const requests = {
      ResolveSelection: { key },
      GetSession: { key },
      ListSessions: { scope: "polyglot" },
      GetTurn: { turnId },
    };
    for (const [method, request] of Object.entries(requests)) {
      const message = JSON.stringify(request);
      const posted = await curl(`${service}/${method}`, { flags, headers: signed(json), body: message });
      const base64 = { base64: "1", message: Buffer.from(message).toString("base64url") };
      for (const query of [{ message }, base64]) {
        const search = new URLSearchParams({ ...query, encoding: "json", connect: "v1" });
        const got = await curl(`${service}/${method}?${search}`, { flags, headers: signed() });
        expect(got).toMatchObject({ status: 200, contentType: "application/json" });
        expect(JSON.parse(got.body.toString())).toEqual(JSON.parse(posted.body.toString()));
        expect(got.body.toString()).toContain(JSON.stringify(key.externalId).slice(1, -1));
      }
    }
  });

  it("may use GET for exactly the methods without side effects", async () => {
    const search = new URLSearchParams({ message: "{}", encoding: "json", connect: "v1" });
    for (const { name, methodKind, idempotency } of SessionBroker.methods) {
      const { status } = await curl(`${service}/${name}?${search}`, { headers: signed() });
      const readable =
        methodKind === "unary" && idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
      expect(`${name}: ${status === 405}`).toBe(`${name}: ${!readable}`);
    }
  });

  it("is told what is wrong with a body", async () => {
    const key = { scope: "polyglot", externalId: "1", provider: "echo" };
    const refused = async (method: string, body: string | Buffer) => {
      const reply = await curl(`${service}/${method}`, { headers: signed(json), body });
      expect(reply).toMatchObject({ status: 400, contentType: "application/json" });
      return JSON.parse(reply.body.toString()) as Failure;
    };
    for (const body of ["{", "", "[]", '"key"', JSON.stringify({ key }).slice(0, -1)]) {
      expect(await refused("Reserve", body)).toMatchObject({ code: "invalid_argument" });
    }
    const unknown = await refused("Reserve", JSON.stringify({ key, sesionId: "1" }));
    expect(unknown).toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining('"sesionId"'),
    });
    const nested = await refused("Reserve", JSON.stringify({ key: { ...key, extId: "1" } }));
    expect(nested).toMatchObject({ code: "invalid_argument", message: expect.stringContaining('"extId"') });
    const wrongType = await refused("Reserve", JSON.stringify({ key: { ...key, provider: 1 } }));
    expect(wrongType).toMatchObject({ message: expect.stringContaining("SessionKey.provider") });
    const wrongEnum = await refused("Reserve", JSON.stringify({ key, visibility: "VISIBILITY_PINK" }));
    expect(wrongEnum).toMatchObject({ message: expect.stringContaining("VISIBILITY_PINK") });
    expect(await refused("Reserve", JSON.stringify({ key: { ...key, externalId: "\ud800" } }))).toMatchObject(
      {
        message: expect.stringContaining("SessionKey.external_id"),
      },
    );
    // Bytes that are no UTF-8 become U+FFFD, which the rule for ids keeps out.
    const [before = "", after = ""] = JSON.stringify({ key: { ...key, externalId: "|" } }).split("|");
    const lossy = await refused(
      "Reserve",
      Buffer.concat([Buffer.from(before), Buffer.of(0xff), Buffer.from(after)]),
    );
    expect(fieldsOf(lossy)).toEqual(["key.external_id"]);
  });

  it("is told that a content type is not supported", async () => {
    const path = `${service}/GetServerInfo`;
    for (const type of ["text/plain", "application/xml", "application/x-www-form-urlencoded"]) {
      const reply = await curl(path, { headers: signed({ "content-type": type }), body: "{}" });
      expect(reply.status).toBe(415);
    }
    const charset = { "content-type": "application/json; charset=utf-8" };
    expect((await curl(path, { headers: signed(charset), body: "{}" })).status).toBe(200);
  });

  it("is told what does not exist", async () => {
    const ask = (path: string) => curl(path, { headers: signed(json), body: "{}" });
    expect((await ask(`${service}/NoSuchMethod`)).status).toBe(404);
    expect((await ask("no.such.Service/Method")).status).toBe(404);
    expect((await ask("")).status).toBe(404);
  });

  it("needs a token", async () => {
    const request = { headers: { ...json }, body: "{}" };
    for (const authorization of [undefined, "", "Bearer", "Bearer wrong", "Basic d3Jvbmc6d3Jvbmc="]) {
      const headers = authorization === undefined ? json : { ...json, authorization };
      const reply = await curl(`${service}/GetServerInfo`, { ...request, headers });
      expect(reply.status).toBe(401);
      expect(JSON.parse(reply.body.toString())).toMatchObject({ code: "unauthenticated" });
    }
  });

  it("is told that its deadline is none", async () => {
    const headers = signed({ ...json, "connect-timeout-ms": "soon" });
    const reply = await curl(`${service}/GetServerInfo`, { headers, body: "{}" });
    expect(reply.status).toBe(400);
    expect(JSON.parse(reply.body.toString())).toMatchObject({ code: "invalid_argument" });
  });

  it("gets a large answer of a GET compressed if it asks for it", async () => {
    const key = { scope: "polyglot", externalId: "large", provider: "echo" };
    const aliases = Array.from({ length: 8 }, (_, index) => `${index}`.repeat(400));
    await curl(`${service}/Reserve`, { headers: signed(json), body: JSON.stringify({ key, aliases }) });
    const query = new URLSearchParams({ connect: "v1", encoding: "json", message: JSON.stringify({ key }) });
    const url = `${service}/GetSession?${query}`;
    const plain = await curl(url, { headers: signed({}) });
    const compressed = await curl(url, { headers: signed({}), flags: ["--compressed"] });
    expect(compressed.downloaded).toBeLessThan(plain.downloaded / 2);
    expect(JSON.parse(compressed.body.toString())).toMatchObject({ session: { key } });
  });
});

interface Reply {
  readonly status: number;
  /** Of HTTP. */
  readonly version: string;
  readonly contentType: string;
  readonly downloaded: number;
  readonly body: Buffer;
}

interface Request {
  readonly flags?: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  /** Without one the request is a GET. */
  readonly body?: string | Buffer;
}

/** Headers go in by a file, so that the token is no argument. */
async function curl(path: string, { flags = [], headers, body }: Request): Promise<Reply> {
  const file = join(folder, "headers");
  const lines = Object.entries(headers).map(([name, value]) =>
    value === "" ? `${name};` : `${name}: ${value}`,
  );
  writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o600 });
  const args = ["--silent", "--show-error", "--header", `@${file}`, "--write-out", "%{stderr}%{json}"];
  const data = body === undefined ? [] : ["--data-binary", "@-"];
  const { stdout, stderr } = await execa("curl", [...args, ...data, ...flags, `${broker.url}/${path}`], {
    input: body ?? "",
    encoding: "buffer",
  });
  const said = JSON.parse(Buffer.from(stderr).toString());
  return {
    status: said.http_code,
    version: said.http_version,
    contentType: said.content_type,
    downloaded: said.size_download,
    body: Buffer.from(stdout),
  };
}

function signed(
  headers: Readonly<Record<string, string>> = {},
  token = broker.token,
): Record<string, string> {
  return { ...headers, authorization: `Bearer ${token}` };
}

function caller(flags: readonly string[]): Call {
  return async (method, request, { token, timeoutMs }) => {
    const timeout = timeoutMs === undefined ? {} : { "connect-timeout-ms": String(timeoutMs) };
    const body = JSON.stringify(request);
    const path = `${service}/${method}`;
    if (method === "Dispatch") {
      const headers = signed({ "content-type": "application/connect+json", ...timeout }, token);
      return readStream((await curl(path, { flags, headers, body: envelope(body) })).body);
    }
    const reply = await curl(path, { flags, headers: signed({ ...json, ...timeout }, token), body });
    const message = JSON.parse(reply.body.toString());
    return reply.status === 200 ? { messages: [message] } : { messages: [], failure: failureOf(message) };
  };
}

/** A message of a stream: one byte of flags, four bytes of length, the message. */
function envelope(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

const endOfStream = 2;

/** The last envelope is flagged, and holds the error if there was one. */
function readStream(bytes: Buffer): Answer {
  const messages: unknown[] = [];
  for (let offset = 0; offset + 5 <= bytes.length; ) {
    const start = offset + 5;
    const next = start + bytes.readUInt32BE(offset + 1);
    const message = JSON.parse(bytes.toString("utf8", start, next));
    if (bytes.readUInt8(offset) === endOfStream) {
      expect(next).toBe(bytes.length);
      return message.error === undefined ? { messages } : { messages, failure: failureOf(message.error) };
    }
    messages.push(message);
    offset = next;
  }
  throw new Error("the stream has no end");
}

function failureOf(error: Partial<Failure>): Failure {
  return { code: "", message: "", details: [], ...error };
}
