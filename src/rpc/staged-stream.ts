/**
 * A stream of messages with all that interceptors do with it besides handing
 * its messages on: in one iterator, however many they are, because a generator
 * for each costs more than making a small message ready to be sent.
 */

/** How it ended: read to the end, left by its reader before, or with an error. */
export type Ending = { readonly how: "read" | "left" } | { readonly how: "failed"; readonly reason: unknown };

export interface Stage {
  /** It is read from now on. `fail` ends it with an error, also while no message comes. */
  readonly begun?: (fail: (reason: unknown) => void) => void;
  /** Makes of an error what those further out see. */
  readonly failed?: (reason: unknown) => unknown;
  /** Called once, if it was begun. */
  readonly ended?: (ending: Ending) => void;
}

/** Around what other stages are there. Its messages are asked for one at a time. */
export function staged<T>(messages: AsyncIterable<T>, stage: Stage): AsyncIterable<T> {
  return messages instanceof StagedStream
    ? new StagedStream<T>(messages.source, [...messages.stages, stage])
    : new StagedStream(messages, [stage]);
}

class StagedStream<T> implements AsyncIterable<T> {
  /** @param stages from the inside out */
  constructor(
    readonly source: AsyncIterable<T>,
    readonly stages: readonly Stage[],
  ) {}

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return new StagedIterator(this.source[Symbol.asyncIterator](), this.stages);
  }
}

class StagedIterator<T> implements AsyncIterator<T> {
  #begun = false;
  #over = false;
  /** An error that came while no message was asked for. */
  #failure: { readonly reason: unknown } | undefined;
  #resolve: ((result: IteratorResult<T>) => void) | undefined;
  #reject: ((reason: unknown) => void) | undefined;

  constructor(
    private readonly source: AsyncIterator<T>,
    private readonly stages: readonly Stage[],
  ) {}

  next(): Promise<IteratorResult<T>> {
    if (!this.#begun) this.#begin();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) return Promise.reject(failure.reason);
    if (this.#over) return Promise.resolve({ done: true, value: undefined });
    return new Promise(this.#ask);
  }

  async return(): Promise<IteratorResult<T>> {
    this.#begun = true;
    this.#end({ how: "left" });
    await this.source.return?.();
    return { done: true, value: undefined };
  }

  #begin(): void {
    this.#begun = true;
    for (const [index, { begun }] of this.stages.entries()) begun?.((reason) => this.#cut(reason, index));
  }

  readonly #ask = (resolve: (result: IteratorResult<T>) => void, reject: (reason: unknown) => void): void => {
    this.#resolve = resolve;
    this.#reject = reject;
    this.source.next().then(this.#onNext, this.#onError);
  };

  readonly #onNext = (result: IteratorResult<T>): void => {
    if (this.#over) return;
    if (result.done === true) this.#end({ how: "read" });
    this.#resolve?.(result);
    this.#resolve = this.#reject = undefined;
  };

  readonly #onError = (reason: unknown): void => {
    if (!this.#over) this.#fail(reason, 0);
  };

  #cut(reason: unknown, index: number): void {
    if (this.#over) return;
    this.#fail(reason, index);
    // One that waits for something to happen ends when it has happened, or with its request.
    this.source.return?.().catch(() => {});
  }

  /** @param from the innermost stage that sees it */
  #fail(reason: unknown, from: number): void {
    const told = this.#end({ how: "failed", reason }, from);
    if (this.#reject === undefined) this.#failure = { reason: told };
    else this.#reject(told);
    this.#resolve = this.#reject = undefined;
  }

  /** Answers what the outermost stage has made of the error. */
  #end(ending: Ending, from = 0): unknown {
    if (this.#over) return undefined;
    this.#over = true;
    let seen = ending;
    for (const [index, { failed, ended }] of this.stages.entries()) {
      if (index < from) ended?.({ how: "left" });
      else {
        if (seen.how === "failed" && failed !== undefined)
          seen = { how: "failed", reason: failed(seen.reason) };
        ended?.(seen);
      }
    }
    return seen.how === "failed" ? seen.reason : undefined;
  }
}
