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
    this.#pending.set(name, { key: row.key, atMs: nowMs, dueAtMs });
  }

  of(key: SessionKey): number | undefined {
    return this.#pending.get(keyText(key))?.atMs;
  }

  /** Takes what is due, or everything. */
  take(nowMs = Number.POSITIVE_INFINITY): Activity[] {
    const due: Activity[] = [];
    for (const [name, pending] of this.#pending) {
      if (pending.dueAtMs > nowMs) continue;
      this.#pending.delete(name);
      due.push({ key: pending.key, atMs: pending.atMs });
    }
    return due;
  }
}
