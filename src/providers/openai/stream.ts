/** The data of server-sent events, out of bytes that may be cut anywhere. */
import { createParser } from "eventsource-parser";
import { defaultOutputLimits, OutputLimitError, type OutputLimits } from "../lines.js";

export class EventDecoder {
  readonly #limits: OutputLimits;
  readonly #decoder = new TextDecoder();
  #bytes = 0;
  #found: string[] = [];
  #isTooLong = false;
  readonly #parser;

  constructor(limits: OutputLimits = defaultOutputLimits) {
    this.#limits = limits;
    this.#parser = createParser({
      onEvent: ({ data }) => this.#found.push(data),
      onError: ({ type }) => {
        this.#isTooLong ||= type === "max-buffer-size-exceeded";
      },
      maxBufferSize: limits.maxLineBytes,
    });
  }

  /** The events that end within `chunk`. Throws OutputLimitError. */
  push(chunk: Buffer): string[] {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#limits.maxBytes) {
      throw new OutputLimitError(`more than ${this.#limits.maxBytes} bytes of output`);
    }
    this.#parser.feed(this.#decoder.decode(chunk, { stream: true }));
    if (this.#isTooLong) throw new OutputLimitError(`a line of more than ${this.#limits.maxLineBytes} bytes`);
    return this.#found.splice(0);
  }
}
