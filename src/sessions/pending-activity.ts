/**
 * Activity of sessions that is not on disk yet. Reserve on an established
 * session writes nothing before its answer; its activity is written behind, at
 * most once in a while for each session, and counts meanwhile.
 */
import { setImmediate } from "node:timers/promises";
import { keyText, type SessionKey } from "./key.js";
import type { SessionRow } from "./session.js";
import type { Activity } from "./session-store.js";

const longestDelayMs = 60_000;
const atATime = 100;
const lookedAtOnce = 2_000;

type Touch = (due: readonly Activity[]) => Promise<void>;

/** A session as it is being written; it may be used again meanwhile. */
type Noted = Activity & { readonly name: string };

/** Changed in place: most sessions are used again before it is written. */
interface Pending {
  readonly key: SessionKey;
  atMs: number;
  delayMs: number;
  dueAtMs: number;
}

export class PendingActivity {
  readonly #pending = new Map<string, Pending>();

  /** The session was used now. */
  note(row: SessionRow, idleMs: number | undefined, nowMs: number): void {
    if (nowMs <= row.lastActivityMs) return;
    const name = keyText(row.key);
    const delayMs = Math.min(longestDelayMs, (idleMs ?? Number.POSITIVE_INFINITY) / 10);
    const noted = this.#pending.get(name);
    if (noted === undefined) {
      const dueAtMs = Math.max(nowMs, row.lastActivityMs + delayMs);
      this.#pending.set(name, { key: row.key, atMs: nowMs, delayMs, dueAtMs });
    } else {
      noted.atMs = nowMs;
      noted.delayMs = delayMs;
    }
  }

  of(key: SessionKey): number | undefined {
    return this.#pending.get(keyText(key))?.atMs;
  }

  /** Writes everything with one call. It counts until it is on disk, and is tried again if it fails. */
  async write(touch: Touch): Promise<void> {
    const all = Array.from(this.#pending, ([name, { key, atMs }]) => ({ name, key, atMs }));
    await this.#write(all, touch);
  }

  /**
   * Writes what is due, a few sessions at a time, and looks for it among some: a
   * reservation waits behind none but these.
   */
  async writeDue(touch: Touch, nowMs: number): Promise<void> {
    let due: Noted[] = [];
    let looked = 0;
    const { size } = this.#pending;
    for (const [name, { key, atMs, dueAtMs }] of this.#pending) {
      if (dueAtMs <= nowMs) due.push({ name, key, atMs });
      if (due.length === atATime) {
        await this.#write(due, touch);
        due = [];
      }
      looked += 1;
      // What has been noted meanwhile comes last, and is for the next time.
      if (looked === size) break;
      if (looked % lookedAtOnce === 0) await setImmediate();
    }
    await this.#write(due, touch);
  }

  async #write(due: readonly Noted[], touch: Touch): Promise<void> {
    if (due.length === 0) return;
    await touch(due.map(({ key, atMs }) => ({ key, atMs })));
    for (const { name, atMs } of due) {
      const noted = this.#pending.get(name);
      if (noted === undefined) continue;
      if (noted.atMs === atMs) this.#pending.delete(name);
      else noted.dueAtMs = atMs + noted.delayMs;
    }
  }
}
