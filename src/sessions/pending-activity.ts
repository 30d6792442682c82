/**
 * Activity of sessions that is not on disk yet. Reserve on an established
 * session writes nothing before its answer; its activity is written behind, at
 * most once in a while for each session, and counts meanwhile.
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import { keyOfText, keyText, type SessionKey } from "./key.js";
import type { SessionRow } from "./session.js";
import type { Activity } from "./session-store.js";

const longestDelayMs = 60_000;
/** Few: each may lie on pages of its own, and who comes while they are committed waits for all of them. */
const atATime = 16;
const lookedAtOnce = 2_000;
/** A round of writing has this long, and rests as many times as long as it writes if that leaves it time. */
const [roundMs, restFactor] = [20_000, 4];

type Touch = (due: readonly Activity[]) => Promise<void>;

/** A session as it is being written; it may be used again meanwhile. */
type Noted = Activity & { readonly name: string };

/**
 * By the name of the session's key, each with a place in arrays of numbers: there
 * may be very many for a minute, and objects would be looked at by every full
 * collection of memory.
 */
export class PendingActivity {
  readonly #places = new Map<string, number>();
  /** What was looked up last is most often what is noted next. */
  #last: { readonly key: SessionKey; readonly name: string } | undefined;
  #free: number[] = [];
  #atMs = new Float64Array(64);
  #delayMs = new Float64Array(64);
  #dueAtMs = new Float64Array(64);

  /** The session was used now. */
  note(row: SessionRow, idleMs: number | undefined, nowMs: number): void {
    if (nowMs <= row.lastActivityMs) return;
    const name = this.#last?.key === row.key ? this.#last.name : keyText(row.key);
    const delayMs = Math.min(longestDelayMs, (idleMs ?? Number.POSITIVE_INFINITY) / 10);
    let place = this.#places.get(name);
    if (place === undefined) {
      place = this.#take(name);
      this.#dueAtMs[place] = Math.max(nowMs, row.lastActivityMs + delayMs);
    }
    this.#atMs[place] = nowMs;
    this.#delayMs[place] = delayMs;
  }

  of(key: SessionKey): number | undefined {
    const name = keyText(key);
    this.#last = { key, name };
    const place = this.#places.get(name);
    return place === undefined ? undefined : this.#atMs[place];
  }

  /** Writes everything with one call. It counts until it is on disk, and is tried again if it fails. */
  async write(touch: Touch): Promise<void> {
    await this.#write(Array.from(this.#places, this.#noted), touch);
  }

  /**
   * Writes what is due, a few sessions at a time and with rests between them, and
   * looks for it among some: a reservation waits behind none but these.
   */
  async writeDue(touch: Touch, nowMs: number, stopping?: AbortSignal): Promise<void> {
    const startedMs = performance.now();
    let due: Noted[] = [];
    let looked = 0;
    const { size } = this.#places;
    for (const entry of this.#places) {
      if (numberAt(this.#dueAtMs, entry[1]) <= nowMs) due.push(this.#noted(entry));
      looked += 1;
      if (due.length === atATime) {
        const beganMs = performance.now();
        await this.#write(due, touch);
        const endedMs = performance.now();
        const rest = restMs(endedMs - beganMs, endedMs - startedMs, looked / size);
        if (rest >= 1) await setTimeout(rest, undefined, { ref: false });
        due = [];
      }
      // What has been noted meanwhile comes last, and is for the next time.
      if (looked === size || stopping?.aborted) break;
      if (looked % lookedAtOnce === 0) await setImmediate();
    }
    await this.#write(due, touch);
  }

  async #write(due: readonly Noted[], touch: Touch): Promise<void> {
    if (due.length === 0) return;
    await touch(due.map(({ key, atMs }) => ({ key, atMs })));
    for (const { name, atMs } of due) {
      const place = this.#places.get(name);
      if (place === undefined) continue;
      if (this.#atMs[place] === atMs) this.#release(name, place);
      else this.#dueAtMs[place] = atMs + numberAt(this.#delayMs, place);
    }
  }

  #noted = ([name, place]: readonly [string, number]): Noted => ({
    name,
    key: keyOfText(name),
    atMs: numberAt(this.#atMs, place),
  });

  #take(name: string): number {
    const place = this.#free.pop() ?? this.#places.size;
    if (place === this.#atMs.length) {
      this.#atMs = doubled(this.#atMs);
      this.#delayMs = doubled(this.#delayMs);
      this.#dueAtMs = doubled(this.#dueAtMs);
    }
    this.#places.set(name, place);
    return place;
  }

  #release(name: string, place: number): void {
    this.#places.delete(name);
    this.#free.push(place);
  }
}

/**
 * How long a round rests after a piece, so that others find the store free.
 *
 * @param tookMs of the piece
 * @param sinceMs since the round began
 * @param part of the round that is done, from 0 to 1
 */
export function restMs(tookMs: number, sinceMs: number, part: number): number {
  return Math.max(0, Math.min(restFactor * tookMs, part * roundMs - sinceMs));
}

function doubled(numbers: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const more = new Float64Array(2 * numbers.length);
  more.set(numbers);
  return more;
}

function numberAt(numbers: Float64Array, place: number): number {
  return numbers[place] ?? 0;
}
