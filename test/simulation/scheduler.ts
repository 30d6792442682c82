/** One source of order and of time: everything that happens is a step that a seeded choice picks. */
import type { Clock } from "../../src/clock.js";

/** mulberry32: the same numbers for the same seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}

interface Task {
  /** The life of the broker it belongs to, and dies with. */
  readonly life: number;
  readonly run: () => void;
}

interface Timer extends Task {
  readonly atMs: number;
  readonly order: number;
}

const epochMs = Date.UTC(2026, 0, 1);

/** What follows at once has happened, also what is left for the end of a round of the event loop. */
export async function quiet(): Promise<void> {
  for (let round = 0; round < 2; round++) await new Promise((resolve) => setImmediate(resolve));
}

export class Scheduler {
  #tasks: Task[] = [];
  #timers: Timer[] = [];
  #nowMs = 0;
  #order = 0;
  #ended = 0;

  constructor(readonly random: Random) {}

  add(life: number, run: () => void): void {
    if (life > this.#ended) this.#tasks.push({ life, run });
  }

  /** Resolves when it is its turn; never, if the life ends before. */
  turn(life: number): Promise<void> {
    return new Promise((resolve) => this.add(life, resolve));
  }

  clock(life: number): Clock {
    return {
      now: () => epochMs + this.#nowMs,
      monotonic: () => this.#nowMs,
      after: (ms, run) => {
        const timer = { life, run, atMs: this.#nowMs + Math.max(ms, 0), order: ++this.#order };
        if (life > this.#ended) this.#timers.push(timer);
        return () => {
          this.#timers = this.#timers.filter((other) => other !== timer);
        };
      },
    };
  }

  /** What belongs to a life of the broker does not happen any more. */
  end(life: number): void {
    this.#ended = life;
    this.#tasks = this.#tasks.filter((task) => task.life !== life);
    this.#timers = this.#timers.filter((timer) => timer.life !== life);
  }

  /** Lets one thing happen, and all that follows from it at once. False if there is nothing. */
  async step(): Promise<boolean> {
    const task = this.#next();
    if (task === undefined) return false;
    task.run();
    await quiet();
    return true;
  }

  #next(): Task | undefined {
    if (this.#tasks.length > 0 && !(this.#timers.length > 0 && this.random.chance(0.1))) {
      return this.#tasks.splice(this.random.below(this.#tasks.length), 1)[0];
    }
    const [earliest] = this.#timers.toSorted((a, b) => a.atMs - b.atMs || a.order - b.order);
    if (earliest === undefined) return undefined;
    this.#timers = this.#timers.filter((timer) => timer !== earliest);
    this.#nowMs = Math.max(this.#nowMs, earliest.atMs);
    return earliest;
  }
}
