/**
 * Rounds of the event loop. Each round reads the requests of many connections,
 * and an answer that is written at once wakes its client up before the next
 * request is looked at: with many clients on a machine of few cores, that costs
 * more than the answer itself. Answers that are ready in one round leave
 * together at its end; a request that comes alone waits for nobody.
 */
export class Rounds {
  #end: Promise<void> | undefined;

  /** Resolves at the end of this round. */
  end(): Promise<void> {
    this.#end ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#end = undefined;
        resolve();
      });
    });
    return this.#end;
  }
}
