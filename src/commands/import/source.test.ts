import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import initSqlJs from "sql.js";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openSource } from "./source.js";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "source-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(content: string | Uint8Array): string {
  const file = join(folder, "file");
  writeFileSync(file, content);
  return file;
}

const key = { scope: "acme", externalId: "chat", provider: "echo" };

it.each<[string, string]>([
  ["sessions", ""],
  ["sessions", "\n"],
  ["sessions", JSON.stringify({ key, sessionId: "s" })],
  ["sessions", `\n${JSON.stringify({ sessionId: "s", key: { external_id: "chat" } })}\n{damaged`],
  ["sessions", JSON.stringify({ key, sessionId: "s".repeat(2 * 1024 * 1024) })],
  ["sessions", '{"sessionId":"without a key"}\n{"sessionId":"s"}'],
  ["openclaw", "{}"],
  ["openclaw", '{"agent:main:main":{"sessionId":"s"}}\n'],
  ["openclaw", '{"agent:main:main":{"sessionId":"s"}}'],
  ["openclaw", '\uFEFF{\n  "agent:main:main": {\n    "sessionId": "s"\n  }\n}\n'],
  ["openclaw", '{"key":{"sessionId":"s"}}'],
])("tells %s by the content", async (format, content) => {
  expect((await openSource(write(content), "auto")).format).toBe(format);
});

it("tells a database", async () => {
  const { Database } = await initSqlJs();
  const database = new Database();
  database.run(
    "CREATE TABLE session_map (scope, external_id, provider, internal_id, created_at, last_used_at, metadata)",
  );
  const source = await openSource(write(database.export()), "auto");
  expect(source.format).toBe("tokenpak");
  expect([...(source.rows({}, { provider: "echo" }) as Iterable<unknown>)]).toEqual([]);
});

it.each(["[]", "[]\n[]", "hello", "\u007fELF"])("does not guess at %j", async (content) => {
  await expect(openSource(write(content), "auto")).rejects.toThrow("say which with --format");
});

it("believes what it is told", async () => {
  await expect(openSource(write("{}"), "tokenpak")).rejects.toThrow("file is not a database");
  await expect(openSource(write("[]"), "openclaw")).rejects.toThrow("is not an object");
});

it("says which file cannot be read, without steering the terminal", async () => {
  await expect(openSource(join(folder, "mis\u001bsing"), "auto")).rejects.toThrow(
    /mis\\u\{1b\}sing cannot be read: ENOENT/,
  );
  await expect(openSource(folder, "auto")).rejects.toThrow("cannot be read: EISDIR");
});
