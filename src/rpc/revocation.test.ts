import { getEventListeners } from "node:events";
import { expect, it } from "vitest";
import { untilRevoked } from "./revocation.js";

const here = new AbortController().signal;

async function* counting(limit: number, onEnd: () => void) {
  try {
    for (let count = 1; count <= limit; count++) yield count;
  } finally {
    onEnd();
  }
}

async function taken(messages: AsyncIterable<number>, each: (count: number) => void = () => {}) {
  const counts: number[] = [];
  try {
    for await (const count of messages) {
      counts.push(count);
      each(count);
    }
    return { counts };
  } catch (error) {
    return { counts, reason: (error as { reason?: string }).reason };
  }
}

it("gives all messages while the credential stays, and closes what it reads", async () => {
  let ended = 0;
  const messages = untilRevoked(
    counting(3, () => {
      ended += 1;
    }),
    new AbortController().signal,
    here,
  );
  expect(await taken(messages)).toEqual({ counts: [1, 2, 3] });
  expect(ended).toBe(1);
});

it("ends before the next message once it is revoked", async () => {
  const revoked = new AbortController();
  let ended = 0;
  const messages = untilRevoked(
    counting(9, () => {
      ended += 1;
    }),
    revoked.signal,
    here,
  );
  const answer = await taken(messages, (count) => count === 2 && revoked.abort());
  expect(answer).toEqual({ counts: [1, 2], reason: "UNAUTHENTICATED" });
  expect(ended).toBe(1);
});

it("ends while it waits for a message that never comes", async () => {
  const revoked = new AbortController();
  const never: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }),
  };
  const answer = taken(untilRevoked(never, revoked.signal, here));
  revoked.abort();
  expect(await answer).toEqual({ counts: [], reason: "UNAUTHENTICATED" });
});

it("is held by nobody once its caller has left", async () => {
  const [revoked, left] = [new AbortController(), new AbortController()];
  const messages = untilRevoked(
    counting(9, () => {}),
    revoked.signal,
    left.signal,
  );
  await messages[Symbol.asyncIterator]().next();
  expect(getEventListeners(revoked.signal, "abort")).toHaveLength(1);
  left.abort();
  expect(getEventListeners(revoked.signal, "abort")).toHaveLength(0);
});
