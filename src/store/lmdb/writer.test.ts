import { describe, expect, it } from "vitest";
import type { CommandAnswer, CommandCall } from "./commands.js";
import { OwnershipLost } from "./owner.js";
import { type BatchRunner, Writer } from "./writer.js";

/** A runner whose batches end when the test says so. */
function stepped() {
  const batches: (readonly CommandCall[])[] = [];
  let answer: ((answers: readonly CommandAnswer[]) => void) | undefined;
  const runner: BatchRunner = {
    run: (batch) => {
      expect(answer).toBeUndefined();
      batches.push(batch);
      return new Promise((resolve) => {
        answer = resolve;
      });
    },
    close: async () => {},
  };
  const lost: Error[] = [];
  return {
    batches,
    lost,
    writer: new Writer(runner, (error) => lost.push(error)),
    async answer(...answers: readonly CommandAnswer[]): Promise<void> {
      const resolve = answer;
      answer = undefined;
      resolve?.(answers);
      await settled();
    },
  };
}

/** All that only waits for promises has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));
const done: CommandAnswer = { value: true };

describe("the writer", () => {
  it("starts at once when it is idle, and then takes all that gathered meanwhile, one batch at a time", async () => {
    const { writer, batches, answer } = stepped();
    const heartbeat = (atMs: number) => writer.run("heartbeat", atMs);
    const all = [heartbeat(1)];
    await settled();
    all.push(heartbeat(2));
    await settled();
    all.push(heartbeat(3), heartbeat(4));
    expect(batches.map((batch) => batch.map(({ input }) => input))).toEqual([[1]]);
    await answer(done);
    expect(batches.map((batch) => batch.map(({ input }) => input))).toEqual([[1], [2, 3, 4]]);
    await answer(done, done, done);
    await Promise.all(all);
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
