import { setMaxListeners } from "node:events";

export type StopReason = "cancelled" | "timeout";

/** What may end a turn before its time: a signal, or the clock. The first one counts. */
export class StopSwitch {
  reason: StopReason | undefined;
  readonly #signals: readonly AbortSignal[];
  readonly #deadline: NodeJS.Timeout;
  #onStop: (() => void) | undefined;

  constructor(signals: readonly AbortSignal[], timeoutMs: number) {
    this.#signals = signals;
    this.#deadline = setTimeout(() => this.#stop("timeout"), timeoutMs);
    // One of them is the provider's: every turn that runs listens to it.
    setMaxListeners(0, ...signals);
    for (const signal of signals) {
      if (signal.aborted) this.#cancel();
      signal.addEventListener("abort", this.#cancel, { once: true });
    }
  }

  /** Calls this when the time comes, or at once if it has come; it replaces what was to be called before. */
  attach(onStop: () => void): void {
    this.#onStop = onStop;
    if (this.reason !== undefined) onStop();
  }

  dispose(): void {
    clearTimeout(this.#deadline);
    for (const signal of this.#signals) signal.removeEventListener("abort", this.#cancel);
  }

  readonly #cancel = () => this.#stop("cancelled");

  #stop(reason: StopReason): void {
    if (this.reason !== undefined) return;
    this.reason = reason;
    this.#onStop?.();
  }
}
