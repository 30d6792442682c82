/** A read sees what was acknowledged before it was asked, by whomever it was written. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { ReserveCall } from "../../sessions/session-store.js";
import { compiledSibling } from "./compiled.js";
import { type OpenedStore, openStore } from "./open.js";
import type { LmdbStore } from "./store.js";

let folder: string;
let opened: OpenedStore;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
  const onLost = (error: Error) => {
    throw error;
  };
  opened = await openStore({ path: join(folder, "s"), now: Date.now, writer: "inline", onLost });
  await opened.store.reserve(reserveCall("first"));
});

afterEach(async () => {
  await opened[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });

function reserveCall(externalId: string): ReserveCall {
  const rest = { aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} };
  const reservation = { key: key(externalId), ...rest };
  return { reservation, nowMs: 1_000, clockBelieved: true, newSessionId: `id of ${externalId}` };
}

/** Commits another reservation in a process of its own, while this one does nothing else. */
function reserveElsewhere(externalId: string): void {
  const program = `
    import { open } from "lmdb";
    import { inlineRunner } from ${JSON.stringify(compiledSibling("writer").href)};
    import { environmentOptions } from ${JSON.stringify(compiledSibling("schema").href)};
    import { Tables } from ${JSON.stringify(compiledSibling("tables").href)};
    const [path, instance, call] = process.argv.slice(1);
    const root = open(environmentOptions(path));
    const batch = [{ name: "reserve", input: JSON.parse(call) }];
    const { answers } = await inlineRunner(new Tables(root, path), instance).run(batch);
    const [answer] = answers;
    if (answer.value?.outcome !== "CREATED") throw new Error(JSON.stringify(answer));
    await root.close();
  `;
  const call = JSON.stringify(reserveCall(externalId));
  execFileSync(process.execPath, [
    "--input-type=module",
    "--eval",
    program,
    join(folder, "s"),
    opened.instance,
    call,
  ]);
}

const where = { scopes: ["acme"] };
const everything = { ...where, live: true, archived: false };

it.each<[string, (store: LmdbStore) => unknown, unknown, unknown]>([
  ["byKey", async (store) => (await store.byKey(key("second")))?.row.generation, undefined, 1],
  [
    "byId",
    async (store) => (await store.byId({ kind: "session-id", id: "id of second" }, where, 9)).length,
    0,
    1,
  ],
  ["list", async (store) => (await store.list(everything, undefined, 9)).length, 1, 2],
  ["revision", (store) => store.revision(), 1, 2],
  ["changes", async (store) => (await store.changes(0, 9)).length, 1, 2],
  ["liveSessions", (store) => store.liveSessions(), 1, 2],
  [
    "prune",
    async (store) => {
      const call = { ...everything, purge: false, dryRun: true, maxSessions: 1, nowMs: 2_000 };
      return (await store.prune(call, async () => {})).archived;
    },
    0,
    1,
  ],
])("%s, in the same turn of the event loop as a read before it", async (_, read, before, after) => {
  const { store } = opened;
  expect(await read(store)).toBe(before);
  // A write of its own gave this thread a new snapshot; this read opens one that will be old.
  await store.byKey(key("first"));
  // No timer and no immediate of this process runs in between.
  reserveElsewhere("second");
  expect(await read(store)).toBe(after);
});
