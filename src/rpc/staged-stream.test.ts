import { describe, expect, it } from "vitest";
import { type Stage, staged } from "./staged-stream.js";

/** Tells what it sees, and adds its name to errors. */
function telling(name: string, told: string[]): Stage {
  return {
    begun: () => void told.push(`${name} begun`),
    failed: (reason) => `${String(reason)} ${name}`,
    ended: (ending) =>
      void told.push(`${name} ${ending.how}${ending.how === "failed" ? `: ${ending.reason}` : ""}`),
  };
}

async function* counting(count: number, reason?: string) {
  for (let i = 1; i <= count; i++) yield i;
  if (reason !== undefined) throw reason;
}

async function readAll(messages: AsyncIterable<number>, most = Number.POSITIVE_INFINITY) {
  const read: unknown[] = [];
  try {
    for await (const message of messages) {
      read.push(message);
      if (read.length === most) break;
    }
  } catch (reason) {
    read.push(reason);
  }
  return read;
}

describe.each([
  ["read to its end", counting(2), undefined, [1, 2], ["inner read", "outer read"]],
  ["left by its reader", counting(9), 1, [1], ["inner left", "outer left"]],
  [
    "with an error",
    counting(1, "why"),
    undefined,
    [1, "why inner outer"],
    ["inner failed: why inner", "outer failed: why inner outer"],
  ],
])("a stream that is %s", (_, source, most, read, endings) => {
  it("is told to each stage, from the inside out", async () => {
    const told: string[] = [];
    const messages = staged(staged(source, telling("inner", told)), telling("outer", told));
    expect(await readAll(messages, most)).toEqual(read);
    expect(told).toEqual(["inner begun", "outer begun", ...endings]);
  });
});

it("is ended by a stage while no message comes, which those further in see as left", async () => {
  const told: string[] = [];
  const never: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }),
  };
  let cut: (reason: unknown) => void = () => {};
  const cutting: Stage = {
    begun: (fail) => {
      cut = fail;
    },
  };
  const messages = staged(staged(staged(never, telling("inner", told)), cutting), telling("outer", told));
  const read = readAll(messages);
  cut("why");
  expect(await read).toEqual(["why outer"]);
  expect(told.slice(2)).toEqual(["inner left", "outer failed: why outer"]);
});

it("is ended by a stage between two messages, and over then", async () => {
  let cut: (reason: unknown) => void = () => {};
  let isClosed = false;
  async function* source() {
    try {
      yield* counting(9);
    } finally {
      isClosed = true;
    }
  }
  const messages = staged(source(), {
    begun: (fail) => {
      cut = fail;
    },
  })[Symbol.asyncIterator]();
  await messages.next();
  cut("why");
  cut("again");
  await expect(messages.next()).rejects.toBe("why");
  expect(await messages.next()).toEqual({ done: true, value: undefined });
  expect(isClosed).toBe(true);
});
