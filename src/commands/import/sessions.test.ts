import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AliasKind, SessionSchema } from "../../../gen/sessionbroker/v1/session_pb.js";
import { readSessions } from "./sessions.js";
import type { Placement, SourceRow } from "./source.js";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sessions-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function read(content: string | Buffer, placement: Placement = {}): Promise<SourceRow[]> {
  const file = join(folder, "sessions.jsonl");
  writeFileSync(file, content);
  const rows: SourceRow[] = [];
  for await (const row of readSessions(file, placement)) rows.push(row);
  return rows;
}

const key = { scope: "acme", externalId: "chat", provider: "echo" };
const line = JSON.stringify({ key, sessionId: "s" });

it("reads a session from each line, and numbers lines as they stand", async () => {
  const rows = await read(`${line}\n\n  \r\n${line}\r\n${line}`);
  expect(rows.map(({ row }) => row)).toEqual([1, 4, 5]);
  for (const row of rows) expect(row).toMatchObject({ session: { key, sessionId: "s" } });
});

it("reads what was exported, but for aliases that only a broker writes", async () => {
  const session = create(SessionSchema, {
    key,
    sessionId: "s",
    nativeId: "n",
    labels: { a: "b" },
    aliases: [
      { id: "platform", kind: AliasKind.PLATFORM },
      { id: "resp_1", kind: AliasKind.RESPONSE },
      { id: "former", kind: AliasKind.NATIVE },
      { id: "unsaid" },
    ],
    lastActivityAt: { seconds: 1n, nanos: 5_000_000 },
  });
  const [row] = await read(JSON.stringify(toJson(SessionSchema, session)));
  const aliases = session.aliases.filter(({ id }) => id === "platform" || id === "unsaid");
  expect(row).toEqual({ row: 1, session: { ...session, aliases } });
});

it("puts rows where it is told to", async () => {
  const placed = { ...key, scope: "other/scope", provider: "claude" };
  expect(await read(line, { scope: "other/scope", provider: "claude" })).toMatchObject([
    { session: { key: placed } },
  ]);
  expect(await read('{"sessionId":"s"}', { scope: "acme" })).toMatchObject([{ session: { sessionId: "s" } }]);
});

describe("a line that is no session is a problem of its own", () => {
  it.each<[string, string | Buffer, string]>([
    ["damaged JSON", '{"key":', "cannot decode"],
    ["an array", "[]", "cannot decode message sessionbroker.v1.Session from JSON"],
    ["a number", "5", "cannot decode message sessionbroker.v1.Session from JSON: 5"],
    ["null", "null", "cannot decode"],
    ["a field of another type", '{"sessionId":5}', "Session.session_id"],
    ["a misspelt field", '{"sesionId":"s"}', '"sesionId" is unknown'],
    ["a time that is none", '{"createdAt":"yesterday"}', "google.protobuf.Timestamp"],
    ["no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "the line is not UTF-8"],
  ])("%s", async (_, content, problem) => {
    const rows = await read(Buffer.concat([Buffer.from(content), Buffer.from(`\n${line}\n`)]));
    expect(rows).toMatchObject([{ row: 1 }, { row: 2, session: { sessionId: "s" } }]);
    expect(rows[0]).toHaveProperty("problem", expect.stringContaining(problem));
  });

  it("a line of any length", async () => {
    const rows = await read(`{"sessionId":"${"x".repeat(17 * 1024 * 1024)}"}\n${line}`);
    expect(rows).toMatchObject([
      { row: 1, problem: expect.stringContaining("bytes") },
      { row: 2, session: { sessionId: "s" } },
    ]);
  });
});

it("keys of JavaScript's own mean nothing", async () => {
  const rows = await read(
    '{"__proto__":{"sessionId":"s"}}\n{"constructor":{}}\n{"labels":{"__proto__":"x","toString":"y"}}',
  );
  expect(rows).toMatchObject(
    [{ problem: /__proto__/ }, { problem: /constructor/ }, { session: {} }].map(matching),
  );
  expect(Object.prototype).not.toHaveProperty("sessionId");
});

function matching(row: { readonly problem?: RegExp }): object {
  return row.problem === undefined ? row : { problem: expect.stringMatching(row.problem) };
}

it("says which file cannot be read", async () => {
  const rows = readSessions(join(folder, "missing"), {});
  await expect(rows.next()).rejects.toThrow(/missing cannot be read: ENOENT/);
});
