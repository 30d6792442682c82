import type { Child } from "./process.js";

export type StopReason = "cancelled" | "timeout";

/** What may end a turn before its time: a signal, or the clock. The first one counts. */
export class StopSwitch {
  reason: StopReason | undefined;
  readonly #signals: readonly AbortSignal[];
  readonly #deadline: NodeJS.Timeout;
  #child: Child | undefined;

  constructor(signals: readonly AbortSignal[], timeoutMs: number) {
    this.#signals = signals;
    this.#deadline = setTimeout(() => this.#stop("timeout"), timeoutMs);
    for (const signal of signals) {
      if (signal.aborted) this.#cancel();
      signal.addEventListener("abort", this.#cancel, { once: true });
    }
  }

  /** Ends this child when the time comes, or at once if it has come. */
  attach(child: Child): void {
    this.#child = child;
    if (this.reason !== undefined) void child.end();
  }

  dispose(): void {
    clearTimeout(this.#deadline);
    for (const signal of this.#signals) signal.removeEventListener("abort", this.#cancel);
  }

  readonly #cancel = () => this.#stop("cancelled");

  #stop(reason: StopReason): void {
    this.reason ??= reason;
    void this.#child?.end();
  }
}
