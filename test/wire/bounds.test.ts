/** Each bound of docs/operations.md: what is at it is taken, what is one past it is refused and told why. */
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { Code } from "@connectrpc/connect";
import { afterEach, describe, expect, it } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { ImportSessionsResponse_Result } from "../../gen/sessionbroker/v1/admin_pb.js";
import { HistoryMessage_Author, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { systemClock } from "../../src/clock.js";
import { TurnLog } from "../../src/turns/turn-log.js";
import { failureOf, reasonOf } from "../support/answers.js";
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
import { attachTurn, dispatchTurn } from "../support/turns.js";

const brokers: TestBroker[] = [];
afterEach(async () => {
  for (const broker of brokers.splice(0)) await broker.close();
});

const slow =
  "providers: [{ id: echo, maxRunning: 10, echo: {} }, { id: slow, maxRunning: 10, echo: { delay: 60s } }]\n";

async function withLimits(limits: string, config = slow): Promise<TestBroker> {
  const broker = await TestBroker.start({ config: `${config}limits: { ${limits} }\n` });
  brokers.push(broker);
  return broker;
}

const key = (externalId: string, provider = "echo", scope = "acme") => ({ scope, externalId, provider });
const target = (externalId: string, provider = "echo") => ({
  case: "key" as const,
  value: key(externalId, provider),
});
const say = (text: string) => [{ part: { case: "text" as const, value: text } }];

/** The ending of a turn of a provider, and why. */
async function endingOf(broker: TestBroker, provider: string): Promise<string> {
  const events = await dispatchTurn(broker.client(), "go", { target: target(provider, provider) }).ended;
  const last = events.at(-1)?.event;
  return last?.case === "failed"
    ? `failed ${TurnErrorCode[last.value.error?.code ?? 0]} ${last.value.error?.message}`
    : String(last?.case);
}

describe("what a request holds", () => {
  it.each(["", "x"])("a message of messageBytes is taken, one more is not: %j", async (more) => {
    const most = 5_000;
    const broker = await withLimits(`messageBytes: ${most}`);
    const text = JSON.stringify({ key: key("chat") }).padEnd(most) + (more && " ");
    const response = await fetch(`${broker.url}/sessionbroker.v1.SessionBroker/Reserve`, {
      method: "POST",
      headers: { authorization: `Bearer ${broker.token}`, "content-type": "application/json" },
      body: text,
    });
    const answer = (await response.json()) as { code?: string; message?: string };
    if (more === "") expect(answer).toMatchObject({ outcome: "OUTCOME_CREATED" });
    else {
      expect(answer.code).toBe("resource_exhausted");
      expect(answer.message).toContain(String(most));
    }
  });

  it("bounds the prompt and the history of a turn", async () => {
    const client = (await withLimits("promptBytes: 100, historyBytes: 300")).client();
    const told = (bytes: number) => [{ author: HistoryMessage_Author.USER, parts: say("h".repeat(bytes)) }];
    const ask = (input: number, history = 0) =>
      client.dispatch({
        target: target(`${input} ${history}`),
        input: say("x".repeat(input)),
        history: history === 0 ? [] : told(history),
      });
    expect(await reasonOf(ask(100))).toBe("none");
    expect(await reasonOf(ask(100, 200))).toBe("none");
    for (const [call, field, limit] of [
      [ask(101), "input", "limits.prompt_bytes allows 100"],
      [ask(100, 201), "history", "limits.history_bytes allows 300"],
    ] as const) {
      const failure = await failureOf(call);
      expect(failure?.code).toBe(Code.InvalidArgument);
      expect(failure?.rawMessage).toMatch(new RegExp(`^${field}:.*${limit}$`));
    }
  });
});

describe("the header of a request", () => {
  const path = "/grpc.health.v1.Health/Check";
  const fixed: [string, string][] = [
    ["content-type", "application/json"],
    ["content-length", "2"],
  ];

  /** So many fields, which have so many bytes together with the path. */
  function header(first: readonly [string, string][], fields: number, bytes: number): [string, string][] {
    const all = [...first, ...fixed];
    while (all.length < fields) all.push([`x-${all.length}`, ""]);
    const have = all.reduce((sum, [name, value]) => sum + name.length + value.length, path.length);
    const last = all.at(-1);
    if (last !== undefined) last[1] = "v".repeat(bytes - have);
    return all;
  }

  function overHttp1(port: number, fields: number, bytes: number): Promise<string> {
    const own: [string, string][] = [
      ["host", "localhost"],
      ["connection", "close"],
    ];
    const lines = header(own, fields, bytes).map(([name, value]) => `${name}: ${value}\r\n`);
    return new Promise((resolve, reject) => {
      let answer = "";
      const socket = connect(port, "127.0.0.1").setEncoding("latin1");
      socket.on("data", (chunk) => {
        answer += chunk;
      });
      socket.once("error", reject).once("close", () => resolve(answer));
      socket.write(`POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n{}`);
    });
  }

  async function overHttp2(port: number, fields: number, bytes: number): Promise<string> {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const named = Object.fromEntries(header([], fields, bytes).map(([name, value]) => [name, value]));
    const stream = session.request({ ":method": "POST", ":path": path, ":authority": "localhost", ...named });
    let status = "";
    stream.once("response", (headers) => {
      status = String(headers[":status"]);
    });
    stream.end("{}").setEncoding("utf8");
    let body = "";
    for await (const chunk of stream) body += chunk;
    session.close();
    return `HTTP/2 ${status} ${body}`;
  }

  it.each([
    ["HTTP/1.1", overHttp1],
    ["HTTP/2", overHttp2],
  ])("is bounded in fields and bytes over %s", async (_, send) => {
    const { port } = await withLimits("headerFields: 20, headerBytes: 3000");
    expect(await send(port, 20, 3000)).toMatch(/^HTTP\S* 200 /);
    expect(await send(port, 21, 2000)).toMatch(/^HTTP\S* 431 [\s\S]*limits\.header_fields/);
    expect(await send(port, 20, 3001)).toMatch(/^HTTP\S* 431 /);
    // It serves on.
    expect(await send(port, 5, 500)).toMatch(/^HTTP\S* 200 /);
  });
});

describe("connections and streams", () => {
  /** A connection that is kept after the answer. */
  function keptConnection(port: number) {
    const socket = connect(port, "127.0.0.1").setEncoding("latin1");
    const ended = new Promise<string>((resolve) => {
      socket.once("data", (chunk) => resolve(String(chunk).split("\r\n")[0] ?? ""));
      socket.once("error", () => resolve("closed")).once("close", () => resolve("closed"));
    });
    socket.write(
      "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: localhost\r\n" +
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    );
    return { socket, ended };
  }

  it("serves limits.connections, closes one more, and serves again when one has left", async () => {
    const { port } = await withLimits("connections: 3");
    const open = [1, 2, 3].map(() => keptConnection(port));
    for (const { ended } of open) expect(await ended).toBe("HTTP/1.1 200 OK");
    expect(await keptConnection(port).ended).toBe("closed");
    open[0]?.socket.destroy();
    await expect.poll(() => keptConnection(port).ended).toBe("HTTP/1.1 200 OK");
    for (const { socket } of open) socket.destroy();
  });

  it("runs limits.streamsPerConnection streams and refuses one more", async () => {
    const broker = await withLimits("streamsPerConnection: 3");
    const raw = await RawHttp2.open(broker.port);
    const watch = `/${Health.typeName}/Watch`;
    const block = headerBlock(requestFields(watch, "application/connect+json"));
    const body = Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from("{}")]);
    for (const stream of [1, 3, 5, 7]) {
      await raw.send(
        frame(frameType.headers, flag.endHeaders, stream, block),
        frame(frameType.data, flag.endStream, stream, body),
      );
    }
    await expect.poll(() => raw.of(frameType.rstStream, 7).length).toBe(1);
    expect(raw.of(frameType.rstStream, 7)[0]?.payload.readUInt32BE()).toBe(errorCode.refusedStream);
    for (const stream of [1, 3, 5]) {
      await expect.poll(() => raw.of(frameType.data, stream).length).toBeGreaterThan(0);
      expect(raw.of(frameType.rstStream, stream)).toEqual([]);
    }
    raw.socket.destroy();
  });
});

describe("turns", () => {
  it("runs limits.runningTurns and lets one more wait", async () => {
    const broker = await withLimits("runningTurns: 2");
    const client = broker.client();
    const turns = ["a", "b"].map((chat) => dispatchTurn(client, "x", { target: target(chat, "slow") }));
    for (const turn of turns) await turn.event("started");
    const third = dispatchTurn(client, "x", { target: target("c") });
    await third.event("accepted");
    const info = await broker.client("connect", broker.adminToken).getServerInfo({});
    expect([info.runningTurns, info.queuedTurns, info.limits?.runningTurns]).toEqual([2, 1, 2]);
    await client.cancelTurn({ turnId: turns[0]?.turnId ?? "" });
    await third.event("completed");
  });

  it.each([
    ["waitingTurns: 2, waitingTurnsPerGrant: 9", "waiting_turns", ["a", "b", "b"]],
    ["waitingTurnsPerSession: 2", "waiting_turns_per_session", ["a", "a", "a"]],
    ["waitingTurns: 9, waitingTurnsPerGrant: 2", "waiting_turns_per_grant", ["a", "b", "b"]],
  ])("lets turns wait to %s, and refuses one more by naming it", async (limits, name, chats) => {
    const broker = await withLimits(`runningTurns: 1, ${limits}`);
    const client = broker.client();
    const [first = ""] = chats;
    await dispatchTurn(client, "x", { target: target(first, "slow") }).event("started");
    for (const chat of chats.slice(0, 2)) {
      await dispatchTurn(client, "x", { target: target(chat, "slow") }).event("accepted");
    }
    const failure = await failureOf(
      client.dispatch({ target: target(chats[2] ?? "", "slow"), input: say("x") }),
    );
    expect(failure?.code).toBe(Code.ResourceExhausted);
    expect(failure?.rawMessage).toMatch(new RegExp(`limits\\.${name} allows no more$`));
  });

  it("has limits.readersPerTurn readers, refuses one more, and takes it when one has left", async () => {
    const client = (await withLimits("readersPerTurn: 3")).client();
    const turn = dispatchTurn(client, "x", { target: target("read", "slow") });
    await turn.event("started");
    const leaving = new AbortController();
    const readers = [
      attachTurn(client, turn.turnId),
      client.attach({ turnId: turn.turnId }, { signal: leaving.signal })[Symbol.asyncIterator](),
    ] as const;
    await readers[0].event("accepted");
    await readers[1].next();
    const one = () => reasonOf(client.attach({ turnId: turn.turnId }, { timeoutMs: 2_000 }));
    expect(await one()).toBe("ResourceExhausted TOO_MANY_READERS");
    leaving.abort();
    await expect.poll(one).toMatch(/DeadlineExceeded|Canceled/);
  });

  it("holds limits.readerBufferBytes of what is on disk for readers", async () => {
    const held = async (mostBytes: number) => {
      let bytes = 0;
      const log = new TurnLog(
        "turn",
        systemClock,
        async (entries) => {
          bytes = entries.reduce((sum, { event }) => sum + event.length, 0);
          return true;
        },
        () => {},
        1,
        256,
        mostBytes,
      );
      log.reserved(100);
      for (let i = 0; i < 8; i++) log.add({ case: "textDelta", value: { text: "some text" } });
      await log.flush();
      return { bytes, events: log.after(1)?.length };
    };
    const { bytes } = await held(1_000_000);
    expect(await held(bytes)).toEqual({ bytes, events: 8 });
    // Its first event is read from the journal.
    expect(await held(bytes - 1)).toEqual({ bytes, events: undefined });
  });
});

describe("sessions of a scope", () => {
  it("keeps limits.sessionsPerScope, over providers, restarts, resets, imports and prunes", async () => {
    const broker = await withLimits("sessionsPerScope: 3");
    const clients = () => [broker.client(), broker.client("connect", broker.adminToken)] as const;
    let [client, admin] = clients();
    const reserve = (chat: string, provider = "echo", scope = "acme") =>
      reasonOf(client.reserve({ key: key(chat, provider, scope) }));
    const full = "ResourceExhausted SCOPE_FULL";

    expect([await reserve("a"), await reserve("b", "slow"), await reserve("c")]).toEqual([
      "none",
      "none",
      "none",
    ]);
    expect(await reserve("d")).toBe(full);
    expect((await failureOf(client.reserve({ key: key("d") })))?.rawMessage).toContain(
      "limits.sessions_per_scope",
    );
    expect(await reasonOf(client.dispatch({ target: target("d"), input: say("x") }))).toBe(full);
    // What is there goes on, and other scopes do.
    expect([await reserve("a"), await reserve("d", "echo", "other")]).toEqual(["none", "none"]);
    // A new session of a key that is there keeps the old one, too.
    const selector = { case: "key" as const, value: key("a") };
    expect(await reasonOf(admin.resetSession({ selector, expectedGeneration: 1 }))).toBe(full);

    await broker.kill();
    await broker.start();
    [client, admin] = clients();
    expect(await reserve("d")).toBe(full);
    const imported = async (chat: string) => {
      async function* rows() {
        yield { session: { key: key(chat), sessionId: `imported-${chat}` } };
      }
      return await admin.importSessions(rows());
    };
    const refused = await imported("d");
    expect(refused.conflicting).toBe(1);
    expect(refused.rows[0]).toMatchObject({ result: ImportSessionsResponse_Result.CONFLICTING });
    expect(refused.rows[0]?.message).toContain("limits.sessions_per_scope");

    await admin.deleteSession({ selector: { case: "key", value: key("c") } });
    expect((await imported("d")).created).toBe(1);
    expect([await reserve("d"), await reserve("e")]).toEqual(["none", full]);

    // Archived ones count until they are purged.
    await admin.prune({ scope: "acme", maxSessions: 2 });
    expect(await reserve("e")).toBe(full);
    await admin.prune({ scope: "acme", olderThan: { nanos: 1 }, purge: true });
    expect([await reserve("e"), await reserve("f")]).toEqual(["none", full]);
  });
});

describe("what an agent prints", () => {
  /** A program that prints the value of an expression, line by line or as one text. */
  const printer = (id: string, limit: string, text: string, jsonLines = ", jsonLines: { text: t }") =>
    `  - { id: ${id}, ${limit}, command: { first: [${[process.execPath, "-e", `process.stdout.write(${text})`]
      .map((word) => JSON.stringify(word))
      .join(", ")}]${jsonLines} } }`;
  /** As a line of JSON with so many bytes. */
  const line = (bytes: number) => `JSON.stringify({ t: "x".repeat(${bytes - '{"t":""}'.length}) }) + "\\n"`;

  it("is bounded in bytes, lines and the length of a line", async () => {
    const broker = await withLimits(
      "runningTurns: 8",
      [
        "providers:",
        printer("text-at", "outputBytes: 3000", `"x".repeat(3000)`, ""),
        printer("text-past", "outputBytes: 3000", `"x".repeat(3001)`, ""),
        printer("bytes-at", "outputBytes: 3000", line(2999)),
        printer("bytes-past", "outputBytes: 3000", line(3000)),
        printer("lines-at", "outputLines: 50", `(${line(20)}).repeat(50)`),
        printer("lines-past", "outputLines: 50", `(${line(20)}).repeat(51)`),
        printer("line-at", "outputLineBytes: 200", line(200)),
        printer("line-past", "outputLineBytes: 200", line(201)),
        "",
      ].join("\n"),
    );
    for (const [what, beyond] of [
      ["text", "3000 bytes"],
      ["bytes", "3000 bytes"],
      ["lines", "50 lines"],
      ["line", "200 bytes"],
    ]) {
      expect(await endingOf(broker, `${what}-at`)).toBe("completed");
      expect(await endingOf(broker, `${what}-past`)).toMatch(new RegExp(`^failed OUTPUT_LIMIT .*${beyond}`));
    }
  });
});

it("tells clients the limits that concern them", async () => {
  const broker = await withLimits(
    "messageBytes: 5000, promptBytes: 100, historyBytes: 300, streamsPerConnection: 7, headerBytes: 3000, " +
      "headerFields: 20, readersPerTurn: 3, sessionsPerScope: 9, waitingTurns: 8, waitingTurnsPerSession: 2",
  );
  const { limits } = await broker.client("connect", broker.adminToken).getServerInfo({});
  expect(limits).toMatchObject({
    messageBytes: 5000n,
    promptBytes: 100n,
    historyBytes: 300n,
    streamsPerConnection: 7,
    headerBytes: 3000,
    headerFields: 20,
    readersPerTurn: 3,
    sessionsPerScope: 9,
    waitingTurns: 8,
    waitingTurnsPerSession: 2,
    waitingTurnsPerGrant: 4,
  });
});
