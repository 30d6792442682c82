/**
 * Activity of sessions that is not on disk yet. Reserve on an established
 * session writes nothing before its answer; its activity is written behind, at
 * most once in a while for each session, and counts meanwhile.
 */
import { keyText, type SessionKey } from "./key.js";
import type { SessionRow } from "./session.js";
import type { Activity } from "./session-store.js";

const longestDelayMs = 60_000;

interface Pending extends Activity {
  readonly delayMs: number;
  readonly dueAtMs: number;
}

export class PendingActivity {
  readonly #pending = new Map<string, Pending>();

  /** The session was used now. */
  note(row: SessionRow, idleMs: number | undefined, nowMs: number): void {
    if (nowMs <= row.lastActivityMs) return;
    const name = keyText(row.key);
    const delayMs = Math.min(longestDelayMs, (idleMs ?? Number.POSITIVE_INFINITY) / 10);
    const dueAtMs = this.#pending.get(name)?.dueAtMs ?? Math.max(nowMs, row.lastActivityMs + delayMs);
    this.#pending.set(name, { key: row.key, atMs: nowMs, delayMs, dueAtMs });
  }

  of(key: SessionKey): number | undefined {
    return this.#pending.get(keyText(key))?.atMs;
  }

  /** Writes what is due, or everything. It counts until it is on disk, and is tried again if it fails. */
  async write(
    touch: (due: readonly Activity[]) => Promise<void>,
    nowMs = Number.POSITIVE_INFINITY,
  ): Promise<void> {
    const due = [...this.#pending.values()].filter(({ dueAtMs }) => dueAtMs <= nowMs);
    if (due.length === 0) return;
    await touch(due.map(({ key, atMs }) => ({ key, atMs })));
    for (const { key, atMs, delayMs } of due) {
      const name = keyText(key);
      const noted = this.#pending.get(name);
      if (noted === undefined) continue;
      if (noted.atMs === atMs) this.#pending.delete(name);
      else this.#pending.set(name, { ...noted, dueAtMs: atMs + delayMs });
    }
  }
}
