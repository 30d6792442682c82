import type { ServerResponse } from "node:http";
import type { ApiError } from "../errors.js";
import { type EventStream, openEventStream } from "../sse.js";
import type { ResponseEvent } from "./events.js";

type Headers = Readonly<Record<string, string>>;
type Every = (callback: () => void) => () => void;

/** A stream of numbered events, opened by the first. */
export class ResponseStream {
  #stream: EventStream | undefined;

  constructor(
    private readonly res: ServerResponse,
    private readonly every: Every,
  ) {}

  open(headers: Headers): void {
    this.#stream ??= openEventStream(this.res, headers, this.every);
  }

  async send(event: ResponseEvent): Promise<void> {
    await this.#stream?.send(event, event.type);
  }

  alive(): void {
    this.#stream?.keepAlive();
  }

  async end(): Promise<void> {
    await this.#stream?.end();
  }

  /** The adapter cannot go on. How the turn ended is told by its events. */
  async failed({ message, init }: ApiError, number: number): Promise<void> {
    const { code, param = null } = init;
    await this.send({ type: "error", code, message, param, sequence_number: number });
    await this.end();
  }
}
