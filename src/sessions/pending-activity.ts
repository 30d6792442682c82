/**
 * Activity of sessions that is not on disk yet. Reserve on an established
 * session writes nothing before its answer; its activity is written behind, at
 * most once in a while for each session, and counts meanwhile.
 */
import { keyText, type SessionKey } from "./key.js";
import type { SessionRow } from "./session.js";
import type { Activity } from "./session-store.js";

const longestDelayMs = 60_000;

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

  /** Writes what is due, or everything. It counts until it is on disk, and is tried again if it fails. */
  async write(
    touch: (due: readonly Activity[]) => Promise<void>,
    nowMs = Number.POSITIVE_INFINITY,
  ): Promise<void> {
    const due: (Activity & { readonly name: string })[] = [];
    for (const [name, { key, atMs, dueAtMs }] of this.#pending) {
      if (dueAtMs <= nowMs) due.push({ name, key, atMs });
    }
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
