/** Tasks that are done again and again, each never twice at once, until they are stopped. */
export class Background {
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  /** A task that fails is tried again at the next time. Never keeps the process alive. */
  every(
    ms: number,
    task: (stopping: AbortSignal) => Promise<void>,
    onFailure: (error: unknown) => void,
  ): void {
    let busy = false;
    const timer = setInterval(() => {
      if (busy) return;
      busy = true;
      const run = task(this.#stopping.signal)
        .catch((error: unknown) => {
          if (!this.#stopping.signal.aborted) onFailure(error);
        })
        .finally(() => {
          busy = false;
          this.#running.delete(run);
        });
      this.#running.add(run);
    }, ms);
    this.#timers.push(timer.unref());
  }

  /** Resolves when nothing runs any more, or after a while; what fails from now on is told nobody. */
  async stop(mostMs: number): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#stopping.abort();
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, mostMs);
      cancel = () => clearTimeout(timer);
    });
    await Promise.race([Promise.all(this.#running), late]);
    cancel();
  }
}
