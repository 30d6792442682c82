/** How much a child may write to its standard output in one run. */
export interface OutputLimits {
  /** Default 32 MiB: a line may hold an image that a tool has read. */
  readonly maxLineBytes: number;
  /** Default 512 MiB. */
  readonly maxBytes: number;
  /** Default 1,000,000. */
  readonly maxLines: number;
}

export const defaultOutputLimits: OutputLimits = {
  maxLineBytes: 32 * 1024 * 1024,
  maxBytes: 512 * 1024 * 1024,
  maxLines: 1_000_000,
};

/** An answer is kept whole in memory and in the store. */
export const mostAnswerBytes = 32 * 1024 * 1024;

export class OutputLimitError extends Error {
  override readonly name = "OutputLimitError";
}

const newline = 0x0a;
const carriageReturn = 0x0d;

/**
 * Cuts bytes into lines. A line is decoded as a whole, so a chunk may end
 * anywhere, within a character too.
 */
export class LineSplitter {
  readonly #limits: OutputLimits;
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  #totalBytes = 0;
  #lines = 0;

  constructor(limits: OutputLimits = defaultOutputLimits) {
    this.#limits = limits;
  }

  /** What came before no longer counts towards the limits. */
  countAnew(): void {
    this.#totalBytes = this.#pieceBytes;
    this.#lines = 0;
  }

  /** The lines that end within `chunk`. Throws OutputLimitError. */
  push(chunk: Buffer): string[] {
    this.#totalBytes += chunk.length;
    if (this.#totalBytes > this.#limits.maxBytes) {
      throw new OutputLimitError(`more than ${this.#limits.maxBytes} bytes of output`);
    }
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      this.#keep(chunk.subarray(start, end));
      lines.push(this.#takeLine());
      start = end + 1;
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
    return lines;
  }

  /** What follows the last newline, if anything does. */
  end(): string[] {
    return this.#pieceBytes === 0 ? [] : [this.#takeLine()];
  }

  #keep(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#pieceBytes += piece.length;
    if (this.#pieceBytes > this.#limits.maxLineBytes) {
      throw new OutputLimitError(`a line of more than ${this.#limits.maxLineBytes} bytes`);
    }
  }

  #takeLine(): string {
    if (++this.#lines > this.#limits.maxLines) {
      throw new OutputLimitError(`more than ${this.#limits.maxLines} lines of output`);
    }
    const line = Buffer.concat(this.#pieces, this.#pieceBytes);
    this.#pieces = [];
    this.#pieceBytes = 0;
    return line.at(-1) === carriageReturn ? line.toString("utf8", 0, line.length - 1) : line.toString("utf8");
  }
}
