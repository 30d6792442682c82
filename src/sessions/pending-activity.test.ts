import { expect, test } from "vitest";
import { PendingActivity, restMs } from "./pending-activity.js";
import { noUsage, type SessionRow } from "./session.js";

const key = { scope: "s", externalId: "chat", provider: "echo" };
const row: SessionRow = {
  recordNo: 1,
  key,
  sessionId: "id",
  nativeState: "unbound",
  generation: 1,
  createdAtMs: 1_000,
  startedAtMs: 1_000,
  lastActivityMs: 1_000,
  turnCount: 0,
  usage: noUsage,
  agentTotal: {},
  workspace: "",
  pinned: false,
  aliases: [],
  labels: {},
  revision: 1,
};

test("counts until it is written, and is due a minute after what is on disk", async () => {
  const activity = new PendingActivity();
  activity.note(row, undefined, 5_000);
  const written: number[] = [];
  const touch = async (due: readonly { atMs: number }[]) => void written.push(...due.map(({ atMs }) => atMs));
  await activity.writeDue(touch, 60_999);
  expect(written).toEqual([]);
  expect(activity.of(key)).toBe(5_000);
  await activity.writeDue(touch, 61_000);
  expect(written).toEqual([5_000]);
  expect(activity.of(key)).toBeUndefined();
});

test("is due after a tenth of a short idle time", async () => {
  const activity = new PendingActivity();
  activity.note(row, 100_000, 5_000);
  const written: number[] = [];
  await activity.writeDue(async (due) => void written.push(due.length), 11_000);
  expect(written).toEqual([1]);
});

test("a write that fails forgets nothing", async () => {
  const activity = new PendingActivity();
  activity.note(row, undefined, 5_000);
  const full = new Error("disk full");
  await expect(activity.write(() => Promise.reject(full))).rejects.toBe(full);
  expect(activity.of(key)).toBe(5_000);
  const written: number[] = [];
  await activity.write(async (due) => void written.push(due.length));
  expect(written).toEqual([1]);
});

test("what is noted while older activity is being written waits for the next time", async () => {
  const activity = new PendingActivity();
  activity.note(row, undefined, 5_000);
  await activity.write(async () => activity.note(row, undefined, 9_000));
  expect(activity.of(key)).toBe(9_000);
  const written: number[] = [];
  const touch = async (due: readonly unknown[]) => void written.push(due.length);
  await activity.writeDue(touch, 64_999);
  expect(written).toEqual([]);
  await activity.writeDue(touch, 65_000);
  expect(written).toEqual([1]);
});

test("what is due goes a few sessions at a time, and everything goes at once", async () => {
  const activity = new PendingActivity();
  const chats = Array.from({ length: 40 }, (_, n) => ({ ...key, externalId: `chat-${n}` }));
  for (const chat of chats) activity.note({ ...row, key: chat }, undefined, 70_000);
  const sizes: number[] = [];
  const failing = async (due: readonly unknown[]) => {
    if (sizes.push(due.length) === 3) throw new Error("disk full");
  };
  await expect(activity.writeDue(failing, 70_000)).rejects.toThrow("disk full");
  expect(sizes).toEqual([16, 16, 8]);
  expect(chats.filter((chat) => activity.of(chat) !== undefined)).toEqual(chats.slice(32));
  for (const chat of chats) activity.note({ ...row, key: chat }, undefined, 80_000);
  await activity.write(async (due) => void sizes.push(due.length));
  expect(sizes).toEqual([16, 16, 8, 40]);
});

test.each([
  { what: "a piece that took 3 ms, early", tookMs: 3, sinceMs: 3, part: 0.01, rest: 12 },
  { what: "the next one", tookMs: 3, sinceMs: 18, part: 0.02, rest: 12 },
  { what: "no more than the round has time for", tookMs: 3, sinceMs: 195, part: 0.01, rest: 5 },
  { what: "not when the round is late", tookMs: 3, sinceMs: 201, part: 0.01, rest: 0 },
  { what: "not when there are very many", tookMs: 3, sinceMs: 3, part: 16 / 1_000_000, rest: 0 },
])("rests after $what", ({ tookMs, sinceMs, part, rest }) => {
  expect(restMs(tookMs, sinceMs, part)).toBeCloseTo(rest);
});

test("what is due waits for the end of the process once it is stopping", async () => {
  const activity = new PendingActivity();
  const chats = Array.from({ length: 40 }, (_, n) => ({ ...key, externalId: `chat-${n}` }));
  for (const chat of chats) activity.note({ ...row, key: chat }, undefined, 70_000);
  const stopping = new AbortController();
  const sizes: number[] = [];
  const touch = async (due: readonly unknown[]) => {
    sizes.push(due.length);
    stopping.abort();
  };
  await activity.writeDue(touch, 70_000, stopping.signal);
  expect(sizes).toEqual([16]);
  await activity.write(touch);
  expect(sizes).toEqual([16, 24]);
});

test("others are served while many are looked through, and what they note is for the next time", async () => {
  const activity = new PendingActivity();
  const note = (n: number, nowMs: number) =>
    activity.note({ ...row, key: { ...key, externalId: `chat-${n}` } }, undefined, nowMs);
  for (let n = 0; n < 20_000; n++) note(n, 5_000);
  let rounds = 0;
  const count = () => {
    rounds += 1;
    note(20_000 + rounds, 70_000);
    waiting = setImmediate(count);
  };
  let waiting = setImmediate(count);
  const written: string[] = [];
  const touch = async (due: readonly { key: { externalId: string } }[]) =>
    void written.push(...due.map((each) => each.key.externalId));
  await activity.writeDue(touch, 60_000);
  expect(written).toEqual([]);
  const before = rounds;
  expect(before).toBeGreaterThanOrEqual(9);
  await activity.writeDue(touch, 70_000);
  clearImmediate(waiting);
  expect(rounds).toBeGreaterThan(before);
  expect(written).toHaveLength(20_000 + before);
});
