import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Reservation } from "../../sessions/reservation.js";
import type { ReserveCall } from "../../sessions/session-store.js";
import { DamagedStore } from "./marker.js";
import { type OpenedStore, openStore } from "./open.js";
import { StoreInUse } from "./owner.js";

let folder: string;
let opened: OpenedStore[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
});

afterEach(async () => {
  for (const store of opened) await store[Symbol.asyncDispose]();
  opened = [];
  rmSync(folder, { recursive: true });
});

async function open(writer: "thread" | "inline"): Promise<OpenedStore> {
  const onLost = (error: Error) => {
    throw error;
  };
  const store = await openStore({ path: join(folder, "s"), now: Date.now, writer, onLost });
  opened.push(store);
  return store;
}

async function close(store: OpenedStore): Promise<void> {
  opened = opened.filter((other) => other !== store);
  await store[Symbol.asyncDispose]();
}

function reserveCall(externalId: string, more: Partial<Reservation> = {}, nowMs = 1_000): ReserveCall {
  return {
    reservation: {
      key: { scope: "acme", externalId, provider: "echo" },
      aliases: [],
      internal: false,
      scopeResetPolicy: {},
      workspace: "",
      labels: {},
      ...more,
    },
    nowMs,
    clockBelieved: true,
    newSessionId: crypto.randomUUID(),
  };
}

const nothingPending = async () => {};

describe.each(["thread", "inline"] as const)("the store, writing %s", (writer) => {
  it("gives one id to a key reserved many times at once", async () => {
    const { store } = await open(writer);
    const calls = Array.from({ length: 300 }, (_, i) => store.reserve(reserveCall(`chat-${i % 3}`)));
    const answers = await Promise.all(calls);
    const created = answers.filter((answer) => answer.kind === "reserved" && answer.outcome === "CREATED");
    const ids = new Set(answers.map((answer) => answer.kind === "reserved" && answer.view.row.sessionId));
    expect(created).toHaveLength(3);
    expect(ids.size).toBe(3);
  });

  it("keeps rows and every index across opening again", async () => {
    const first = await open(writer);
    const answer = await first.store.reserve(reserveCall("chat", { aliases: ["other name"] }));
    if (answer.kind !== "reserved") throw new Error("not reserved");
    const { sessionId } = answer.view.row;
    await close(first);
    const { store } = await open(writer);
    const where = { scopes: ["acme"] };
    expect((await store.byKey({ scope: "acme", externalId: "chat", provider: "echo" }))?.row).toEqual(
      answer.view.row,
    );
    for (const query of [
      { kind: "session-id", id: sessionId },
      { kind: "short-id", id: sessionId.slice(0, 8) },
      { kind: "alias", id: "other name" },
    ] as const) {
      expect((await store.byId(query, where, 10)).map(({ row }) => row.sessionId)).toEqual([sessionId]);
      expect(await store.byId(query, { scopes: ["other/*"] }, 10)).toEqual([]);
      expect(await store.byId(query, { scopes: ["*"] }, 10)).toHaveLength(1);
    }
  });
});

describe("the store", () => {
  it("counts the sessions that are not archived", async () => {
    const { store } = await open("inline");
    for (const chat of ["a", "b", "c"]) await store.reserve(reserveCall(chat));
    const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });
    const onKey = (externalId: string) => ({
      selector: { kind: "key" as const, key: key(externalId) },
      nowMs: 2_000,
    });
    expect(store.liveSessions()).toBe(3);
    await store.reset({ ...onKey("a"), newSessionId: "next" });
    expect(store.liveSessions()).toBe(3);
    await store.remove(onKey("b"));
    expect(store.liveSessions()).toBe(2);
    const criteria = {
      scopes: ["*"],
      live: true,
      archived: false,
      purge: false,
      dryRun: false,
      nowMs: 9_000_000,
    };
    await store.prune({ ...criteria, olderThanMs: 1_000 }, async () => {});
    expect(store.liveSessions()).toBe(0);
    await store.reserve(reserveCall("c", {}, 9_000_000));
    expect(store.liveSessions()).toBe(1);
  });

  it.each(["thread", "inline"] as const)(
    "takes nothing more once it is closing, writing %s",
    async (writer) => {
      // What is told as lost fails the test.
      const opening = await open(writer);
      const { store } = opening;
      const before = store.reserve(reserveCall("before"));
      const closed = close(opening);
      await expect(store.reserve(reserveCall("after"))).rejects.toMatchObject({ reason: "STORE_BUSY" });
      expect((await before).kind).toBe("reserved");
      await closed;
      const again = await open(writer);
      const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });
      expect(await again.store.byKey(key("before"))).toBeDefined();
      expect(await again.store.byKey(key("after"))).toBeUndefined();
    },
  );

  it("refuses a second opening and names the process that has it", async () => {
    await open("inline");
    await expect(open("inline")).rejects.toThrow(StoreInUse);
    await expect(open("inline")).rejects.toThrow(`process ${process.pid}`);
  });

  it("moves platform aliases to a new generation and leaves the old one reachable by id", async () => {
    const { store } = await open("inline");
    const first = await store.reserve(reserveCall("chat", { aliases: ["a"] }));
    const second = await store.reserve(reserveCall("chat", { scopeResetPolicy: { idleMs: 10 } }, 2_000));
    if (first.kind !== "reserved" || second.kind !== "reserved") throw new Error("not reserved");
    expect(second).toMatchObject({ outcome: "ROTATED", reason: "IDLE" });
    const where = { scopes: ["acme"] };
    const old = await store.byId({ kind: "session-id", id: first.view.row.sessionId }, where, 10);
    expect(old[0]?.row).toMatchObject({ archived: "rotated", generation: 1 });
    const named = await store.byId({ kind: "alias", id: "a" }, where, 10);
    expect(named.map(({ row }) => row.sessionId)).toEqual([second.view.row.sessionId]);
  });

  it("refuses an alias that names another session, and writes nothing", async () => {
    const { store } = await open("inline");
    await store.reserve(reserveCall("one", { aliases: ["a"] }));
    expect(await store.reserve(reserveCall("two", { aliases: ["a"] }))).toMatchObject({
      reason: "ALIAS_TAKEN",
    });
    expect(await store.byKey({ scope: "acme", externalId: "two", provider: "echo" })).toBeUndefined();
  });

  it("lists by activity over scopes and providers, each row on one page", async () => {
    const { store } = await open("inline");
    for (let i = 0; i < 25; i++) {
      const key = { scope: `s${i % 3}`, externalId: `chat-${i}`, provider: i % 2 ? "echo" : "claude" };
      await store.reserve(reserveCall("", { key }, 1_000 + (i % 5)));
    }
    const filter = { scopes: ["*"], live: true, archived: false };
    const seen: string[] = [];
    let stamps: number[] = [];
    let after: Parameters<typeof store.list>[1];
    for (;;) {
      const page = await store.list(filter, after, 4);
      seen.push(...page.map(({ row }) => row.key.externalId));
      stamps = [...stamps, ...page.map(({ row }) => row.lastActivityMs)];
      const last = page.at(-1)?.row;
      if (last === undefined) break;
      after = {
        lastActivityMs: last.lastActivityMs,
        key: last.key,
        archived: false,
        recordNo: last.recordNo,
      };
    }
    expect(seen).toHaveLength(25);
    expect(new Set(seen).size).toBe(25);
    expect(stamps).toEqual([...stamps].sort((a, b) => b - a));
  });

  it("archives by idle time, says so at the next reservation, and purges for good", async () => {
    const { store } = await open("inline");
    await store.reserve(reserveCall("old"));
    await store.reserve(reserveCall("new", {}, 9_000));
    const call = { scopes: ["*"], live: true, archived: false, purge: false, dryRun: false, nowMs: 10_000 };
    const dry = await store.prune({ ...call, olderThanMs: 5_000, dryRun: true }, nothingPending);
    expect(dry.rows.map(({ row, reason }) => [row.key.externalId, reason])).toEqual([["old", "IDLE"]]);
    expect(await store.prune({ ...call, olderThanMs: 5_000 }, nothingPending)).toMatchObject({
      archived: 1,
      purged: 0,
    });
    expect(await store.reserve(reserveCall("old"))).toMatchObject({ outcome: "ROTATED", reason: "PRUNED" });
    const purge = { ...call, archived: true, purge: true, olderThanMs: 1 };
    expect(await store.prune(purge, nothingPending)).toMatchObject({ purged: 3 });
    expect(await store.reserve(reserveCall("old"))).toMatchObject({ outcome: "CREATED", reason: "PURGED" });
  });

  it("refuses a data file in which a table is missing", async () => {
    await close(await open("inline"));
    const other = join(folder, "other");
    const stranger = openLmdb({ path: other, encoding: "binary" });
    await stranger.openDB({ name: "sessions", encoding: "binary" }).put("a", Buffer.from("b"));
    await stranger.close();
    copyFileSync(join(other, "data.mdb"), join(folder, "s", "data.mdb"));
    await expect(open("inline")).rejects.toThrow(DamagedStore);
  });

  it("refuses a row whose bytes were changed", async () => {
    const first = await open("inline");
    await first.store.reserve(reserveCall("chat", { labels: { marker: "untouched-value" } }));
    await close(first);
    const file = join(folder, "s", "data.mdb");
    const bytes = readFileSync(file);
    for (let at = bytes.indexOf("untouched-value"); at >= 0; at = bytes.indexOf("untouched-value", at + 1))
      bytes[at] = 0x55;
    writeFileSync(file, bytes);
    const { store } = await open("inline");
    await expect(store.byKey({ scope: "acme", externalId: "chat", provider: "echo" })).rejects.toMatchObject({
      reason: "STORE_DAMAGED",
    });
  });

  it.each([
    ["cut off", (file: string) => truncateSync(file, 100)],
    ["emptied", (file: string) => truncateSync(file, 0)],
    ["replaced by text", (file: string) => writeFileSync(file, "not a database at all ".repeat(1000))],
    ["removed", (file: string) => rmSync(file)],
    ["cut in half", (file: string) => truncateSync(file, 8192)],
  ])("refuses a data file that was %s", async (_, damage) => {
    const first = await open("inline");
    await first.store.reserve(reserveCall("chat"));
    await close(first);
    damage(join(folder, "s", "data.mdb"));
    await expect(open("inline")).rejects.toThrow(DamagedStore);
  });
});
