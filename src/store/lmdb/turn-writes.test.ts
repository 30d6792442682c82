/** A write for a turn has to name the fence that the turn was granted, and to come before its ending. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, expect, it } from "vitest";
import { noUsage, type SessionRow } from "../../sessions/session.js";
import type { TurnEndCall } from "../../turns/turn-store.js";
import { encodeSession } from "./codec.js";
import { type OpenedStore, openStore } from "./open.js";
import { environmentOptions } from "./schema.js";
import { sessionKey, Tables } from "./tables.js";

const key = { scope: "acme", externalId: "chat", provider: "echo" };
const terminal = { sequence: 2, event: new Uint8Array([1]) };

let folder: string;
let opened: OpenedStore;

function onLost(error: Error): void {
  throw error;
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
  opened = await openStore({ path: join(folder, "s"), now: Date.now, writer: "inline", onLost });
});

afterEach(async () => {
  await opened[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

async function admit(turnId: string): Promise<number> {
  const rest = { aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} };
  const admission = await opened.store.admit({
    reserve: {
      reservation: { key, ...rest },
      nowMs: 1_000,
      clockBelieved: true,
      newSessionId: crypto.randomUUID(),
    },
    identity: { storeKey: key.externalId, requestKey: key.externalId, agent: "" },
    turnId,
    clientChoseId: true,
    payloadHash: new Uint8Array([1]),
    credential: "c",
    grant: "acme",
    cancelOnDisconnect: false,
    onConflict: "ENQUEUE",
    mergeKey: "",
    canSteer: false,
    external: false,
    queueDeadlineMs: 2_000,
    maxWaitingInSession: 10,
    labels: {},
    request: new Uint8Array([1]),
  });
  if (admission.kind !== "admitted") throw new Error(admission.kind);
  return admission.turn.turnNo;
}

async function grant(turnNo: number): Promise<number> {
  const granted = await opened.store.grant({ turnNo, nowMs: 1_000, reserveThrough: 10 });
  if (granted?.turn.fence === undefined) throw new Error("not granted");
  return granted.turn.fence;
}

/** Every write for a turn, with what it answered. */
async function writes(turnNo: number, fence: number): Promise<boolean[]> {
  const { store } = opened;
  return [
    await store.bindNative({ turnNo, fence, nativeId: "overtaken" }),
    await store.retry({ turnNo, fence, attempt: 2, newNativeId: "overtaken" }),
    await store.append({ turnNo, fence, entries: [terminal], reserveThrough: 20 }),
    await store.end(ending(turnNo, fence)),
  ];
}

function ending(turnNo: number, fence: number): TurnEndCall {
  return {
    turnNo,
    fence,
    state: "COMPLETED",
    entries: [terminal],
    endedAtMs: 9_000,
    usage: noUsage,
    native: { id: "overtaken", state: "bound" },
  };
}

it("another fence than the turn's changes nothing", async () => {
  const turnNo = await admit("one");
  const fence = await grant(turnNo);
  const before = [await opened.store.byTurnNo(turnNo), await opened.store.byKey(key)];
  for (const other of [fence - 1, fence + 1]) {
    expect(await writes(turnNo, other)).toEqual([false, false, false, false]);
  }
  expect([await opened.store.byTurnNo(turnNo), await opened.store.byKey(key)]).toEqual(before);
  await end(turnNo, fence);
});

it("after the ending its own fence changes nothing, while the next turn has the lane", async () => {
  const first = await admit("one");
  const fence = await grant(first);
  await end(first, fence);
  const second = await admit("two");
  expect(await grant(second)).toBe(fence + 1);
  const before = [await opened.store.byTurnNo(first), await opened.store.byKey(key)];
  expect(await writes(first, fence)).toEqual([false, false, false, false]);
  expect([await opened.store.byTurnNo(first), await opened.store.byKey(key)]).toEqual(before);
});

it("a turn that only waits has no fence, and takes no write", async () => {
  const turnNo = await admit("one");
  expect(await writes(turnNo, 0)).toEqual([false, false, false, false]);
});

/** Of a turn that the agent answered. */
async function end(turnNo: number, fence: number): Promise<void> {
  const { native: _none, ...plain } = ending(turnNo, fence);
  expect(await opened.store.end(plain)).toBe(true);
}

/** As readers see it: what the row says of the lane, and what is found in it. */
async function lane() {
  const view = await opened.store.byKey(key);
  return { used: view?.row.laneUsed === true, ...view?.lane };
}

const free = { used: false, queuedTurns: 0 };

it("a row says that its lane is in use, as long as turns run or wait in it", async () => {
  const first = await admit("first");
  const second = await admit("second");
  expect(await lane()).toEqual({ used: true, queuedTurns: 2 });
  const fence = await grant(first);
  expect(await lane()).toEqual({ used: true, runningTurnId: "first", fence, queuedTurns: 1 });
  await end(first, fence);
  expect(await lane()).toEqual({ used: true, queuedTurns: 1 });
  await end(second, await grant(second));
  expect(await lane()).toEqual(free);
});

it("a store of the version before is told which lanes are in use", async () => {
  const turnNo = await admit("first");
  const fence = await grant(turnNo);
  await opened[Symbol.asyncDispose]();
  const path = join(folder, "s");
  const root = openLmdb(environmentOptions(path));
  const tables = new Tables(root, path);
  const { laneUsed: _used, ...row } = tables.current(key) ?? {};
  tables.put("sessions", sessionKey(key), encodeSession(row as SessionRow));
  await root.close();
  const marker = JSON.parse(readFileSync(join(path, "store.json"), "utf8"));
  writeFileSync(join(path, "store.json"), JSON.stringify({ ...marker, schemaVersion: 2 }));

  opened = await openStore({ path, now: Date.now, writer: "inline", onLost });
  expect(await lane()).toEqual({ used: true, runningTurnId: "first", fence, queuedTurns: 0 });
  await end(turnNo, fence);
  expect(await lane()).toEqual(free);
});
