import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { SurvivorsError, WarmPool, type WarmProcess } from "./warm-pool.js";

class FakeProcess implements WarmProcess {
  readonly exit: Promise<void>;
  ends = 0;
  #exited = () => {};

  constructor(
    readonly name: string,
    private readonly survivors: readonly number[] = [],
  ) {
    this.exit = new Promise((resolve) => {
      this.#exited = resolve;
    });
  }

  async end() {
    this.ends++;
    this.crash();
    return { survivors: this.survivors };
  }

  crash(): void {
    this.#exited();
  }
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

function idle(pool: WarmPool<FakeProcess>, recordNo: number, fingerprint = "f"): FakeProcess {
  const process = new FakeProcess(String(recordNo));
  pool.add(recordNo, fingerprint, process);
  expect(pool.giveBack(recordNo, process)).toBe(true);
  return process;
}

test("a session gets its own process back, and no other session does", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const process = idle(pool, 1);
  expect(await pool.take(2, "f")).toBeUndefined();
  expect(await pool.take(1, "f")).toBe(process);
  expect(process.ends).toBe(0);
});

test("another fingerprint ends the process before its turn may start one", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const process = idle(pool, 1);
  expect(await pool.take(1, "other")).toBeUndefined();
  expect(process.ends).toBe(1);
  expect(pool.size).toBe(0);
});

test("what cannot be ended lets no other be started", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const process = new FakeProcess("stuck", [4711]);
  pool.add(1, "f", process);
  pool.giveBack(1, process);
  await expect(pool.take(1, "other")).rejects.toThrow(SurvivorsError);
});

test("one that ends while it is idle is forgotten, and what it has started is ended", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const process = idle(pool, 1);
  process.crash();
  await process.exit;
  expect(await pool.take(1, "f")).toBeUndefined();
  expect(process.ends).toBe(1);
});

test("one that is idle for too long is ended, and one that is busy is not", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const first = idle(pool, 1);
  const second = idle(pool, 2);
  await vi.advanceTimersByTimeAsync(900);
  expect(await pool.take(2, "f")).toBe(second);
  await vi.advanceTimersByTimeAsync(200);
  expect([first.ends, second.ends]).toEqual([1, 0]);
});

test("the one that was not used for longest makes room, busy ones never", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 2, idleMs: 1000 });
  const first = idle(pool, 1);
  await vi.advanceTimersByTimeAsync(10);
  const second = idle(pool, 2);
  await vi.advanceTimersByTimeAsync(10);
  expect(await pool.take(1, "f")).toBe(first);
  await vi.advanceTimersByTimeAsync(10);
  const third = idle(pool, 3);
  expect([first.ends, second.ends, third.ends]).toEqual([0, 1, 0]);
  const fourth = new FakeProcess("4");
  pool.add(4, "f", fourth);
  expect([first.ends, third.ends, fourth.ends]).toEqual([0, 1, 0]);
});

test("with room for none, none is kept", () => {
  const pool = new WarmPool<FakeProcess>({ processes: 0, idleMs: 1000 });
  const process = new FakeProcess("1");
  pool.add(1, "f", process);
  expect(pool.giveBack(1, process)).toBe(false);
});

test("a release waits for a process that is on its way out already", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const process = idle(pool, 1);
  let finish = () => {};
  process.end = () => new Promise((resolve) => (finish = () => resolve({ survivors: [7] })));
  await vi.advanceTimersByTimeAsync(1000);
  let left: readonly number[] | undefined;
  const released = pool.release(1).then((pids) => {
    left = pids;
  });
  await vi.advanceTimersByTimeAsync(50);
  expect(left).toBeUndefined();
  finish();
  await released;
  expect(left).toEqual([7]);
});

test("after close none is kept", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const kept = idle(pool, 1);
  const busy = new FakeProcess("2");
  pool.add(2, "f", busy);
  await pool.close();
  expect([kept.ends, busy.ends]).toEqual([1, 1]);
  expect(pool.giveBack(2, busy)).toBe(false);
});

test("no other is started while what an exited one has left is being ended", async () => {
  const pool = new WarmPool<FakeProcess>({ processes: 4, idleMs: 1000 });
  const process = idle(pool, 1);
  let finish = () => {};
  process.end = () => new Promise((resolve) => (finish = () => resolve({ survivors: [] })));
  process.crash();
  await process.exit;
  expect(pool.size).toBe(0);
  let taken = false;
  const next = pool.take(1, "f").then((found) => {
    taken = true;
    return found;
  });
  await vi.advanceTimersByTimeAsync(10);
  expect(taken).toBe(false);
  finish();
  expect(await next).toBeUndefined();
});
