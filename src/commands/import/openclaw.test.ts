import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readOpenClaw } from "./openclaw.js";
import type { Placement, SourceRow } from "./source.js";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "openclaw-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function read(content: unknown, placement: Placement = {}): Promise<SourceRow[]> {
  const file = join(folder, "sessions.json");
  writeFileSync(
    file,
    typeof content === "string" || Buffer.isBuffer(content) ? content : JSON.stringify(content),
  );
  return (await readOpenClaw(file))(placement, { provider: "first" });
}

const externalIds = (rows: readonly SourceRow[]) =>
  rows.map((row) => ("session" in row ? row.session.key?.externalId : row.key?.externalId));

it("reads store key, session id and times, and nothing else", async () => {
  const [row] = await read({
    "agent:main:main": {
      sessionId: "s1",
      updatedAt: 1_700_000_000_500,
      sessionStartedAt: 1_600_000_000_000,
      modelOverride: "gpt",
      pinned: true,
    },
  });
  if (row === undefined || !("session" in row)) throw new Error("no session");
  const { session } = row;
  expect(row.row).toBe(1);
  expect(session.key).toMatchObject({
    scope: "openclaw",
    externalId: "agent:main:main",
    provider: "first",
  });
  expect(session).toMatchObject({ sessionId: "s1", nativeId: "", pinned: false, labels: {} });
  expect([session.lastActivityAt, session.startedAt].map((at) => at && timestampMs(at))).toEqual([
    1_700_000_000_500, 1_600_000_000_000,
  ]);
  expect(session.createdAt).toBeUndefined();
});

it("puts rows where it is told to", async () => {
  const rows = await read({ a: { sessionId: "s" } }, { scope: "acme/openclaw", provider: "claude" });
  expect(rows).toMatchObject([{ session: { key: { scope: "acme/openclaw", provider: "claude" } } }]);
});

it("has the freshest first, and otherwise the order of the file", async () => {
  const rows = await read({
    "agent:main:main": { sessionId: "a", updatedAt: 10 },
    "agent:main:none": { sessionId: "b" },
    "agent:main:MAIN": { sessionId: "c", updatedAt: 20 },
    "agent:main:Main": { sessionId: "d", updatedAt: 10 },
  });
  expect(externalIds(rows)).toEqual([
    "agent:main:MAIN",
    "agent:main:main",
    "agent:main:Main",
    "agent:main:none",
  ]);
  expect(rows.map(({ row }) => row)).toEqual([3, 1, 4, 2]);
});

it.each([0, null, undefined])("takes %s for no time", async (updatedAt) => {
  const [row] = await read({ a: { sessionId: "s", updatedAt } });
  expect(row).toMatchObject({ session: { sessionId: "s" } });
  expect(row).not.toHaveProperty("session.lastActivityAt");
});

describe("an entry that is no session is a problem of its own", () => {
  it.each<[unknown, string]>([
    [null, "not an object"],
    [5, "not an object"],
    [[], "not an object"],
    ["s", "not an object"],
    [{}, "sessionId"],
    [{ sessionId: 5 }, "sessionId"],
    [{ sessionId: "" }, "sessionId"],
    [{ sessionId: { toString: "s" } }, "sessionId"],
    [{ sessionId: "s", updatedAt: "10" }, "updatedAt"],
    [{ sessionId: "s", updatedAt: -1 }, "updatedAt"],
    [{ sessionId: "s", updatedAt: 1e300 }, "updatedAt"],
    [{ sessionId: "s", updatedAt: [10] }, "updatedAt"],
    [{ sessionId: "s", sessionStartedAt: true }, "sessionStartedAt"],
  ])("%j", async (entry, problem) => {
    expect(await read({ good: { sessionId: "g", updatedAt: 1 }, bad: entry })).toMatchObject(
      expect.arrayContaining([
        expect.objectContaining({ row: 1, session: expect.objectContaining({ sessionId: "g" }) }),
        expect.objectContaining({ row: 2, problem: expect.stringContaining(problem) }),
      ]),
    );
  });
});

it("keys of JavaScript's own are keys like any other", async () => {
  const rows = await read(
    '{"__proto__":{"sessionId":"p"},"constructor":{"sessionId":"c"},"a":{"__proto__":{"sessionId":"x"}}}',
  );
  expect(externalIds(rows)).toEqual(["__proto__", "constructor", "a"]);
  expect(rows[2]).toHaveProperty("problem");
  expect(Object.prototype).not.toHaveProperty("sessionId");
});

describe("a file that is no such object is refused whole", () => {
  it.each<[string, string | Buffer, string]>([
    ["an array", "[]", "is not an object"],
    ["null", "null", "is not an object"],
    ["text", '"a"', "is not an object"],
    ["nothing", "", "is not JSON"],
    ["half of one", '{"a":{"sessionId":', "is not JSON"],
    ["no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "is not JSON"],
    ["deeply nested", "[".repeat(1_000_000), "is not JSON"],
  ])("%s", async (_, content, problem) => {
    await expect(read(content)).rejects.toThrow(problem);
  });

  it("a missing one", async () => {
    await expect(readOpenClaw(join(folder, "missing"))).rejects.toThrow(/missing cannot be read: ENOENT/);
  });
});
