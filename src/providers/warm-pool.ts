/**
 * Processes that stay between the turns of a session.
 *
 *     (started) ──add──▶ busy ──giveBack──▶ idle ──take──▶ busy
 *        busy | idle ──release | other fingerprint | exit──▶ (gone)
 *                idle ──too long | no room──▶ (gone)
 *
 * A process belongs to one session and one fingerprint: whatever it was started
 * with and cannot be told later. A session has at most one, and it is gone
 * before another is started for it (ruling 27). A process that ends while it is
 * idle costs nothing: the session's next turn starts another one.
 */
import { performance } from "node:perf_hooks";

export interface WarmProcess {
  /** Resolves when it has exited. */
  readonly exit: Promise<unknown>;
  /** Ends it and all that it started; resolves with the pids of what is left. */
  end(): Promise<{ readonly survivors: readonly number[] }>;
}

export interface WarmPoolOptions {
  /** Idle ones at most, beside those that are busy: the longest idle goes when there are more of both. */
  readonly processes: number;
  readonly idleMs: number;
}

interface Entry<P> {
  readonly process: P;
  readonly fingerprint: string;
  /** Absent while it is busy. */
  idleSince?: number;
  timer?: NodeJS.Timeout;
}

export class WarmPool<P extends WarmProcess> {
  readonly #entries = new Map<number, Entry<P>>();
  /** Processes on their way out, by session. */
  readonly #leaving = new Map<number, Promise<readonly number[]>>();
  #closed = false;

  constructor(private readonly options: WarmPoolOptions) {}

  /**
   * The session's idle process, which is busy from now on; undefined if it has
   * none with this fingerprint, in which case it has none at all any more.
   * Throws SurvivorsError if one with another fingerprint cannot be ended.
   */
  async take(recordNo: number, fingerprint: string): Promise<P | undefined> {
    const entry = this.#entries.get(recordNo);
    if (entry?.fingerprint === fingerprint && entry.idleSince !== undefined && !this.#closed) {
      clearTimeout(entry.timer);
      delete entry.idleSince;
      return entry.process;
    }
    const survivors = await this.release(recordNo);
    if (survivors.length > 0) throw new SurvivorsError(survivors);
    return undefined;
  }

  /** Counts a process that was started for a turn of the session, which has no other. */
  add(recordNo: number, fingerprint: string, process: P): void {
    this.#entries.set(recordNo, { process, fingerprint });
    // What it has started is ended by the session's mark, which its next process has too.
    void process.exit.then(() => {
      if (this.#entries.get(recordNo)?.process === process) void this.release(recordNo).catch(() => {});
    });
    this.#makeRoom();
  }

  /** The turn is over, and the process may take another one. False: it was not kept, and is to be ended. */
  giveBack(recordNo: number, process: P): boolean {
    const entry = this.#entries.get(recordNo);
    if (this.#closed || this.options.processes === 0 || entry?.process !== process) return false;
    entry.idleSince = performance.now();
    entry.timer = setTimeout(() => void this.release(recordNo), this.options.idleMs);
    entry.timer.unref();
    this.#makeRoom();
    return true;
  }

  /** Ends the session's process, if it has one. Resolves with the pids of what is left. */
  async release(recordNo: number): Promise<readonly number[]> {
    const entry = this.#entries.get(recordNo);
    if (entry !== undefined) {
      this.#forget(recordNo, entry.process);
      const left = entry.process.end().then(({ survivors }) => survivors);
      this.#leaving.set(recordNo, left);
      const done = () => {
        if (this.#leaving.get(recordNo) === left) this.#leaving.delete(recordNo);
      };
      left.then(done, done);
    }
    return (await this.#leaving.get(recordNo)) ?? [];
  }

  /** Ends all, and keeps none any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const recordNo of [...this.#entries.keys()]) void this.release(recordNo).catch(() => {});
    await Promise.allSettled(this.#leaving.values());
  }

  /** How many there are, busy ones included. */
  get size(): number {
    return this.#entries.size;
  }

  /** How many wait for their session's next turn. */
  get idle(): number {
    return [...this.#entries.values()].filter(({ idleSince }) => idleSince !== undefined).length;
  }

  #forget(recordNo: number, process: P): void {
    const entry = this.#entries.get(recordNo);
    if (entry?.process !== process) return;
    clearTimeout(entry.timer);
    this.#entries.delete(recordNo);
  }

  #makeRoom(): void {
    const idle = [...this.#entries].filter(([, { idleSince }]) => idleSince !== undefined);
    idle.sort(([, first], [, second]) => (first.idleSince ?? 0) - (second.idleSince ?? 0));
    const excess = this.#entries.size - this.options.processes;
    for (const [recordNo] of idle.slice(0, Math.max(0, excess))) void this.release(recordNo);
  }
}

/** A process of the session could not be ended, so that no other may be started. */
export class SurvivorsError extends Error {
  override readonly name = "SurvivorsError";

  constructor(readonly pids: readonly number[]) {
    super(`processes of the session cannot be ended: ${pids.join(", ")}`);
  }
}
