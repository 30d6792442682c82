import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import initSqlJs from "sql.js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Placement, SourceRow } from "./source.js";
import { readTokenPak } from "./tokenpak.js";

const table = `CREATE TABLE IF NOT EXISTS session_map (
  scope TEXT NOT NULL, external_id TEXT NOT NULL, provider TEXT NOT NULL, internal_id TEXT NOT NULL,
  created_at REAL NOT NULL, last_used_at REAL NOT NULL, metadata TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (scope, external_id, provider));`;
const untyped =
  "CREATE TABLE session_map (scope, external_id, provider, internal_id, created_at, last_used_at, metadata);";

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tokenpak-"));
  file = join(folder, "session_map.db");
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function make(...statements: readonly string[]): Promise<Buffer> {
  const { Database } = await initSqlJs();
  const database = new Database();
  for (const statement of statements) database.run(statement);
  const bytes = Buffer.from(database.export());
  database.close();
  writeFileSync(file, bytes);
  return bytes;
}

async function read(placement: Placement = {}): Promise<SourceRow[]> {
  return [...(await readTokenPak(file))(placement)];
}

const insert = (values: string) => `INSERT INTO session_map VALUES (${values});`;
const row = (extra: string) => insert(`'openclaw', 'chat', 'tokenpak-claude-code', 'uuid-1', ${extra}`);

it("reads the rows of the table, and leaves the file as it is", async () => {
  await make(
    table,
    row('1700000000.25, 1700000100.5, \'{"model":"opus"}\''),
    insert("'codex', 'Чат 😀', 'codex', 'uuid-2', 1, 2, '{}'"),
  );
  const digest = createHash("sha256").update(readFileSync(file)).digest("hex");
  const rows = await read();
  expect(rows).toMatchObject([
    {
      row: 1,
      session: {
        key: { scope: "openclaw", externalId: "chat", provider: "tokenpak-claude-code" },
        sessionId: "uuid-1",
        nativeId: "uuid-1",
        labels: { model: "opus" },
      },
    },
    { row: 2, session: { key: { scope: "codex", externalId: "Чат 😀" }, sessionId: "uuid-2", labels: {} } },
  ]);
  expect(timesOf(rows[0])).toEqual([1_700_000_000_250, 1_700_000_100_500]);
  expect(createHash("sha256").update(readFileSync(file)).digest("hex")).toBe(digest);
});

it("reads a database that was last written in WAL mode", async () => {
  const bytes = await make(table, row("1, 2, '{}'"));
  bytes[18] = 2;
  bytes[19] = 2;
  writeFileSync(file, bytes);
  expect(await read()).toHaveLength(1);
});

it("reads a database in UTF-16", async () => {
  await make("PRAGMA encoding = 'UTF-16le'", table, insert("'s', 'чат', 'p', 'i', 1, 2, '{\"a\":\"ж\"}'"));
  expect(await read()).toMatchObject([{ session: { key: { externalId: "чат" }, labels: { a: "ж" } } }]);
});

it("puts rows where it is told to", async () => {
  await make(table, row("1, 2, '{}'"));
  expect(await read({ scope: "acme", provider: "claude" })).toMatchObject([
    { session: { key: { scope: "acme", externalId: "chat", provider: "claude" } } },
  ]);
});

describe("times", () => {
  it.each([
    ["seconds", "1700000000.5", 1_700_000_000_500],
    ["milliseconds", "1700000000500", 1_700_000_000_500],
    ["seconds of long ago", "20", 20_000],
    ["zero: none", "0", undefined],
    ["NULL: none", "NULL", undefined],
  ])("%s", async (_, value, ms) => {
    await make(untyped, row(`NULL, ${value}, NULL`));
    expect(timesOf((await read())[0])).toEqual([undefined, ms]);
  });

  it.each(["-1", "9e999", "1e300", "'yesterday'", "'1700000000'", "x'00'"])("%s is none", async (value) => {
    await make(untyped, row(`NULL, ${value}, NULL`));
    expect(await read()).toMatchObject([{ row: 1, problem: "last_used_at: it is no time since the epoch" }]);
  });
});

describe("metadata becomes labels if it can as it stands", () => {
  const many = JSON.stringify(Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, "v"])));
  it.each<[string, Record<string, string>]>([
    ['{"model":"opus","route":""}', { model: "opus", route: "" }],
    ['{"model":"opus","turns":5}', {}],
    ['{"nested":{"a":"b"}}', {}],
    ["[]", {}],
    ["null", {}],
    ["no json", {}],
    ["", {}],
    [`{"long":"${"x".repeat(257)}"}`, {}],
    [`{"${"n".repeat(65)}":"long"}`, {}],
    ['{"":"no name"}', {}],
    [many, {}],
  ])("%s", async (metadata, labels) => {
    await make(table, row(`1, 2, '${metadata}'`));
    expect(await read()).toMatchObject([{ session: { labels } }]);
    expect(await read()).toHaveProperty("0.session.labels", labels);
  });

  it("keys of JavaScript's own do no harm", async () => {
    await make(table, row('1, 2, \'{"__proto__":"x","constructor":"y"}\''));
    expect(await read()).toMatchObject([{ session: { sessionId: "uuid-1" } }]);
    expect(Object.getPrototypeOf({})).toBe(Object.prototype);
  });
});

describe("a row that cannot be taken is a problem of its own", () => {
  it.each([
    ["an empty id", "'s', '', 'p', 'i', 1, 2, NULL", "external_id"],
    ["a NULL", "'s', 'e', 'p', NULL, 1, 2, NULL", "internal_id"],
    ["a number for text", "5, 'e', 'p', 'i', 1, 2, NULL", "scope"],
    ["a blob for text", "'s', x'6162', 'p', 'i', 1, 2, NULL", "external_id"],
    ["text that is not UTF-8", "'s', CAST(x'61ff' AS TEXT), 'p', 'i', 1, 2, NULL", "external_id"],
    ["a large row", "'s', 'e', 'p', 'i', 1, 2, printf('%.*c', 70000, 'x')", "65536"],
    ["a huge row", "'s', 'e', 'p', 'i', 1, zeroblob(50000000), NULL", "65536"],
  ])("%s", async (_, values, problem) => {
    await make(untyped, insert(values), row("1, 2, NULL"));
    expect(await read()).toMatchObject([
      { row: 1, problem: expect.stringContaining(problem) },
      { row: 2, session: { sessionId: "uuid-1" } },
    ]);
  });

  it("a NUL inside of text is kept, for the broker to refuse", async () => {
    await make(untyped, insert("'s', 'a' || char(0) || 'b', 'p', 'i', 1, 2, NULL"));
    expect(await read()).toMatchObject([{ session: { key: { externalId: "a\0b" } } }]);
  });
});

describe("a database without such a table is refused whole", () => {
  const columns =
    "1 AS scope, 2 AS external_id, 3 AS provider, 4 AS internal_id, 5 AS created_at, 6 AS last_used_at, 7 AS metadata";
  it.each([
    ["none", ["CREATE TABLE other (a)"], "no table session_map"],
    ["a view", [`CREATE VIEW session_map AS SELECT ${columns}`], "not a table"],
    [
      "a view in other letters",
      [
        `CREATE VIEW Session_Map AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT ${columns} FROM n`,
      ],
      "not a table",
    ],
    [
      "a virtual table",
      ["CREATE VIRTUAL TABLE session_map USING fts3(scope, external_id, provider, internal_id)"],
      "not a table",
    ],
    [
      "a column less",
      ["CREATE TABLE session_map (scope, external_id, provider, internal_id)"],
      "no column metadata",
    ],
    [
      "a computed column",
      [untyped.replace("metadata)", "metadata AS (zeroblob(1000000000)))")],
      "session_map.metadata is computed",
    ],
  ])("%s", async (_, statements, problem) => {
    await make(...statements);
    await expect(read()).rejects.toThrow(problem);
  });
});

describe("a damaged file is refused whole", () => {
  it.each<[string, (bytes: Buffer) => Buffer, string]>([
    ["no SQLite", () => Buffer.from("hello"), "file is not a database"],
    ["empty", () => Buffer.alloc(0), "no table session_map"],
    ["only the beginning", (bytes) => bytes.subarray(0, 5000), "malformed"],
    ["a page overwritten", (bytes) => bytes.fill(0x55, 4096, 8192), "malformed|damaged"],
    ["a row cut off", (bytes) => bytes.fill(0xff, bytes.length - 300), "malformed|damaged"],
  ])("%s", async (_, damage, problem) => {
    const rows = Array.from({ length: 200 }, (_, i) => insert(`'s', 'e${i}', 'p', 'i', 1, 2, '{}'`));
    writeFileSync(file, damage(await make(table, ...rows)));
    await expect(read()).rejects.toThrow(
      new RegExp(`session_map.db cannot be read as session_map.db: .*(${problem})`),
    );
  });

  it("a page that stands for many", async () => {
    const rows = Array.from({ length: 2000 }, (_, i) => insert(`'s', 'e${i}', 'p', 'i', 1, 2, '{}'`));
    const bytes = await make(table, ...rows);
    // The root of the table points to its pages; here to the first of them each time.
    const root = bytes.subarray(4096, 8192);
    expect(root[0]).toBe(5);
    const cells = Array.from({ length: root.readUInt16BE(3) }, (_, i) => root.readUInt16BE(12 + 2 * i));
    for (const cell of cells) root.writeUInt32BE(root.readUInt32BE(cells[0]), cell);
    writeFileSync(file, bytes);
    await expect(read()).rejects.toThrow(/it is damaged: .*2nd reference to page/s);
  });

  it("a missing one", async () => {
    await expect(read()).rejects.toThrow(/session_map.db cannot be read: ENOENT/);
  });
});

it.each(["-wal", "-journal"])("says that %s holds what the file lacks", async (suffix) => {
  await make(table, row("1, 2, '{}'"));
  writeFileSync(`${file}${suffix}`, "");
  expect(await read()).toHaveLength(1);
  writeFileSync(`${file}${suffix}`, "frames");
  await expect(read()).rejects.toThrow("wal_checkpoint");
});

function timesOf(row: SourceRow | undefined): (number | undefined)[] {
  if (row === undefined || !("session" in row)) throw new Error(JSON.stringify(row));
  const { createdAt, lastActivityAt } = row.session;
  return [createdAt, lastActivityAt].map((at) => at && timestampMs(at));
}
