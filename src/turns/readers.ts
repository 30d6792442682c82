/** Which turns are being read at the moment, by how many. */
export class Readers {
  readonly #counts = new Map<number, number>();

  /** Counts a reader in; the result counts it out, once. */
  enter(turnNo: number): () => void {
    this.#counts.set(turnNo, (this.#counts.get(turnNo) ?? 0) + 1);
    return () => {
      const left = (this.#counts.get(turnNo) ?? 0) - 1;
      if (left > 0) this.#counts.set(turnNo, left);
      else this.#counts.delete(turnNo);
    };
  }

  turns(): readonly number[] {
    return [...this.#counts.keys()];
  }
}
