import { expect, test } from "vitest";
import { PendingActivity } from "./pending-activity.js";
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
  await activity.write(touch, 60_999);
  expect(written).toEqual([]);
  expect(activity.of(key)).toBe(5_000);
  await activity.write(touch, 61_000);
  expect(written).toEqual([5_000]);
  expect(activity.of(key)).toBeUndefined();
});

test("is due after a tenth of a short idle time", async () => {
  const activity = new PendingActivity();
  activity.note(row, 100_000, 5_000);
  const written: number[] = [];
  await activity.write(async (due) => void written.push(due.length), 11_000);
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
  await activity.write(touch, 64_999);
  expect(written).toEqual([]);
  await activity.write(touch, 65_000);
  expect(written).toEqual([1]);
});
