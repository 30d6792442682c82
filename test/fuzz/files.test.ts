/** Files of people: configurations and imports. Any bytes are read, or refused in words. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import initSqlJs from "sql.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formats } from "../../src/commands/import/formats.js";
import { openSource } from "../../src/commands/import/source.js";
import { loadSettings } from "../../src/config/config.js";
import { mutated, parameters, timeoutFor } from "./fuzzing.js";

const folder = mkdtempSync(join(tmpdir(), "fuzz-"));
const file = join(folder, "file");

afterAll(() => rmSync(folder, { recursive: true }));

const configuration = Buffer.from(`
listen: 127.0.0.1:7410
hosts: [broker.example]
providers:
  - id: claude
    claude: { executable: claude, environment: { A: "b" }, arguments: ["--x"] }
    timeout: 90s
    warm: { processes: 4 }
  - { id: echo, echo: { delay: 0.5s } }
  - id: own
    command: { first: [program, "--", "{native_id}"], jsonLines: { text: a.b } }
scopes:
  - { pattern: "acme/*", resetPolicy: { daily: { hour: 4, timeZone: Europe/Berlin } }, workspaces: { w: /tmp/w } }
credentials:
  - { name: ada, role: ROLE_DISPATCH, scopes: [acme], tokenSha256: "${"0".repeat(64)}" }
limits: { runningTurns: 3, collectDebounce: 1s, diskReserveBytes: 5 }
backups: /tmp/b
`);

/** The message of the error, if it was one for people. */
function messageOf(error: unknown, name: string): string {
  expect(error).toMatchObject({ name });
  return (error as Error).message;
}

describe("a configuration", () => {
  const read = (bytes: Buffer) => {
    writeFileSync(file, bytes);
    try {
      return loadSettings({ config: file, data: join(folder, "data") });
    } catch (error) {
      expect(messageOf(error, "ConfigError")).toMatch(/\S/);
      return undefined;
    }
  };

  it("of any bytes is settings, or an error that says why", () => {
    expect(read(configuration)).toBeDefined();
    fc.assert(
      fc.property(mutated([configuration]), (bytes) => {
        read(bytes);
      }),
      parameters(400),
    );
  });

  it.each([
    [
      "aliases of aliases",
      `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefghij".replaceAll(/./g, (name) => `${name}: &${name} [${`*${String.fromCharCode(name.charCodeAt(0) - 1)},`.repeat(9)}]\n`)}`,
    ],
    ["an alias of itself", "hosts: &a [*a]"],
    ["an alias of nothing", "hosts: *nothing"],
    ["a map as a key", "? {a: b}\n: c"],
    ["a key twice", "listen: a:1\nlisten: b:2"],
    ["its prototype", "__proto__: { listen: 'a:1' }\nconstructor: 1"],
    ["two documents", "listen: a:1\n---\nlisten: b:2"],
    ["depth", "[".repeat(3_000)],
    ["a tag", "listen: !!binary aGVsbG8="],
    ["a number that is none", "limits: { runningTurns: .nan }"],
    ["a time", "providers: [{ id: a, echo: { delay: 2026-01-31 } }]"],
    ["half of a character", Buffer.from([0x6c, 0x3a, 0x20, 0xc3])],
    ["another encoding", Buffer.from("listen: a:1", "utf16le")],
  ])("with %s is refused in words", (_, text) => {
    expect(read(Buffer.from(text))).toBeUndefined();
  });
});

describe("a file to import", () => {
  const samples: Buffer[] = [];

  beforeAll(async () => {
    samples.push(
      Buffer.from(
        `${JSON.stringify({ key: { scope: "acme", externalId: "a", provider: "echo" }, sessionId: "1", labels: { a: "b" }, createdAt: "2026-01-31T00:00:00Z" })}\n`.repeat(
          3,
        ),
      ),
      Buffer.from(
        JSON.stringify({
          "agent:main:main": { sessionId: "x", updatedAt: 1, cliSessionIds: { "claude-cli": "y" } },
        }),
      ),
    );
    const sql = await initSqlJs();
    const database = new sql.Database();
    database.run("CREATE TABLE session_map (scope TEXT, external_id TEXT, session_id TEXT, updated_at REAL)");
    database.run("INSERT INTO session_map VALUES ('a', 'b', 'c', 1.5)");
    samples.push(Buffer.from(database.export()));
    database.close();
  });

  it("of any bytes is rows, or an error that says why", { timeout: timeoutFor(150, 1_000) }, async () => {
    const input = fc.nat({ max: 2 }).chain((index) => mutated([samples[index] ?? Buffer.alloc(0)]));
    await fc.assert(
      fc.asyncProperty(input, fc.constantFrom("auto" as const, ...formats), async (bytes, format) => {
        writeFileSync(file, bytes);
        try {
          const source = await openSource(file, format);
          for await (const _ of source.rows({ scope: undefined, provider: undefined }, { provider: "echo" }));
        } catch (error) {
          expect(messageOf(error, "CommandError")).toMatch(/\S/);
        }
        expect(readFileSync(file).equals(bytes)).toBe(true);
      }),
      parameters(150),
    );
  });
});
