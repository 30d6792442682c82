/**
 * Which waiting turn runs next. One turn at a time in each session, first come
 * first served; sessions with work wait for a running slot of their provider,
 * and slots go round the grants and scopes. A session that waits holds up no
 * other.
 */
import type { SessionKey } from "../sessions/key.js";
import { FairQueue } from "./fair-queue.js";

export interface LaneTurn {
  readonly turnNo: number;
  readonly key: SessionKey;
  /** Name of its lane. */
  readonly lane: string;
  readonly grant: string;
}

interface Lane<T> {
  readonly name: string;
  readonly key: SessionKey;
  running: T | undefined;
  readonly waiting: T[];
  ready: boolean;
}

interface Slots {
  readonly provider: string;
  readonly most: number;
  taken: number;
}

export class Lanes<T extends LaneTurn> {
  readonly #lanes = new Map<string, Lane<T>>();
  readonly #ready = new Map<string, FairQueue<Lane<T>>>();
  readonly #slots = new Map<string, Slots>();
  #running = 0;
  #waiting = 0;

  constructor(
    private readonly limits: {
      readonly running: number;
      readonly runningOf: (provider: string) => number;
    },
  ) {}

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Turns that hold a lane of the provider. */
  runningOf(provider: string): number {
    return this.#slots.get(provider)?.taken ?? 0;
  }

  enqueue(turn: T): void {
    const lane = this.#laneOf(turn);
    lane.waiting.push(turn);
    this.#waiting += 1;
    this.#offer(lane, turn.grant);
  }

  /** The next turn that may run; it holds its lane from now on. */
  take(): T | undefined {
    if (this.#running >= this.limits.running) return undefined;
    for (const [provider, ready] of this.#ready) {
      const slots = this.#slotsOf(provider);
      while (slots.taken < slots.most) {
        const lane = ready.shift();
        if (lane === undefined) break;
        lane.ready = false;
        const turn = lane.waiting.shift();
        if (turn === undefined) {
          this.#forgetIfEmpty(lane);
          continue;
        }
        lane.running = turn;
        slots.taken += 1;
        this.#running += 1;
        this.#waiting -= 1;
        // Providers take turns too.
        this.#ready.delete(provider);
        this.#ready.set(provider, ready);
        return turn;
      }
    }
    return undefined;
  }

  /** Lets go of the lane that the turn holds. */
  release(turn: T): void {
    const lane = this.#lanes.get(turn.lane);
    if (lane === undefined || lane.running !== turn) return;
    lane.running = undefined;
    this.#slotsOf(turn.key.provider).taken -= 1;
    this.#running -= 1;
    const [next] = lane.waiting;
    if (next === undefined) this.#forgetIfEmpty(lane);
    else this.#offer(lane, next.grant);
  }

  /** Takes a waiting turn out of its lane; false if it does not wait. */
  remove(turn: T): boolean {
    const lane = this.#lanes.get(turn.lane);
    const index = lane?.waiting.indexOf(turn) ?? -1;
    if (lane === undefined || index < 0) return false;
    lane.waiting.splice(index, 1);
    this.#waiting -= 1;
    if (!lane.ready) this.#forgetIfEmpty(lane);
    return true;
  }

  /** Waiting turns of a lane, first come first. */
  waitingIn(lane: string): readonly T[] {
    return this.#lanes.get(lane)?.waiting ?? [];
  }

  runningIn(lane: string): T | undefined {
    return this.#lanes.get(lane)?.running;
  }

  #offer(lane: Lane<T>, grant: string): void {
    if (lane.ready || lane.running !== undefined) return;
    lane.ready = true;
    let queue = this.#ready.get(lane.key.provider);
    if (queue === undefined) {
      queue = new FairQueue();
      this.#ready.set(lane.key.provider, queue);
    }
    queue.push(grant, lane.key.scope, lane);
  }

  #laneOf({ lane: name, key }: T): Lane<T> {
    let lane = this.#lanes.get(name);
    if (lane === undefined) {
      lane = { name, key, running: undefined, waiting: [], ready: false };
      this.#lanes.set(name, lane);
    }
    return lane;
  }

  #slotsOf(provider: string): Slots {
    let slots = this.#slots.get(provider);
    if (slots === undefined) {
      slots = { provider, most: this.limits.runningOf(provider), taken: 0 };
      this.#slots.set(provider, slots);
    }
    return slots;
  }

  #forgetIfEmpty(lane: Lane<T>): void {
    if (lane.running === undefined && lane.waiting.length === 0) this.#lanes.delete(lane.name);
  }
}
