/** Who may open and write a store. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { sealJson } from "./codec.js";
import { type OpenedStore, openStore } from "./open.js";
import { type Owner, OwnershipLost, readOwner, StoreInUse } from "./owner.js";
import { environmentOptions } from "./schema.js";
import { Tables } from "./tables.js";

const nowMs = Date.UTC(2026, 0, 1);

let folder: string;
let path: string;
let opened: OpenedStore | undefined;
let lost: Error[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
  path = join(folder, "s");
  lost = [];
  await open();
});

afterEach(async () => {
  vi.useRealTimers();
  await close();
  rmSync(folder, { recursive: true });
});

async function open(): Promise<OpenedStore> {
  opened = await openStore({
    path,
    now: () => nowMs,
    writer: "inline",
    onLost: (error) => lost.push(error),
  });
  return opened;
}

async function close(): Promise<void> {
  await opened?.[Symbol.asyncDispose]();
  opened = undefined;
}

/** The store's tables, past all rules. */
async function inside<T>(act: (tables: Tables) => T): Promise<T> {
  const root = openLmdb(environmentOptions(path));
  try {
    return root.transactionSync(() => act(new Tables(root, path)));
  } finally {
    await root.close();
  }
}

const own = (owner: Owner) => inside((tables) => tables.put("meta", "owner", sealJson(owner)));
const owner = () => inside(readOwner);

const here: Owner = {
  instance: "another",
  bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
  pidNamespace: readlinkSync("/proc/self/ns/pid"),
  pid: process.pid,
  processStart: startOf("self"),
  heartbeatMs: nowMs,
};

function startOf(pid: number | "self"): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
}

/** A pid that no process has any more. */
const gone = spawnSync("true").pid;

describe("a store whose owner", () => {
  const elsewhere = { ...here, pidNamespace: "pid:[1]" };
  const rebooted = { ...here, bootId: "another boot" };
  const silent = (ms: number) => ({ heartbeatMs: nowMs - ms });

  it.each<[string, "taken" | "in use", Owner]>([
    ["runs here", "in use", here],
    ["runs here, however long it was silent", "in use", { ...here, ...silent(3_600_000) }],
    ["ran here and is gone, however short ago", "taken", { ...here, pid: gone }],
    ["ran here, and its pid is another process since", "taken", { ...here, processStart: 1 }],
    ["runs in another container and was heard of", "in use", { ...elsewhere, ...silent(15_000) }],
    ["runs in another container with a pid that is free here", "in use", { ...elsewhere, pid: gone }],
    ["ran in another container and is silent", "taken", { ...elsewhere, ...silent(15_001) }],
    ["was heard of before the machine was started anew", "in use", { ...rebooted, ...silent(15_000) }],
    ["is silent since the machine was started anew", "taken", { ...rebooted, ...silent(15_001) }],
    ["has a clock far ahead", "taken", { ...elsewhere, ...silent(-60_000) }],
  ])("%s is %s", async (_, expected, present) => {
    await close();
    await own(present);
    if (expected === "in use") {
      await expect(open()).rejects.toThrow(StoreInUse);
      expect(await owner()).toEqual(present);
    } else {
      const { instance } = await open();
      expect(await owner()).toMatchObject({ instance, pid: process.pid, heartbeatMs: nowMs });
    }
  });

  it("closed it in order is free", async () => {
    await close();
    expect(await owner()).toBeUndefined();
  });
});

describe("an owner", () => {
  it("is heard of every five seconds", async () => {
    await close();
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    await open();
    await own({ ...here, instance: opened?.instance ?? "", heartbeatMs: 0 });
    await vi.advanceTimersByTimeAsync(4_999);
    expect((await owner())?.heartbeatMs).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    await vi.waitFor(async () => expect((await owner())?.heartbeatMs).toBe(nowMs));
  });

  it("that was replaced writes nothing more, says so once, and leaves the store to the other", async () => {
    const store = opened?.store;
    await own(here);
    const touched = () => store?.expire(nowMs);
    await expect(touched()).rejects.toThrow(OwnershipLost);
    await expect(touched()).rejects.toThrow(OwnershipLost);
    expect(lost).toEqual([expect.any(OwnershipLost)]);
    await close();
    expect(await owner()).toEqual(here);
  });
});

it("each opening advances the fence on disk", async () => {
  const fence = () => inside((tables) => tables.counters().fence);
  const first = await fence();
  await close();
  await open();
  expect(await fence()).toBe(first + 1);
});
