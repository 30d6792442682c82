import { beforeEach, describe, expect, it } from "vitest";
import type { Clock } from "../clock.js";
import { Lease } from "./lease.js";

/** Stands still until it is moved; timers fire on the way. */
class StepClock implements Clock {
  #nowMs = 0;
  #timers: { readonly atMs: number; readonly task: () => void }[] = [];
  readonly now = () => this.#nowMs;
  readonly monotonic = () => this.#nowMs;

  after(ms: number, task: () => void): () => void {
    const timer = { atMs: this.#nowMs + ms, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  pass(ms: number): void {
    this.#nowMs += ms;
    const due = this.#timers.filter(({ atMs }) => atMs <= this.#nowMs);
    this.#timers = this.#timers.filter(({ atMs }) => atMs > this.#nowMs);
    for (const { task } of due) task();
  }
}

let clock: StepClock;
let lease: Lease;
let ended: string | undefined;

beforeEach(() => {
  clock = new StepClock();
  lease = new Lease(clock);
  ended = undefined;
  void lease.ended.then((how) => {
    ended = how;
  });
});

const settled = () => new Promise((resolve) => setImmediate(resolve)).then(() => ended);

describe("a lease", () => {
  it("is lost 20 s after the last renewal, and no sooner", async () => {
    clock.pass(19_999);
    expect(lease.renew()).toBe(true);
    clock.pass(19_999);
    expect(await settled()).toBeUndefined();
    clock.pass(1);
    expect(await settled()).toBe("lost");
  });

  it("is not renewed once the time to let go is over, and is lost then", async () => {
    clock.pass(5_000);
    lease.revoke(10_000);
    clock.pass(9_999);
    expect(lease.renew()).toBe(true);
    clock.pass(1);
    expect(lease.renew()).toBe(false);
    clock.pass(19_999);
    expect(await settled()).toBe("lost");
  });

  it("that is closed is not lost", async () => {
    lease.close();
    clock.pass(60_000);
    expect(await settled()).toBe("closed");
  });

  it("keeps its first deadline when it is revoked again", () => {
    lease.revoke(1_000);
    lease.revoke(10_000);
    clock.pass(1_000);
    expect(lease.renew()).toBe(false);
  });
});
