import type { WriteStream } from "node:tty";

/** Counts rows on one line of a terminal; silent elsewhere. */
export class Progress {
  #rows = 0;

  constructor(
    private readonly what: string,
    private readonly terminal: Pick<WriteStream, "isTTY" | "write"> = process.stderr,
  ) {}

  get rows(): number {
    return this.#rows;
  }

  add(): void {
    this.#rows += 1;
    if (this.terminal.isTTY && this.#rows % rowsPerLine === 0) {
      this.terminal.write(`\r${this.#rows} rows ${this.what}`);
    }
  }

  /** Clears the line. */
  end(): void {
    if (this.terminal.isTTY && this.#rows >= rowsPerLine) this.terminal.write("\r\u001b[K");
  }
}

const rowsPerLine = 500;
