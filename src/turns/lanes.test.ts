import { describe, expect, it } from "vitest";
import { Lanes } from "./lanes.js";

let count = 0;
const turn = (chat: string, { grant = "g", scope = "s", provider = "p" } = {}) => ({
  turnNo: ++count,
  key: { scope, externalId: chat, provider },
  lane: `${provider}/${scope}/${chat}`,
  grant,
  needsSlot: true,
  held: false,
  name: `${grant}/${scope}/${chat}`,
});
type Turn = ReturnType<typeof turn>;

const lanes = (running = 100, ofProvider: Record<string, number> = {}) =>
  new Lanes<Turn>({ running, runningOf: (provider) => ofProvider[provider] ?? 100 });

describe("lanes", () => {
  it("give a session to one turn at a time, first come first served", () => {
    const all = lanes();
    const [first, second] = [turn("a"), turn("a")];
    all.enqueue(first);
    all.enqueue(second);
    expect(all.take()).toBe(first);
    expect(all.take()).toBeUndefined();
    all.release(first);
    expect(all.take()).toBe(second);
    expect([all.running, all.waiting]).toEqual([1, 0]);
  });

  it("let one session's queue hold up no other", () => {
    const all = lanes();
    for (let i = 0; i < 100; i++) all.enqueue(turn("busy"));
    const other = turn("other");
    all.enqueue(other);
    all.take();
    expect(all.take()).toBe(other);
  });

  it("count the waiting turns of each grant", () => {
    const all = lanes(1);
    const [first, second, third] = [turn("a"), turn("a"), turn("b", { grant: "other" })];
    for (const each of [first, second, third]) all.enqueue(each);
    expect([all.waitingOfGrant("g"), all.waitingOfGrant("other")]).toEqual([2, 1]);
    all.take();
    all.remove(second);
    expect([all.waitingOfGrant("g"), all.waitingOfGrant("other"), all.waiting]).toEqual([0, 1, 1]);
  });

  it("keep an idle lane and a slot for a turn that is being admitted", () => {
    const all = lanes(1);
    const [first, second] = [turn("a"), turn("b")];
    const kept = all.reserve(first.lane, first.key);
    expect(all.reserve(first.lane, first.key)).toBeUndefined();
    expect(all.reserve(second.lane, second.key)).toBeUndefined();
    all.enqueue(second);
    expect(all.take()).toBeUndefined();
    kept?.take(first);
    expect(all.runningIn(first.lane)).toBe(first);
    all.release(first);
    expect(all.take()).toBe(second);
    expect(all.reserve(first.lane, first.key)).toBeUndefined();
  });

  it("let the next one have a lane that was kept in vain", () => {
    const all = lanes(1);
    const [first, second] = [turn("a"), turn("a")];
    const kept = all.reserve(first.lane, first.key);
    all.enqueue(second);
    kept?.cancel();
    expect(all.take()).toBe(second);
  });

  it("go round the grants, and within one round its scopes", () => {
    const all = lanes(1);
    for (let i = 0; i < 3; i++) all.enqueue(turn(`${i}`, { grant: "loud", scope: "x" }));
    all.enqueue(turn("0", { grant: "loud", scope: "y" }));
    all.enqueue(turn("0", { grant: "quiet" }));
    const order: string[] = [];
    for (let next = all.take(); next !== undefined; next = all.take()) {
      order.push(next.name);
      all.release(next);
    }
    expect(order).toEqual(["loud/x/0", "quiet/s/0", "loud/y/0", "loud/x/1", "loud/x/2"]);
  });

  it("keep to the slots of each provider and of all together", () => {
    const all = lanes(3, { one: 1, two: 5 });
    for (let i = 0; i < 4; i++) all.enqueue(turn(`${i}`, { provider: "one" }));
    for (let i = 0; i < 4; i++) all.enqueue(turn(`${i}`, { provider: "two" }));
    const taken = [all.take(), all.take(), all.take(), all.take()].map((next) => next?.key.provider);
    expect(taken.filter((provider) => provider === "one")).toHaveLength(1);
    expect(taken.filter((provider) => provider === "two")).toHaveLength(2);
    expect([all.runningOf("one"), all.runningOf("two")]).toEqual([1, 2]);
  });

  it("pass over a turn that was taken out while it waited", () => {
    const all = lanes();
    const [gone, next] = [turn("a"), turn("a")];
    all.enqueue(gone);
    all.enqueue(next);
    expect(all.remove(gone)).toBe(true);
    expect(all.remove(gone)).toBe(false);
    expect(all.take()).toBe(next);
    all.release(next);
    const alone = turn("b");
    all.enqueue(alone);
    all.remove(alone);
    expect(all.take()).toBeUndefined();
    expect(all.waiting).toBe(0);
  });
});
