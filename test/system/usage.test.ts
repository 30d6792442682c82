/** `session-broker usage`, against a running broker. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const today = () => new Date().toISOString().slice(0, 10);

let broker: TestBroker;

beforeAll(async () => {
  broker = await TestBroker.start();
  for (const scope of ["acme", "acme/b"]) {
    const target = { case: "key" as const, value: { scope, externalId: "chat", provider: "echo" } };
    await dispatchTurn(broker.client(), "hello", { target }).ended;
  }
});

afterAll(() => broker.close());

async function usage(...args: readonly string[]) {
  const { exitCode, stdout, stderr } = await execa(
    process.execPath,
    [main, "usage", "--data", broker.data, "--socket", broker.socket, ...args],
    { env: { PATH: process.env.PATH ?? "" }, extendEnv: false, reject: false },
  );
  return { exitCode, lines: stdout.split("\n"), stderr };
}

it("shows a table, with the sum below", async () => {
  const { exitCode, lines, stderr } = await usage();
  expect([exitCode, stderr]).toEqual([0, ""]);
  expect(lines.map((line) => line.split(/ {2,}/).slice(0, 4))).toEqual([
    ["day", "scope", "provider", "turns"],
    [today(), "acme", "echo", "1"],
    [today(), "acme/b", "echo", "1"],
    ["total", "2", "0", "0"],
  ]);
});

it("shows programs one JSON object a line, and takes what is asked for", async () => {
  const { lines } = await usage("--json", "--scope", "acme/*", "--provider", "echo", "--since", today());
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { day: today(), scope: "acme/b", provider: "echo", turns: 1, usage: { inputTokens: "0" } },
  ]);
  expect((await usage("--json", "--until", "2020-01-01")).lines).toEqual([""]);
  expect((await usage("--until", "2020-01-01")).lines).toEqual(["No turn has ended in these days."]);
});

it("says what is wrong with a call", async () => {
  for (const day of ["yesterday", "2026-1-1", "2026-13-01", "2026-02-30"]) {
    expect(await usage("--since", day)).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("--since"),
    });
  }
  expect(await usage("--scope", "A B")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("scope"),
  });
});

it("says that no broker answers", async () => {
  const other = await TestBroker.start();
  const socket = join(other.folder, "gone.sock");
  try {
    const { data } = other;
    await other.kill();
    const answer = await execa(
      process.execPath,
      [main, "usage", "--data", data, "--socket", socket, "--broker", `unix:${socket}`],
      { env: { PATH: process.env.PATH ?? "" }, extendEnv: false, reject: false },
    );
    expect([answer.exitCode, answer.stderr]).toEqual([1, expect.stringContaining("cannot be reached")]);
  } finally {
    rmSync(socket, { force: true });
    await other.close();
  }
});
