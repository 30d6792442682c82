import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { ReserveCall } from "../../sessions/session-store.js";
import { type OpenedStore, openStore } from "./open.js";

let folder: string;
let opened: OpenedStore;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
  const onLost = (error: Error) => {
    throw error;
  };
  opened = await openStore({ path: join(folder, "s"), now: Date.now, writer: "inline", onLost });
});

afterEach(async () => {
  await opened[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });

async function fill(rows: number): Promise<void> {
  const calls = Array.from({ length: rows }, (_, i): ReserveCall => {
    const reservation = {
      key: key(`chat-${String(i).padStart(3, "0")}`),
      aliases: [],
      internal: false,
      scopeResetPolicy: {},
      workspace: "",
      labels: {},
    };
    return { reservation, nowMs: 1_000 + i, clockBelieved: true, newSessionId: crypto.randomUUID() };
  });
  await Promise.all(calls.map((call) => opened.store.reserve(call)));
}

const idle = {
  scopes: ["acme"],
  live: true,
  archived: false,
  purge: false,
  dryRun: false,
  nowMs: 100_000,
  olderThanMs: 10_000,
};

it("what is used while a long prune goes on is spared", async () => {
  await fill(120);
  let steps = 0;
  const writeActivity = async () => {
    steps += 1;
    if (steps === 2) await opened.store.touch([{ key: key("chat-115"), atMs: 99_000 }]);
  };
  const report = await opened.store.prune(idle, writeActivity);
  expect(report.archived).toBe(119);
  expect(report.rows.map(({ row }) => row.key.externalId)).not.toContain("chat-115");
});

it("what is used at the moment of a step is spared by that step", async () => {
  await fill(1);
  const used = () => opened.store.touch([{ key: key("chat-000"), atMs: 99_000 }]);
  expect(await opened.store.prune(idle, used)).toMatchObject({ archived: 0, rows: [] });
});

it("other writers come between the steps of a prune", async () => {
  await fill(120);
  const pruned = opened.store.prune(idle, async () => {});
  await opened.store.touch([{ key: key("chat-119"), atMs: 99_000 }]);
  expect((await opened.store.byKey(key("chat-119")))?.row.archived).toBeUndefined();
  expect((await pruned).archived).toBe(119);
});
