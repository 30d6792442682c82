/** New sessions that are in the log, and not yet where readers of the store look. */
import { keyText, type SessionKey } from "../../sessions/key.js";
import type { IdQuery, SessionView } from "../../sessions/session-store.js";

export class Uncommitted {
  readonly #byKey = new Map<string, SessionView>();
  readonly #ids = new Set<string>();

  get size(): number {
    return this.#byKey.size;
  }

  add(view: SessionView): void {
    const { row } = view;
    this.#byKey.set(keyText(row.key), view);
    this.#ids.add(row.sessionId);
    for (const { id } of row.aliases) this.#ids.add(id);
  }

  clear(): void {
    if (this.size === 0) return;
    this.#byKey.clear();
    this.#ids.clear();
  }

  byKey(key: SessionKey): SessionView | undefined {
    return this.size === 0 ? undefined : this.#byKey.get(keyText(key));
  }

  /** One of them may be what is looked for. */
  mayOwn({ kind, id }: IdQuery): boolean {
    return this.#ids.has(id) || (kind === "short-id" && this.size > 0);
  }

  views(): IterableIterator<SessionView> {
    return this.#byKey.values();
  }
}
