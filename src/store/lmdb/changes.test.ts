/** How long changes are kept for those who watch. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, expect, it } from "vitest";
import { sealJson } from "./codec.js";
import { type OpenedStore, openStore } from "./open.js";
import { environmentOptions } from "./schema.js";
import { Tables } from "./tables.js";

const day = 24 * 3_600_000;

let folder: string;
let opened: OpenedStore;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
  await open();
});

afterEach(async () => {
  await opened[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

async function open(): Promise<void> {
  const onLost = (error: Error) => {
    throw error;
  };
  opened = await openStore({ path: join(folder, "s"), now: Date.now, writer: "inline", onLost });
}

async function reserve(externalId: string): Promise<void> {
  const rest = { aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} };
  const reservation = { key: { scope: "acme", externalId, provider: "echo" }, ...rest };
  const newSessionId = crypto.randomUUID();
  await opened.store.reserve({ reservation, nowMs: 1_000, clockBelieved: true, newSessionId });
}

async function kept(after: number): Promise<readonly number[] | "gone"> {
  const changes = await opened.store.changes(after, 100);
  return changes === "gone" ? "gone" : changes.map(({ revision }) => revision);
}

/** As if this many changes had been made and forgotten. */
async function skipTo(revision: number): Promise<void> {
  await opened[Symbol.asyncDispose]();
  const path = join(folder, "s");
  const root = openLmdb(environmentOptions(path));
  root.transactionSync(() => {
    const tables = new Tables(root, path);
    tables.put("meta", "counters", sealJson({ ...tables.counters(), revision }));
  });
  await root.close();
  await open();
}

it("a change is kept for 24 hours, and whoever asks for what was before it is told", async () => {
  const before = Date.now();
  for (const chat of ["one", "two"]) await reserve(chat);
  const after = Date.now();
  await opened.store.expire(before + day);
  expect(await kept(0)).toEqual([1, 2]);
  await opened.store.expire(after + day + 1);
  expect(await kept(0)).toBe("gone");
  expect(await kept(1)).toBe("gone");
  expect(await kept(2)).toEqual([]);
  await reserve("three");
  expect(await kept(2)).toEqual([3]);
});

it("the last 100,000 changes are kept, however fast they were made", async () => {
  for (const chat of ["one", "two", "three"]) await reserve(chat);
  await skipTo(100_001);
  await opened.store.expire(Date.now());
  expect(await kept(0)).toEqual([1, 2, 3]);
  await reserve("four");
  await reserve("five");
  await opened.store.expire(Date.now());
  expect(await kept(0)).toBe("gone");
  expect(await kept(1)).toBe("gone");
  expect(await kept(2)).toEqual([3, 100_002, 100_003]);
});
