/**
 * Sessions whose processes cannot be ended. While one lives, no other turn may
 * run in its session: the lane stays shut, and is shown to be stuck (ruling 28).
 */
export interface StuckLanesDeps {
  readonly pause: (ms: number) => Promise<void>;
  /** Which of these processes still run. */
  readonly stillRunning: (pids: readonly number[]) => Promise<readonly number[]>;
  readonly log: (message: string, error: unknown) => void;
}

interface StuckSession {
  readonly recordNo: number;
  readonly provider: string;
}

const checkMs = 1_000;

export class StuckLanes {
  readonly #stuck = new Set<StuckSession>();
  #givenUp = false;

  constructor(private readonly deps: StuckLanesDeps) {}

  has(recordNo: number): boolean {
    return [...this.#stuck].some((each) => each.recordNo === recordNo);
  }

  countOf(provider: string): number {
    return [...this.#stuck].filter((each) => each.provider === provider).length;
  }

  /** Resolves when these processes of a session are gone, at once if there are none. */
  async gone(session: StuckSession, pids: readonly number[]): Promise<void> {
    if (pids.length === 0) return;
    const { log, pause, stillRunning } = this.deps;
    const stuck = { ...session };
    this.#stuck.add(stuck);
    try {
      let left = await stillRunning(pids);
      if (left.length === 0) return;
      log(
        "processes of a session cannot be ended; its lane stays shut",
        new Error(`pids ${left.join(", ")}`),
      );
      while (left.length > 0 && !this.#givenUp) {
        await pause(checkMs);
        left = await stillRunning(left);
      }
    } finally {
      this.#stuck.delete(stuck);
    }
  }

  /** Waits for none any more: this process runs no turn after it. */
  giveUp(): void {
    this.#givenUp = true;
  }
}
