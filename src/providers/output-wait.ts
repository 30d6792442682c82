/** Waits for the output of a child, and no longer than that makes sense. */

/** The child wrote nothing for too long. */
export class SilenceError extends Error {
  override readonly name = "SilenceError";
}

export interface Patience {
  /** Longest time without any output, on any of the child's pipes. */
  readonly silenceMs: number;
  /** How long to wait for output once all of the child's known processes are gone: a stranger may hold the pipe. */
  readonly afterEndMs: number;
  /** `performance.now()` of the last sign of life. */
  lastOutputAt(): number;
  /** The silence is no fault of the child; its time begins anew. */
  forgive(): void;
}

interface Waiting {
  readonly chunk: (chunk: Buffer | undefined) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * Takes one chunk at a time. There is one timer for all of them, which looks
 * how long ago the last output was when it goes off: a child may write a
 * thousand chunks in a second.
 */
export class OutputWait {
  #waiting: Waiting | undefined;
  #timer: NodeJS.Timeout | undefined;
  #hasEnded = false;

  /** @param isAnswerOurs true while the child waits for us */
  constructor(
    private readonly chunks: AsyncIterator<Buffer>,
    private readonly patience: Patience,
    private readonly isAnswerOurs: () => boolean,
  ) {
    this.#timer = setTimeout(() => this.#look(), patience.silenceMs);
  }

  /** The next chunk; undefined if there will be none. Rejects with SilenceError. */
  next(): Promise<Buffer | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting = { chunk: resolve, fail: reject };
      if (this.#hasEnded) this.#waitForLast();
      this.chunks.next().then(
        ({ done, value }) => this.#settle()?.chunk(done === true ? undefined : value),
        (error) => this.#settle()?.fail(error),
      );
    });
  }

  /** The child and all its known processes are gone. */
  end(): void {
    this.#hasEnded = true;
    if (this.#waiting !== undefined) this.#waitForLast();
    else clearTimeout(this.#timer);
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#waiting = undefined;
  }

  #settle(): Waiting | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }

  #look(): void {
    // The reader's time is not the child's silence.
    if (this.#waiting === undefined || this.isAnswerOurs()) this.patience.forgive();
    const leftMs = this.patience.lastOutputAt() + this.patience.silenceMs - performance.now();
    if (leftMs > 0) this.#timer = setTimeout(() => this.#look(), leftMs);
    else this.#settle()?.fail(new SilenceError(`no output for ${this.patience.silenceMs} ms`));
  }

  #waitForLast(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#settle()?.chunk(undefined), this.patience.afterEndMs);
  }
}
