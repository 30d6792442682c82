/** Rows and their indexes on disk: what is verified, how long keys may be, and what a deletion leaves. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Reservation } from "../../sessions/reservation.js";
import type { ReserveCall } from "../../sessions/session-store.js";
import { addIdEntry } from "./ids.js";
import { type OpenedStore, openStore } from "./open.js";
import { type DatabaseName, databaseNames, environmentOptions } from "./schema.js";
import { Tables } from "./tables.js";

let folder: string;
let opened: OpenedStore | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
  await open();
});

afterEach(async () => {
  await opened?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

async function open() {
  const onLost = (error: Error) => {
    throw error;
  };
  opened = await openStore({ path: join(folder, "s"), now: Date.now, writer: "inline", onLost });
  return opened.store;
}

/** The closed store's tables, past all rules. */
async function inside<T>(act: (tables: Tables) => T): Promise<T> {
  await opened?.[Symbol.asyncDispose]();
  opened = undefined;
  const path = join(folder, "s");
  const root = openLmdb(environmentOptions(path));
  try {
    return root.transactionSync(() => act(new Tables(root, path)));
  } finally {
    await root.close();
  }
}

const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });

function reserveCall(reservation: Partial<Reservation>, sessionId?: string): ReserveCall {
  return {
    reservation: {
      key: key("chat"),
      aliases: [],
      internal: false,
      scopeResetPolicy: {},
      workspace: "",
      labels: {},
      ...(sessionId === undefined ? {} : { sessionId }),
      ...reservation,
    },
    nowMs: 1_000,
    clockBelieved: true,
    newSessionId: crypto.randomUUID(),
  };
}

it("an index entry counts only if the row has the id", async () => {
  await opened?.store.reserve(reserveCall({ aliases: ["right"] }));
  await inside((tables) => {
    const owner = (externalId: string, recordNo: number) => ({ externalId, provider: "echo", recordNo });
    for (const code of ["s", "n", "a"] as const) {
      addIdEntry(tables, { id: ["acme", code, "wrong"], owner: owner("chat", 1) });
      addIdEntry(tables, { id: ["acme", code, "right"], owner: owner("gone", 2) });
    }
  });
  const store = await open();
  const where = { scopes: ["acme"] };
  for (const kind of ["session-id", "native-id", "alias"] as const) {
    expect(await store.byId({ kind, id: "wrong" }, where, 9)).toEqual([]);
  }
  expect(await store.byId({ kind: "short-id", id: "wrong" }, where, 9)).toEqual([]);
  expect(await store.byId({ kind: "alias", id: "right" }, where, 9)).toHaveLength(1);
});

it("the longest key with the longest ids is kept whole", async () => {
  const longest = (unit: string, bytes: number) => unit.repeat(bytes / Buffer.byteLength(unit));
  const long = (end: string) => ({
    scope: longest("s", 128),
    externalId: `${longest("é", 1022)}${end}`,
    provider: longest("p", 64),
  });
  const store = opened?.store;
  const ids = new Set<string>();
  for (const end of ["xx", "xy"]) {
    const reserved = await store?.reserve(
      reserveCall({ key: long(end), aliases: [`${longest("ä", 510)}${end}`] }, longest("😀", 512)),
    );
    if (reserved?.kind !== "reserved") throw new Error("not reserved");
    expect(reserved.view.row.key).toEqual(long(end));
    const where = { scopes: [long(end).scope] };
    const bound = await store?.bind({
      selector: { kind: "key", key: long(end) },
      binding: {
        nativeId: longest("n", 254) + end,
        aliases: [],
        expectedGeneration: 1,
        expectedNativeId: "",
      },
      callerScopes: ["*"],
      nowMs: 2_000,
    });
    expect(bound).toMatchObject({ row: { key: long(end) } });
    for (const query of [
      { kind: "alias", id: `${longest("ä", 510)}${end}` },
      { kind: "native-id", id: longest("n", 254) + end },
    ] as const) {
      const found = await store?.byId(query, where, 9);
      expect(found?.map(({ row }) => row.key)).toEqual([long(end)]);
    }
    ids.add((await store?.byKey(long(end)))?.row.key.externalId ?? "");
  }
  expect(ids.size).toBe(2);
});

it("what was deleted leaves a tombstone of its key and nothing else", async () => {
  const before = await inside(countEntries);
  const store = await open();
  await store.reserve(reserveCall({ aliases: ["a", "b"], labels: { c: "d" } }));
  await store.bind({
    selector: { kind: "key", key: key("chat") },
    binding: { nativeId: "n", aliases: [], expectedGeneration: 1, expectedNativeId: "" },
    callerScopes: ["*"],
    nowMs: 2_000,
  });
  const removed = await store.remove({ selector: { kind: "key", key: key("chat") }, nowMs: 3_000 });
  expect(removed.kind).toBe("removed");
  const after = await inside(countEntries);
  const kept = { changes: 3, tombstones: 1 };
  expect(after).toEqual({ ...before, ...kept, meta: after.meta });
});

function countEntries(tables: Tables): Record<string, number> {
  const names = Object.keys(databaseNames) as DatabaseName[];
  return Object.fromEntries(names.map((name) => [name, [...tables.all(name)].length]));
}
