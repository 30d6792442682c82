import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ViolationsSchema } from "../../gen/buf/validate/validate_pb.js";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";

let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  broker = await TestBroker.start();
  client = broker.client();
});

afterAll(() => broker.close());

const good = { scope: "acme", externalId: "chat", provider: "echo" };
const input = [{ part: { case: "text" as const, value: "hello" } }];

async function failure(call: Promise<unknown> | AsyncIterable<unknown>): Promise<ConnectError> {
  try {
    if (Symbol.asyncIterator in call) for await (const _ of call);
    else await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call succeeded");
}

describe("a field that breaks its rule", () => {
  it.each([
    ["key", {}],
    ["key.scope", { key: { ...good, scope: "" } }],
    ["key.scope", { key: { ...good, scope: "Acme" } }],
    ["key.scope", { key: { ...good, scope: "a//b" } }],
    ["key.scope", { key: { ...good, scope: "../b" } }],
    ["key.scope", { key: { ...good, scope: "a".repeat(129) } }],
    ["key.external_id", { key: { ...good, externalId: "" } }],
    ["key.external_id", { key: { ...good, externalId: "a\nb" } }],
    ["key.external_id", { key: { ...good, externalId: "a\u0000b" } }],
    ["key.external_id", { key: { ...good, externalId: "a\u009fb" } }],
    ["key.external_id", { key: { ...good, externalId: "lost \ufffd byte" } }],
    ["key.external_id", { key: { ...good, externalId: "é".repeat(513) } }],
    ["key.provider", { key: { ...good, provider: "" } }],
    ["key.provider", { key: { ...good, provider: "a b" } }],
    ["key.provider", { key: { ...good, provider: "nobody" } }],
    ["session_id", { key: good, sessionId: "a\tb" }],
    ["session_id", { key: good, sessionId: "a".repeat(129) }],
    ["aliases[0]", { key: good, aliases: [""] }],
    ["aliases[0]", { key: good, aliases: ["a".repeat(513)] }],
    ["aliases", { key: good, aliases: Array.from({ length: 33 }, (_, i) => `${i}`) }],
    ["visibility", { key: good, visibility: 99 }],
    ["reset_policy.idle", { key: good, resetPolicy: { idle: { seconds: 0n } } }],
    ["reset_policy.daily.hour", { key: good, resetPolicy: { daily: { hour: 24 } } }],
    [
      "reset_policy.daily.time_zone",
      { key: good, resetPolicy: { daily: { hour: 4, timeZone: "Mars/Olympus" } } },
    ],
    ["workspace", { key: good, workspace: "/etc" }],
    ["workspace", { key: good, workspace: "unknown" }],
    ["labels", { key: good, labels: { a: "b".repeat(257) } }],
    ["idempotency_key", { key: good, idempotencyKey: "a".repeat(129) }],
    ["expected_generation", { key: good, expectedGeneration: 0 }],
  ])("of Reserve is INVALID_ARGUMENT and names %s", async (field, request) => {
    const error = await failure(client.reserve(request));
    expect([Code[error.code], error.rawMessage]).toEqual([
      Code[Code.InvalidArgument],
      expect.stringContaining(field),
    ]);
  });

  it.each(["acm*", "acme/", "*/acme", "Acme", "acme/**", "../acme"])(
    "of a listing is INVALID_ARGUMENT and names scope: %s",
    async (scope) => {
      for (const call of [client.listSessions({ scope }), client.listTurns({ scope })]) {
        const error = await failure(call);
        expect([Code[error.code], error.rawMessage]).toEqual([
          Code[Code.InvalidArgument],
          expect.stringContaining("scope"),
        ]);
      }
    },
  );

  it("says so to programs: violations, and a reason", async () => {
    const error = await failure(client.reserve({ key: { ...good, scope: "Acme" } }));
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "INVALID_FIELD" }]);
    expect(error.findDetails(ViolationsSchema)).toMatchObject([
      { violations: [{ ruleId: "string.pattern" }] },
    ]);
  });

  it.each([
    ["target", { input }],
    ["input", { target: { case: "key" as const, value: good } }],
    ["input[0].part", { target: { case: "key" as const, value: good }, input: [{}] }],
    ["turn_id", { target: { case: "key" as const, value: good }, input, turnId: "a b" }],
    ["model", { target: { case: "key" as const, value: good }, input, model: "--resume" }],
    ["timeout", { target: { case: "key" as const, value: good }, input, timeout: { seconds: 0n } }],
    [
      "queue_timeout",
      { target: { case: "key" as const, value: good }, input, queueTimeout: { seconds: -1n } },
    ],
    ["on_conflict", { target: { case: "key" as const, value: good }, input, onConflict: 77 }],
  ])("of Dispatch is INVALID_ARGUMENT and names %s", async (field, request) => {
    const error = await failure(client.dispatch(request));
    expect([Code[error.code], error.rawMessage]).toEqual([
      Code[Code.InvalidArgument],
      expect.stringContaining(field),
    ]);
  });

  it("a prompt of 5 MB is refused by name", async () => {
    const text = "x".repeat(5_000_000);
    const request = {
      target: { case: "key" as const, value: good },
      input: [{ part: { case: "text" as const, value: text } }],
    };
    const error = await failure(client.dispatch(request));
    expect([Code[error.code], error.rawMessage]).toEqual([
      Code[Code.InvalidArgument],
      expect.stringContaining("input[0].text"),
    ]);
  });

  it("a message over 32 MiB is RESOURCE_EXHAUSTED", async () => {
    const data = new Uint8Array(33 * 1024 * 1024);
    const image = { part: { case: "image" as const, value: { mediaType: "image/png", data } } };
    const error = await failure(
      broker.client("connect").dispatch({ target: { case: "key", value: good }, input: [image] }),
    );
    expect(Code[error.code]).toBe(Code[Code.ResourceExhausted]);
  });

  it.each([
    [{ scope: "acme" }, "older_than"],
    [{ maxSessions: 0 }, "max_sessions"],
    [{ olderThan: { seconds: 0n } }, "older_than"],
  ])("Prune %o names %s", async (request, field) => {
    const error = await failure(client.prune(request));
    expect([Code[error.code], error.rawMessage]).toEqual([
      Code[Code.InvalidArgument],
      expect.stringContaining(field),
    ]);
  });
});

describe("an unusual id", () => {
  it.each([
    "--resume",
    "-rf /",
    "../../etc/passwd",
    "$(id)",
    "'\"; DROP",
    "e\u0301",
    "\u200e",
    "  spaces  ",
    "a".repeat(1024),
  ])("%j is only an id", async (externalId) => {
    const { session } = await client.reserve({ key: { ...good, externalId } });
    expect(session?.key?.externalId).toBe(externalId);
    const events = client.dispatch({ target: { case: "key", value: { ...good, externalId } }, input });
    const cases: unknown[] = [];
    for await (const { event } of events) cases.push(event?.event.case);
    expect(cases.at(-1)).toBe("completed");
  });
});

describe("who asks", () => {
  it("nobody: UNAUTHENTICATED", async () => {
    for (const token of ["", "wrong"]) {
      const error = await failure(broker.client("connect-h2", token).reserve({ key: good }));
      expect(Code[error.code]).toBe(Code[Code.Unauthenticated]);
    }
  });

  it("a credential with a lower role: PERMISSION_DENIED with a reason", async () => {
    const error = await failure(broker.client("connect-h2", broker.token).prune({ maxSessions: 5 }));
    expect(Code[error.code]).toBe(Code[Code.PermissionDenied]);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: "ROLE_TOO_LOW", domain: "sessionbroker.v1" },
    ]);
  });
});

describe("bytes that are no request", () => {
  const url = () => `${broker.url}/sessionbroker.v1.SessionBroker/Reserve`;
  const authorization = () => ({ authorization: `Bearer ${broker.token}` });
  const post = (body: string | Uint8Array, type = "application/json") =>
    fetch(url(), { method: "POST", headers: { "content-type": type, ...authorization() }, body });

  it.each([
    ["no JSON", "{", /json/i],
    ["an unknown field", '{"key":{"scope":"a","externalId":"b","provider":"echo","colour":1}}', /colour/],
    ["a wrong type", '{"key":{"scope":7}}', /scope/],
    ["a lone surrogate", '{"key":{"scope":"a","externalId":"\\ud800","provider":"echo"}}', /external_id/],
  ])("%s is invalid_argument", async (_, body, message) => {
    const response = await post(body);
    const answer = (await response.json()) as { code: string; message: string };
    expect([response.status, answer.code]).toEqual([400, "invalid_argument"]);
    expect(answer.message).toMatch(message);
  });

  it("malformed UTF-8 in an id is invalid_argument and names it, as JSON and as protobuf", async () => {
    const json = Buffer.concat([
      Buffer.from('{"key":{"scope":"a","externalId":"x'),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('","provider":"echo"}}'),
    ]);
    const key = Buffer.concat([
      Buffer.from([0x0a, 1]),
      Buffer.from("a"),
      Buffer.from([0x12, 2, 0xff, 0xfe]),
      Buffer.from([0x1a, 4]),
      Buffer.from("echo"),
    ]);
    const proto = Buffer.concat([Buffer.from([0x0a, key.length]), key]);
    for (const [body, type] of [
      [json, "application/json"],
      [proto, "application/proto"],
    ] as const) {
      const response = await post(body, type);
      const answer = (await response.json()) as { code: string; message: string };
      expect([response.status, answer.code]).toEqual([400, "invalid_argument"]);
      expect(answer.message).toContain("external_id");
    }
  });

  it("a wrong content type is 415, a wrong method 405, an unknown path 404", async () => {
    expect((await post("{}", "text/plain")).status).toBe(415);
    expect((await fetch(url(), { headers: authorization() })).status).toBe(405);
    expect(
      (await fetch(`${broker.url}/sessionbroker.v1.SessionBroker/Nothing`, { method: "POST" })).status,
    ).toBe(404);
  });

  it("a page of a browser is refused", async () => {
    const response = await fetch(url(), {
      method: "POST",
      headers: { "content-type": "application/json", origin: "https://evil.example", ...authorization() },
      body: "{}",
    });
    expect(response.status).toBe(403);
  });

  it("and after all that the broker still answers", async () => {
    const { session } = await client.reserve({ key: { ...good, externalId: "still alive" } });
    expect(session?.sessionId).toMatch(/^[0-9a-f-]{36}$/);
  });
});
