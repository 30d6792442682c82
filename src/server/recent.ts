/** How often something happened lately, without a list of when. */
export class Recent {
  #windowStartMs = Number.NEGATIVE_INFINITY;
  #inWindow = 0;

  /** @param windowMs it is counted from the start of one to its end, and then anew */
  constructor(
    private readonly windowMs: number,
    private readonly now: () => number,
  ) {}

  /** Counts one more; answers how many there were in this window. */
  note(): number {
    const nowMs = this.now();
    if (nowMs - this.#windowStartMs >= this.windowMs) {
      this.#windowStartMs = nowMs;
      this.#inWindow = 0;
    }
    this.#inWindow += 1;
    return this.#inWindow;
  }
}
