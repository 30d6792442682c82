/**
 * Which waiting turn runs next. One turn at a time in each lane, first come
 * first served; lanes with work wait for a running slot of their provider, and
 * slots go round the grants and scopes. A lane that waits holds up no other. A
 * turn that its caller runs itself needs no slot.
 */
import type { SessionKey } from "../sessions/key.js";
import { FairQueue } from "./fair-queue.js";

export interface LaneTurn {
  readonly turnNo: number;
  readonly key: SessionKey;
  /** Name of its lane. */
  readonly lane: string;
  readonly grant: string;
  readonly needsSlot: boolean;
  /** Waits, and all behind it, until it is let go with `unhold`. */
  held: boolean;
}

interface Lane<T> {
  readonly name: string;
  readonly key: SessionKey;
  running: T | undefined;
  readonly waiting: T[];
  /** Stands in a queue of lanes. */
  ready: boolean;
  /** Kept, with a slot, for a turn that is being admitted. */
  reserved: boolean;
}

/** An idle lane and a slot for a turn that is being admitted. */
export interface LaneReservation<T> {
  /** The turn has them. */
  take(turn: T): void;
  /** It does not need them, or may not have them. */
  cancel(): void;
}

interface Slots {
  readonly provider: string;
  readonly most: number;
  taken: number;
}

export class Lanes<T extends LaneTurn> {
  readonly #lanes = new Map<string, Lane<T>>();
  /** Lanes whose next turn needs a slot, by provider. */
  readonly #ready = new Map<string, FairQueue<Lane<T>>>();
  /** Lanes whose next turn needs none. */
  readonly #free: Lane<T>[] = [];
  readonly #slots = new Map<string, Slots>();
  readonly #waitingOfGrant = new Map<string, number>();
  #running = 0;
  #waiting = 0;

  constructor(
    private readonly limits: {
      readonly running: number;
      readonly runningOf: (provider: string) => number;
    },
  ) {}

  /** Turns that hold a lane and a slot. */
  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting;
  }

  waitingOfGrant(grant: string): number {
    return this.#waitingOfGrant.get(grant) ?? 0;
  }

  /** Turns that hold a slot of the provider. */
  runningOf(provider: string): number {
    return this.#slots.get(provider)?.taken ?? 0;
  }

  /** Turns that wait for the provider; looks at every lane. */
  waitingOf(provider: string): number {
    let waiting = 0;
    for (const lane of this.#lanes.values()) {
      if (lane.key.provider === provider) waiting += lane.waiting.length;
    }
    return waiting;
  }

  enqueue(turn: T): void {
    const lane = this.#laneOf(turn);
    lane.waiting.push(turn);
    this.#count(turn, 1);
    this.#offer(lane);
  }

  /** Puts a waiting turn before all others of its lane. */
  toHead(turn: T): void {
    const lane = this.#lanes.get(turn.lane);
    const index = lane?.waiting.indexOf(turn) ?? -1;
    if (lane === undefined || index < 0) return;
    lane.waiting.splice(index, 1);
    lane.waiting.unshift(turn);
    this.#offer(lane);
  }

  unhold(turn: T): void {
    turn.held = false;
    const lane = this.#lanes.get(turn.lane);
    if (lane !== undefined) this.#offer(lane);
  }

  /** The next turn that may run; it holds its lane from now on. */
  take(): T | undefined {
    return this.#takeWithoutSlot() ?? this.#takeWithSlot();
  }

  /** The lane and a slot, if the lane is idle and nobody waits for the slot. */
  reserve(name: string, key: SessionKey): LaneReservation<T> | undefined {
    const slots = this.#slotsOf(key.provider);
    const isFree = this.#running < this.limits.running && slots.taken < slots.most;
    if (!isFree || this.#lanes.has(name) || this.#ready.get(key.provider)?.isEmpty === false)
      return undefined;
    const lane = this.#laneOf({ lane: name, key });
    lane.reserved = true;
    slots.taken += 1;
    this.#running += 1;
    return {
      take: (turn) => {
        lane.reserved = false;
        lane.running = turn;
      },
      cancel: () => {
        lane.reserved = false;
        this.#letGo(lane, true);
      },
    };
  }

  /** Makes a turn the holder of its lane that held it in an earlier life of the process. */
  resume(turn: T): void {
    this.#laneOf(turn).running = turn;
  }

  /** Lets go of the lane that the turn holds. */
  release(turn: T): void {
    const lane = this.#lanes.get(turn.lane);
    if (lane === undefined || lane.running !== turn) return;
    lane.running = undefined;
    this.#letGo(lane, turn.needsSlot);
  }

  /** Takes a waiting turn out of its lane; false if it does not wait. */
  remove(turn: T): boolean {
    const lane = this.#lanes.get(turn.lane);
    const index = lane?.waiting.indexOf(turn) ?? -1;
    if (lane === undefined || index < 0) return false;
    lane.waiting.splice(index, 1);
    this.#count(turn, -1);
    if (lane.ready) return true;
    if (lane.waiting.length === 0) this.#forgetIfEmpty(lane);
    else this.#offer(lane);
    return true;
  }

  /** Waiting turns of a lane, in the order in which they run. */
  waitingIn(lane: string): readonly T[] {
    return this.#lanes.get(lane)?.waiting ?? [];
  }

  runningIn(lane: string): T | undefined {
    return this.#lanes.get(lane)?.running;
  }

  /** Some turn holds the lane, or is about to. */
  isTaken(name: string): boolean {
    const lane = this.#lanes.get(name);
    return lane !== undefined && (lane.reserved || lane.running !== undefined);
  }

  #count({ grant }: T, change: 1 | -1): void {
    this.#waiting += change;
    const ofGrant = this.waitingOfGrant(grant) + change;
    if (ofGrant > 0) this.#waitingOfGrant.set(grant, ofGrant);
    else this.#waitingOfGrant.delete(grant);
  }

  #letGo(lane: Lane<T>, withSlot: boolean): void {
    if (withSlot) {
      this.#slotsOf(lane.key.provider).taken -= 1;
      this.#running -= 1;
    }
    if (lane.waiting.length === 0) this.#forgetIfEmpty(lane);
    else this.#offer(lane);
  }

  #takeWithoutSlot(): T | undefined {
    for (;;) {
      const lane = this.#free.shift();
      if (lane === undefined) return undefined;
      const turn = this.#start(lane, false);
      if (turn !== undefined) return turn;
    }
  }

  #takeWithSlot(): T | undefined {
    if (this.#running >= this.limits.running) return undefined;
    for (const [provider, ready] of this.#ready) {
      const slots = this.#slotsOf(provider);
      while (slots.taken < slots.most) {
        const lane = ready.shift();
        if (lane === undefined) break;
        const turn = this.#start(lane, true);
        if (turn === undefined) continue;
        slots.taken += 1;
        this.#running += 1;
        // Providers take turns too.
        this.#ready.delete(provider);
        this.#ready.set(provider, ready);
        return turn;
      }
    }
    return undefined;
  }

  /** The lane's next turn, now its holder; undefined if that has changed since the lane was queued. */
  #start(lane: Lane<T>, withSlot: boolean): T | undefined {
    lane.ready = false;
    const [turn] = lane.waiting;
    if (turn === undefined) {
      this.#forgetIfEmpty(lane);
      return undefined;
    }
    if (turn.held || turn.needsSlot !== withSlot) {
      this.#offer(lane);
      return undefined;
    }
    lane.waiting.shift();
    lane.running = turn;
    this.#count(turn, -1);
    return turn;
  }

  #offer(lane: Lane<T>): void {
    const [next] = lane.waiting;
    if (next === undefined || next.held || lane.ready || this.isTaken(lane.name)) return;
    lane.ready = true;
    if (!next.needsSlot) {
      this.#free.push(lane);
      return;
    }
    let queue = this.#ready.get(lane.key.provider);
    if (queue === undefined) {
      queue = new FairQueue();
      this.#ready.set(lane.key.provider, queue);
    }
    queue.push(next.grant, lane.key.scope, lane);
  }

  #laneOf({ lane: name, key }: Pick<LaneTurn, "lane" | "key">): Lane<T> {
    let lane = this.#lanes.get(name);
    if (lane === undefined) {
      lane = { name, key, running: undefined, waiting: [], ready: false, reserved: false };
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
    if (!this.isTaken(lane.name) && lane.waiting.length === 0) this.#lanes.delete(lane.name);
  }
}
