import { describe, expect, it } from "vitest";
import type { CommandAnswer } from "./commands.js";
import type { Batch, BatchDone } from "./committer.js";
import { OwnershipLost } from "./owner.js";
import { type BatchRunner, Writer } from "./writer.js";

/** A runner whose batches end, in order, when the test says so. */
function stepped() {
  const batches: Batch[] = [];
  const running: ((done: BatchDone) => void)[] = [];
  const runner: BatchRunner = {
    run: (batch) => {
      batches.push(batch);
      return new Promise((resolve) => running.push(resolve));
    },
    close: async () => {},
  };
  const lost: Error[] = [];
  const end = async (answers: readonly CommandAnswer[], committed: boolean) => {
    running.shift()?.({ answers, committed });
    await settled();
  };
  return {
    batches,
    lost,
    writer: new Writer(runner, (error) => lost.push(error)),
    answer: (...answers: readonly CommandAnswer[]) => end(answers, true),
    /** In the log alone. */
    log: (...answers: readonly CommandAnswer[]) => end(answers, false),
  };
}

/** All that only waits for promises, or for the end of a round, has happened. */
const settled = async () => {
  for (let round = 0; round < 3; round++) await new Promise((resolve) => setImmediate(resolve));
};
const done: CommandAnswer = { value: true };

/** The answer to a reservation of a key that nobody had. */
function created(externalId: string) {
  const row = {
    key: { scope: "acme", externalId, provider: "echo" },
    sessionId: `id of ${externalId}`,
    aliases: [{ id: `alias of ${externalId}`, kind: "platform" }],
  };
  return { value: { kind: "reserved", outcome: "CREATED", view: { row, lane: { queuedTurns: 0 } } } };
}

describe("the writer", () => {
  it("hands over together what is asked for in one round of the event loop, and waits for nothing", async () => {
    const { writer, batches, answer } = stepped();
    const heartbeat = (atMs: number) => writer.run("heartbeat", atMs);
    const all = [heartbeat(1), heartbeat(2)];
    await settled();
    all.push(heartbeat(3));
    await settled();
    expect(batches.map((batch) => batch.map(({ input }) => input))).toEqual([[1, 2], [3]]);
    await answer(done, done);
    await answer(done);
    await Promise.all(all);
  });

  it("hands over new sessions in pieces of 16, and all that is asked for with something else at once", async () => {
    const { writer, batches } = stepped();
    const reserve = () => void writer.run("reserve", {} as never);
    for (let i = 0; i < 40; i++) reserve();
    await settled();
    expect(batches.map(({ length }) => length)).toEqual([16, 16, 8]);
    for (let i = 0; i < 20; i++) reserve();
    void writer.run("heartbeat", 1);
    for (let i = 0; i < 20; i++) reserve();
    await settled();
    expect(batches.slice(3).map(({ length }) => length)).toEqual([41]);
    expect(batches[3]?.[20]?.name).toBe("heartbeat");
  });

  it("knows the sessions that are in the log alone until something is committed", async () => {
    const { writer, batches, log, answer } = stepped();
    const { uncommitted } = writer;
    const key = { scope: "acme", externalId: "one", provider: "echo" };
    const reserved = writer.run("reserve", {} as never);
    await settled();
    await log(created("one"));
    await reserved;
    expect(uncommitted.byKey(key)?.row.sessionId).toBe("id of one");
    expect(uncommitted.byKey({ ...key, externalId: "two" })).toBeUndefined();
    const owns = (kind: "session-id" | "alias" | "native-id" | "short-id", id: string) =>
      uncommitted.mayOwn({ kind, id });
    expect([owns("session-id", "id of one"), owns("alias", "alias of one")]).toEqual([true, true]);
    expect([owns("native-id", "other"), owns("short-id", "12345678")]).toEqual([false, true]);

    const settle = writer.settled();
    await settled();
    expect(batches.at(-1)).toEqual([{ name: "settle", input: undefined }]);
    await answer(done);
    await settle;
    expect([uncommitted.size, uncommitted.byKey(key), owns("alias", "alias of one")]).toEqual([
      0,
      undefined,
      false,
    ]);
    await writer.settled();
    expect(batches).toHaveLength(2);
  });

  it("has what is in the log alone committed by itself", async () => {
    const { writer, batches, log, answer } = stepped();
    const reserved = writer.run("reserve", {} as never);
    await settled();
    await log(created("one"));
    await reserved;
    await expect.poll(() => batches.length).toBe(2);
    expect(batches.at(-1)).toEqual([{ name: "settle", input: undefined }]);
    // It fails, and is tried again.
    await log({ failure: { kind: "full", message: "the disk is full" } });
    await expect.poll(() => batches.length, { timeout: 10_000 }).toBe(3);
    await answer(done);
    expect(writer.uncommitted.size).toBe(0);
  });

  it("has it committed although there is always something to be done", async () => {
    const { writer, batches, log, answer } = stepped();
    const calls = [writer.run("reserve", {} as never)];
    await settled();
    calls.push(writer.run("heartbeat", 1) as never);
    await settled();
    await log(created("one"));
    await expect.poll(() => batches.length).toBe(3);
    expect(batches.at(-1)).toEqual([{ name: "settle", input: undefined }]);
    await answer(done);
    await answer(done);
    await Promise.all(calls);
    expect(writer.uncommitted.size).toBe(0);
  });

  it("wakes those who watch at a commit, and not before", async () => {
    const { writer, log, answer } = stepped();
    const woken: string[] = [];
    const watching = writer.written(new AbortController().signal).then(() => woken.push("written"));
    const calls = [writer.run("reserve", {} as never)];
    await settled();
    calls.push(writer.run("reserve", {} as never));
    await settled();
    await log(created("one"));
    expect(woken).toEqual([]);
    await answer(created("two"));
    expect(woken).toEqual(["written"]);
    await Promise.all([...calls, watching]);
  });

  it("gives each command its own answer", async () => {
    const { writer, answer } = stepped();
    const calls = [writer.run("heartbeat", 1), writer.run("heartbeat", 2), writer.run("heartbeat", 3)];
    const ends = Promise.allSettled(calls);
    await settled();
    await answer(
      { value: "one" },
      { failure: { kind: "failed", message: "two" } },
      { failure: { kind: "damaged", message: "three" } },
    );
    expect(await ends).toMatchObject([
      { value: "one" },
      { reason: { message: "two" } },
      { reason: { reason: "STORE_DAMAGED" } },
    ]);
  });

  it.each([
    ["lost", OwnershipLost],
    ["broken", Error],
  ] as const)("says that a store that is %s can no longer be written", async (kind, type) => {
    const { writer, lost, answer } = stepped();
    const ends = Promise.allSettled([writer.run("heartbeat", 1)]);
    await settled();
    await answer({ failure: { kind, message: "it is over" } });
    expect(await ends).toMatchObject([{ status: "rejected" }]);
    expect(lost).toEqual([expect.any(type)]);
  });

  it("goes on after a full disk", async () => {
    const { writer, lost, answer } = stepped();
    const ends = Promise.allSettled([writer.run("heartbeat", 1)]);
    await settled();
    await answer({ failure: { kind: "full", message: "the disk is full" } });
    expect(await ends).toMatchObject([{ reason: { reason: "DISK_LOW" } }]);
    const next = writer.run("heartbeat", 2);
    await settled();
    await answer(done);
    await next;
    expect(lost).toEqual([]);
  });
});
