/** `session-broker export` and `import` against real brokers. */
import { createHash, randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromJsonString } from "@bufbuild/protobuf";
import { execa } from "execa";
import initSqlJs from "sql.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ImportSessionsResponse_Result as ImportResult,
  type ImportSessionsResponse,
  ImportSessionsResponseSchema,
} from "../../gen/sessionbroker/v1/admin_pb.js";
import {
  AliasKind,
  NativeState,
  type Session,
  SessionSchema,
  SessionState,
} from "../../gen/sessionbroker/v1/session_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const stackTrace = /^ +at /m;

const config = `
credentials:
  - name: acme
    tokenSha256: ${createHash("sha256").update("acme-secret").digest("hex")}
    role: ROLE_ADMIN
    scopes: [acme, acme/*]
scopes:
  - pattern: rooms
    workspaces: { handbook: /tmp/handbook }
`;

let folder: string;
let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "transfer-"));
  broker = await TestBroker.start({ config });
  client = broker.client();
});

afterAll(async () => {
  await broker.close();
  rmSync(folder, { recursive: true, force: true });
});

async function run(to: TestBroker, args: readonly string[], environment: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = await execa(
    process.execPath,
    [main, ...args, "--data", to.data, "--socket", to.socket],
    {
      env: { PATH: folder, HOME: folder, ...environment },
      extendEnv: false,
      reject: false,
      cwd: folder,
    },
  );
  expect(stderr).not.toMatch(stackTrace);
  return { exitCode, stdout, stderr };
}

function write(content: unknown): string {
  const file = join(folder, randomUUID());
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

const lines = (rows: readonly unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

async function importInto(
  to: TestBroker,
  file: string,
  ...args: readonly string[]
): Promise<ImportSessionsResponse & { readonly exitCode: number | undefined }> {
  const { exitCode, stdout, stderr } = await run(to, ["import", file, "--json", ...args]);
  expect(stderr).toBe("");
  return { exitCode, ...fromJsonString(ImportSessionsResponseSchema, stdout) };
}

async function exported(from: TestBroker, ...args: readonly string[]): Promise<Session[]> {
  const { exitCode, stdout, stderr } = await run(from, ["export", ...args]);
  expect([exitCode, stderr]).toEqual([0, ""]);
  if (stdout === "") return [];
  return stdout.split("\n").map((line) => fromJsonString(SessionSchema, line));
}

async function say(text: string, scope: string, externalId: string): Promise<void> {
  const key = { scope, externalId, provider: "echo" };
  const input = [{ part: { case: "text" as const, value: text } }];
  for await (const _ of client.dispatch({
    target: { case: "key", value: key },
    input,
    responseId: `resp_${text}`,
  }));
}

describe("what was exported", () => {
  const handbook = "чат 😀 \u202e";
  let file: string;
  let original: Session[];
  let target: TestBroker;

  beforeAll(async () => {
    const key = (externalId: string, scope = "rooms") => ({ scope, externalId, provider: "echo" });
    await client.reserve({ key: key("plain") });
    await client.reserve({
      key: key(handbook),
      aliases: ["one", "two"],
      labels: { team: "support", empty: "" },
      workspace: "handbook",
      resetPolicy: { idle: { seconds: 90n }, daily: { hour: 4, timeZone: "Europe/Berlin" } },
    });
    await client.reserve({ key: key("explicit"), sessionId: "any text: 1" });
    await client.pinSession({
      selector: { case: "key", value: key("plain") },
      pinned: true,
      expectedGeneration: 1,
    });
    await say("hello", "rooms", "spoken");
    await client.reserve({ key: key("reset") });
    await client.resetSession({ selector: { case: "key", value: key("reset") }, expectedGeneration: 1 });
    await client.reserve({ key: key("AGENT:Main:ACP:run-1", "rooms/openclaw") });
    await client.reserve({ key: key("elsewhere", "other") });
    file = join(folder, "export.jsonl");
    const { exitCode, stdout, stderr } = await run(broker, ["export", "--scope", "rooms", "--output", file]);
    expect([exitCode, stdout, stderr]).toEqual([0, "", ""]);
    original = readFileSync(file, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => fromJsonString(SessionSchema, line));
    target = await TestBroker.start({ config });
  });

  afterAll(() => target.close());

  it("is in the file, for its owner alone, and the same on standard output", async () => {
    expect(original.map(({ key }) => key?.externalId).sort()).toEqual(
      ["explicit", "plain", "reset", "spoken", handbook].sort(),
    );
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder).filter((name) => name.includes("partial"))).toEqual([]);
    expect(await exported(broker, "--scope", "rooms")).toEqual(original);
    expect(await exported(broker, "--scope", "rooms", "--provider", "claude")).toEqual([]);
    expect((await exported(broker, "--scope", "rooms", "--archived")).length).toBe(original.length + 1);
    expect((await exported(broker, "--scope", "rooms/*")).map(({ key }) => key?.externalId)).toEqual([
      "agent:main:acp:run-1",
    ]);
  });

  it("is the same sessions once it was imported, and nothing changes when it is imported again", async () => {
    expect(await importInto(target, file)).toMatchObject({ exitCode: 0, created: 5, rows: [] });
    const copies = await exported(target);
    expect(copies.map(kept)).toEqual(original.map(kept));
    expect(original.find(({ pinned }) => pinned)?.key?.externalId).toBe("plain");
    for (const copy of copies) {
      expect(copy).toMatchObject({ pinned: false, generation: 1, turnCount: 0, importedKey: "" });
      expect(copy.usage?.inputTokens).toBe(0n);
    }
    expect(await importInto(target, file)).toMatchObject({ exitCode: 0, created: 0, kept: 5, rows: [] });
    expect(await exported(target)).toEqual(copies);
  });

  it("can be told in words", async () => {
    const { exitCode, stdout } = await run(target, ["import", file]);
    expect([exitCode, stdout]).toEqual([0, "created 0, kept 5, conflicting 0, rejected 0"]);
  });

  it("is left out where it was archived: a replaced session must not come back", async () => {
    const archive = join(folder, "archive.jsonl");
    await run(broker, ["export", "--scope", "rooms", "--archived", "--output", archive]);
    const report = await importInto(target, archive);
    expect(report).toMatchObject({ exitCode: 1, kept: 5, rejected: 1 });
    expect(report.rows[0]?.message).toContain("archived");
    const [archived] = (await exported(broker, "--archived")).filter(
      ({ state }) => state === SessionState.ARCHIVED,
    );
    expect(report.rows[0]?.key?.externalId).toBe(archived?.key?.externalId);
  });

  it("can be put elsewhere", async () => {
    const report = await importInto(target, file, "--scope", "moved");
    expect(report).toMatchObject({ exitCode: 1, created: 4, rejected: 1 });
    expect(report.rows.map(({ key, message }) => [key?.externalId, message])).toEqual([
      [handbook, "workspace: handbook is not configured for the scope moved"],
      // The conversation of its agent is that of the session in the other scope.
      ["spoken", "without its native id, which cannot be bound"],
    ]);
    expect((await exported(target, "--scope", "moved")).length).toBe(4);
  });

  /** What an import takes over. */
  function kept(session: Session): Partial<Session> {
    const { key, sessionId, nativeId, labels, workspace, resetPolicy, createdAt, startedAt, lastActivityAt } =
      session;
    const aliases = session.aliases.filter(({ kind }) => kind === AliasKind.PLATFORM);
    return {
      ...{ key, sessionId, nativeId, labels, workspace, resetPolicy, createdAt, startedAt, lastActivityAt },
      aliases,
    } as Partial<Session>;
  }
});

describe("a row that cannot be taken as it is", () => {
  const row = (externalId: string, more: object = {}) => ({
    key: { scope: "rules", externalId, provider: "echo" },
    sessionId: `id of ${externalId}`,
    ...more,
  });

  it("leaves alone the session that the key has", async () => {
    const file = write(lines([row("taken"), row("taken", { sessionId: "another" }), row("free")]));
    expect(await importInto(broker, file)).toMatchObject({
      exitCode: 1,
      created: 2,
      conflicting: 1,
      rows: [
        {
          row: 2,
          key: { externalId: "taken" },
          result: ImportResult.CONFLICTING,
          message: "the key has the session id of taken",
        },
      ],
    });
    const { session } = await client.getSession({
      selector: { case: "key", value: { scope: "rules", externalId: "taken", provider: "echo" } },
    });
    expect(session?.sessionId).toBe("id of taken");
    const { exitCode, stdout } = await run(broker, ["import", file]);
    expect([exitCode, stdout]).toEqual([
      1,
      `created 0, kept 2, conflicting 1, rejected 0\nrow 2 conflicting rules "taken" echo: the key has the session id of taken`,
    ]);
  });

  it("is bound to no native id that another session has, in the same file and in the store", async () => {
    for (const scope of ["native-a", "native-b"]) {
      const key = (externalId: string) => ({ scope, externalId, provider: "echo" });
      const rows = [
        row("first", { key: key("first"), nativeId: "n-1" }),
        row("second", { key: key("second"), nativeId: "n-1" }),
      ];
      const report = await importInto(broker, write(lines(rows)));
      expect(report).toMatchObject({ exitCode: 0, created: 2 });
      const unbound = scope === "native-a" ? ["second"] : ["first", "second"];
      expect(report.rows.map((each) => each.key?.externalId)).toEqual(unbound);
      expect(report.rows[0]?.message).toContain("native id");
    }
    const owners = (await exported(broker)).filter(({ nativeId }) => nativeId === "n-1");
    expect(owners).toMatchObject([{ key: { scope: "native-a", externalId: "first" } }]);
    expect(owners[0]?.nativeState).toBe(NativeState.BOUND);
  });

  it("is refused where it breaks a rule of Reserve or Bind, and the others are taken", async () => {
    const bad = [
      row("x", { key: undefined }),
      row("x", { sessionId: "" }),
      row("x", { sessionId: "s".repeat(129) }),
      row("x", { key: { scope: "Not A Scope", externalId: "x", provider: "echo" } }),
      row("x", { key: { scope: "rules", externalId: "", provider: "echo" } }),
      row("x", { key: { scope: "rules", externalId: "a\u0000b", provider: "echo" } }),
      row("x", { key: { scope: "rules", externalId: "lone \ud800", provider: "echo" } }),
      row("x", { key: { scope: "rules", externalId: "x", provider: "unheard-of" } }),
      row("x", { key: { scope: "rules/openclaw", externalId: "agent::x", provider: "echo" } }),
      row("x", { nativeId: "with space" }),
      row("x", { labels: { "": "x" } }),
      row("x", { aliases: Array.from({ length: 33 }, (_, i) => ({ id: `alias ${i}` })) }),
      row("x", { workspace: "nowhere" }),
      row("x", { resetPolicy: { daily: { hour: 99 } } }),
      row("x", { resetPolicy: { idle: "-5s" } }),
      row("x", { resetPolicy: { daily: { hour: 4, timeZone: "Mars/Base" } } }),
      row("x", { labels: { large: "x".repeat(70_000) } }),
    ];
    const file = write(`${lines([...bad, row("good")])}{"damaged\n[]\n`);
    const report = await importInto(broker, file);
    expect(report).toMatchObject({
      exitCode: 1,
      created: 1,
      kept: 0,
      conflicting: 0,
      rejected: bad.length + 2,
    });
    expect(report.rows.map(({ row: number }) => number)).toEqual([
      ...bad.map((_, index) => index + 1),
      bad.length + 2,
      bad.length + 3,
    ]);
    for (const { message, result } of report.rows)
      expect([result, message]).toEqual([ImportResult.REJECTED, expect.stringMatching(/./)]);
    expect((await exported(broker, "--scope", "rules")).map(({ key }) => key?.externalId)).toContain("good");
  });

  it("belongs to a scope of the credential", async () => {
    const rows = ["acme", "acme/telegram", "rules", "acmes"].map((scope) =>
      row("x", { key: { scope, externalId: "scoped", provider: "echo" } }),
    );
    const token = { SESSION_BROKER_TOKEN: "acme-secret" };
    const { exitCode, stdout } = await run(broker, ["import", write(lines(rows))], token);
    expect(exitCode).toBe(1);
    expect(stdout.split("\n")).toEqual([
      "created 2, kept 0, conflicting 0, rejected 2",
      expect.stringMatching(/^row 3 rejected rules "scoped" echo: .*not one of your credential's$/),
      expect.stringMatching(/^row 4 rejected acmes "scoped" echo: .*not one of your credential's$/),
    ]);
    const mine = await run(broker, ["export"], token);
    expect(mine.stdout).not.toContain('"rules"');
    const foreign = await run(broker, ["export", "--scope", "rules"], token);
    expect([foreign.exitCode, foreign.stdout]).toEqual([1, ""]);
    expect(foreign.stderr).toContain("not one of your credential's");
  });

  it("has its place in the report, without steering the terminal", async () => {
    const { stdout } = await run(broker, [
      "import",
      write(lines([row("x", { key: { scope: "rules", externalId: "\u009b31m\u202e", provider: "echo" } })])),
    ]);
    expect(stdout).toContain('row 1 rejected rules "\\u{9b}31m\\u{202e}" echo: key.external_id');
  });
});

it("a session without a time is the oldest: it is listed, exported and pruned first", async () => {
  const session = (externalId: string, lastActivityAt?: string) => ({
    key: { scope: "timeless", externalId, provider: "echo" },
    ...{ sessionId: externalId, lastActivityAt },
  });
  const rows = [
    session("timeless"),
    session("early", "1970-01-01T00:00:00.001Z"),
    session("late", "2100-01-01T00:00:00Z"),
  ];
  expect(await importInto(broker, write(lines(rows)))).toMatchObject({ exitCode: 0, created: 3 });
  const oldestFirst = ["timeless", "early", "late"];
  expect((await exported(broker, "--scope", "timeless")).map(({ sessionId }) => sessionId)).toEqual(
    oldestFirst,
  );
  const { sessions } = await client.listSessions({ scope: "timeless" });
  expect(sessions.map(({ sessionId }) => sessionId)).toEqual(oldestFirst.toReversed());
  expect(Number(sessions[0]?.lastActivityAt?.seconds) * 1000).toBeLessThanOrEqual(Date.now());
  const pruned = await client.prune({ scope: "timeless", maxSessions: 1 });
  expect(pruned.rows.map(({ sessionId }) => sessionId)).toEqual(["timeless", "early"]);
});

describe("spellings that fall together", () => {
  const spelling = (externalId: string, second: number) => ({
    key: { scope: "spelt/openclaw", externalId, provider: "echo" },
    sessionId: `of ${externalId}`,
    lastActivityAt: new Date(second * 1000).toISOString(),
  });
  const found = async () =>
    (await exported(broker, "--scope", "spelt/openclaw")).map(({ sessionId }) => sessionId);

  it("keep the freshest, whichever comes first, and report the others", async () => {
    const rows = [spelling("agent:main:Main", 20), spelling("MAIN", 10), spelling("agent:MAIN:main", 30)];
    const report = await importInto(broker, write(lines(rows)));
    expect(report).toMatchObject({
      created: 2,
      conflicting: 1,
      rows: [
        { row: 2, result: ImportResult.CONFLICTING },
        {
          row: 3,
          result: ImportResult.CREATED,
          message: expect.stringContaining('of agent:main:Main of the older spelling "agent:main:Main"'),
        },
      ],
    });
    expect(await found()).toEqual(["of agent:MAIN:main"]);
    expect(await importInto(broker, write(lines(rows)))).toMatchObject({
      created: 0,
      kept: 1,
      conflicting: 2,
    });
    expect(await found()).toEqual(["of agent:MAIN:main"]);
    const [session] = await exported(broker, "--scope", "spelt/openclaw");
    expect(session).toMatchObject({
      key: { externalId: "agent:main:main" },
      importedKey: "agent:MAIN:main",
      generation: 2,
    });
  });
});

describe("OpenClaw's sessions.json", () => {
  const store = (rows: Readonly<Record<string, number | undefined>>, sessionId: string) =>
    Object.fromEntries(Object.entries(rows).map(([key, updatedAt]) => [key, { sessionId, updatedAt }]));

  async function resolved(scope: string, sessionId: string): Promise<unknown> {
    const selector = { case: "sessionId" as const, value: sessionId };
    const { selection } = await client.resolveSelection({ selector, scope });
    switch (selection.case) {
      case "selected":
        return selection.value.storeKey;
      case "ambiguous":
        return selection.value.candidates.map(({ storeKey }) => storeKey);
      default:
        return undefined;
    }
  }

  it.each<[string, Readonly<Record<string, number | undefined>>, string, unknown]>([
    [
      "structural tie",
      { "agent:main:b:sid": 10, "agent:main:a:sid": 10, "agent:main:extra": 500 },
      "sid",
      ["agent:main:a:sid", "agent:main:b:sid"],
    ],
    ["two agents", { "agent:a:acp:r": 5, "agent:b:acp:r": 5 }, "r", ["agent:a:acp:r", "agent:b:acp:r"]],
    [
      "fuzzy tie",
      { "agent:main:beta": 10, "agent:main:alpha": 10 },
      "s1",
      ["agent:main:alpha", "agent:main:beta"],
    ],
    [
      "no times",
      { "agent:main:alpha": undefined, "agent:main:beta": undefined },
      "s1",
      ["agent:main:alpha", "agent:main:beta"],
    ],
    ["no time loses", { "agent:main:a": undefined, "agent:main:b": 1 }, "s1", "agent:main:b"],
    [
      "structural wins",
      { "agent:main:subagent:sid-1": 1, "agent:main:main": 1000 },
      "sid-1",
      "agent:main:subagent:sid-1",
    ],
    [
      "structural without a time wins",
      { "agent:main:a:run-1": undefined, "agent:main:z": 99 },
      "run-1",
      "agent:main:a:run-1",
    ],
    [
      "fresher structural",
      { "agent:main:a:run-1": 5, "agent:main:b:run-1": 6 },
      "run-1",
      "agent:main:b:run-1",
    ],
    ["middle of the key", { "agent:main:run:tail": 1, "agent:main:x": 9 }, "run", "agent:main:x"],
    ["bare key", { "run-1": 1, "agent:main:x": 9 }, "run-1", "agent:main:run-1"],
    ["agent named so", { "agent:run-1:main": 5, "agent:main:x": 9 }, "run-1", "agent:main:x"],
    [
      "freshest of four",
      { "agent:main:a": 5, "agent:main:b": 9, "agent:main:c": 5, "agent:main:d": 5 },
      "s1",
      "agent:main:b",
    ],
    ["one alone", { "agent:main:main": 1 }, "3b241101-e2bb-4255-8caf-4136c566a962", "agent:main:main"],
    [
      "rooms that differ in case",
      { "agent:main:matrix:channel:!AbC:ex.org": 10, "agent:main:matrix:channel:!aBc:ex.org": 10 },
      "zzz",
      ["agent:main:matrix:channel:!AbC:ex.org", "agent:main:matrix:channel:!aBc:ex.org"],
    ],
  ])("%s", async (name, rows, sessionId, expected) => {
    const scope = `${name.replaceAll(" ", "-")}/openclaw`;
    const file = write(store(rows, sessionId));
    expect(await importInto(broker, file, "--scope", scope)).toMatchObject({
      exitCode: 0,
      created: Object.keys(rows).length,
    });
    expect(await resolved(scope, sessionId)).toEqual(expected);
  });

  it("is one row for two spellings, of which the freshest stays, in the scope openclaw and with the default provider", async () => {
    const file = write({
      "agent:main:main": { sessionId: "older", updatedAt: 10 },
      "agent:main:MAIN": { sessionId: "fresher", updatedAt: 20 },
      "agent:main:acp:run": { sessionId: "fresher", updatedAt: 10, sessionStartedAt: 5 },
      broken: null,
    });
    for (const created of [2, 0]) {
      expect(await importInto(broker, file)).toMatchObject({
        ...{ exitCode: 1, created, kept: 2 - created, conflicting: 1, rejected: 1 },
        rows: [
          { row: 1, key: { externalId: "agent:main:main" }, result: ImportResult.CONFLICTING },
          { row: 4, key: { externalId: "broken" }, result: ImportResult.REJECTED },
        ],
      });
    }
    const key = { scope: "openclaw", externalId: "agent:main:main", provider: "echo" };
    const { session } = await client.getSession({ selector: { case: "key", value: key } });
    expect(session).toMatchObject({ sessionId: "fresher", importedKey: "agent:main:MAIN" });
  });
});

it("TokenPak's session_map.db: rows with their ids, times and labels", async () => {
  const { Database } = await initSqlJs();
  const database = new Database();
  database.run(`CREATE TABLE session_map (scope TEXT, external_id TEXT, provider TEXT, internal_id TEXT,
    created_at REAL, last_used_at REAL, metadata TEXT, PRIMARY KEY (scope, external_id, provider));
    INSERT INTO session_map VALUES
      ('tokenpak', 'chat-1', 'tokenpak-claude-code', 'uuid-1', 1700000000.25, 1700000100, '{"model":"opus"}'),
      ('tokenpak', 'chat-2', 'tokenpak-claude-code', 'uuid-1', 1700000000, 1700000200, '{}'),
      ('Tokenpak!', 'chat-3', 'tokenpak-claude-code', 'uuid-3', 1700000000, 1700000200, '{}');`);
  const file = join(folder, "session_map.db");
  writeFileSync(file, database.export());
  const unknown = await importInto(broker, file);
  expect(unknown).toMatchObject({ exitCode: 1, created: 0, rejected: 3 });
  expect(unknown.rows[0]?.message).toContain("tokenpak-claude-code is not one of");

  const report = await importInto(broker, file, "--provider", "echo");
  expect(report).toMatchObject({ exitCode: 1, created: 2, rejected: 1 });
  expect(report.rows).toMatchObject([
    { row: 2, result: ImportResult.CREATED, message: "without its native id, which cannot be bound" },
    { row: 3, result: ImportResult.REJECTED, key: { scope: "Tokenpak!" } },
  ]);
  expect(await exported(broker, "--scope", "tokenpak")).toMatchObject([
    {
      key: { externalId: "chat-1" },
      ...{ sessionId: "uuid-1", nativeId: "uuid-1", labels: { model: "opus" } },
      createdAt: { seconds: 1_700_000_000n, nanos: 250_000_000 },
      lastActivityAt: { seconds: 1_700_000_100n },
    },
    { key: { externalId: "chat-2" }, sessionId: "uuid-1", nativeId: "" },
  ]);
  expect(await importInto(broker, file, "--provider", "echo")).toMatchObject({ kept: 2, rejected: 1 });
});

describe("a broker that is killed in the middle of an import", () => {
  it("has whole rows of it, and all of them after a repeat", async () => {
    const total = 20_000;
    const key = (i: number) => ({ scope: "large", externalId: `chat-${i}`, provider: "echo" });
    const rows = Array.from({ length: total }, (_, i) => ({
      key: key(i),
      sessionId: `session-${i}`,
      nativeId: `native-${i}`,
      aliases: [{ id: `alias-${i}` }],
    }));
    const file = write(lines(rows));
    const target = await TestBroker.start();
    try {
      const interrupted = run(target, ["import", file]);
      const watcher = target.client();
      const stored = async () => Number((await watcher.getServerInfo({})).store?.sessions ?? 0n);
      while ((await stored()) === 0);
      await target.restart("SIGKILL");
      const { exitCode, stdout, stderr } = await interrupted;
      expect([exitCode, stdout]).toEqual([1, ""]);
      expect(stderr).toMatch(/cannot be reached: .*repeating the import goes on where it stopped$/);

      const left = await exported(target);
      expect(left.length).toBeGreaterThan(0);
      expect(left.length).toBeLessThan(total);
      const report = await importInto(target, file);
      expect(report).toMatchObject({
        exitCode: 0,
        created: total - left.length,
        kept: left.length,
        rows: [],
      });
      const all = await exported(target);
      expect(all.length).toBe(total);
      expect(new Set(all.map(({ sessionId, nativeId }) => `${sessionId} ${nativeId}`))).toEqual(
        new Set(rows.map(({ sessionId, nativeId }) => `${sessionId} ${nativeId}`)),
      );
    } finally {
      await target.close();
    }
  }, 120_000);
});

describe("an export that fails", () => {
  it("leaves the file as it was", async () => {
    const file = write("as it was");
    const { exitCode, stderr } = await run(broker, ["export", "--scope", "a", "--output", file], {
      SESSION_BROKER_TOKEN: "acme-secret",
    });
    expect([exitCode, readFileSync(file, "utf8")]).toEqual([1, "as it was"]);
    expect(stderr).toContain("not one of your credential's");
    expect(readdirSync(folder).filter((name) => name.includes("partial"))).toEqual([]);
    const nowhere = await run(broker, ["export", "--output", join(folder, "no", "folder")]);
    expect(nowhere).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("cannot be written: ENOENT"),
    });
  });
});

describe("without what it needs, a command says what is missing", () => {
  it.each<[readonly string[], number, string]>([
    [["import"], 2, "import needs FILE"],
    [["import", "a", "b"], 2, 'unexpected "b"'],
    [["export", "a"], 2, 'unexpected "a"'],
    [["import", "a", "--format", "csv"], 2, 'there is no format "csv"'],
    [["import", "missing.jsonl"], 1, "missing.jsonl cannot be read: ENOENT"],
    [["import", "missing.jsonl", "--format", "sessions"], 1, "missing.jsonl cannot be read: ENOENT"],
    [["export", "--broker", "unix:/no/socket"], 1, "the broker at unix:/no/socket cannot be reached"],
    [["export", "--broker", "http://127.0.0.1:1"], 1, "the broker at http://127.0.0.1:1 cannot be reached"],
    [["export", "--broker", "localhost:7410"], 2, 'broker: "localhost:7410" is neither'],
  ])("%j", async (args, code, reason) => {
    const { exitCode, stdout, stderr } = await run(broker, args);
    expect([exitCode, stdout]).toEqual([code, ""]);
    expect(stderr).toContain(reason);
    expect(stderr.split("\n").length).toBe(1);
  });

  it("a token, and one that is known and may do it", async () => {
    const file = write(lines([{ sessionId: "x" }]));
    const elsewhere = join(folder, "elsewhere");
    const options = { cwd: folder, reject: false, env: { PATH: folder, HOME: folder }, extendEnv: false };
    const missing = await execa(process.execPath, [main, "import", file, "--data", elsewhere], options);
    expect([missing.exitCode, missing.stdout]).toEqual([1, ""]);
    expect(missing.stderr).toContain("the admin token cannot be read: ENOENT");
    for (const command of [["export"], ["import", file]]) {
      const unknown = await run(broker, command, { SESSION_BROKER_TOKEN: "guessed" });
      expect(unknown).toMatchObject({ exitCode: 1, stdout: "" });
      expect(unknown.stderr).toContain("does not know the token of SESSION_BROKER_TOKEN");
      const lesser = await run(broker, command, { SESSION_BROKER_TOKEN: broker.token });
      expect(lesser).toMatchObject({ exitCode: 1, stdout: "" });
      expect(lesser.stderr).toContain("needs the role admin");
    }
  });

  it("asks over TCP where no socket lies", async () => {
    const args = [main, "export", "--data", broker.data, "--listen", `127.0.0.1:${broker.port}`];
    const { exitCode, stdout } = await execa(process.execPath, args, { cwd: folder, reject: false });
    expect(exitCode).toBe(0);
    expect(stdout.split("\n").length).toBeGreaterThan(1);
  });
});
