import { constants, type ServerHttp2Stream } from "node:http2";
import type { ConnectionLimits } from "./limits.js";

type Limits = Pick<ConnectionLimits, "requestTimeoutMs" | "idleTimeoutMs">;

/** So long a stream may be open before anything is measured. */
const longestMomentMs = 1_000;

/**
 * Ends HTTP/2 streams whose clients have not ended their requests and send
 * nothing, or take nothing of the responses that wait for them. A stream on
 * which the server has nothing to say is left alone: a watch may be silent for
 * hours.
 *
 * A timer costs a small call more than it takes to answer it, so only a stream
 * that is open for longer than a moment gets one: a tenth of the shorter limit,
 * at most a second. By so much a stall may be noticed late, and never early.
 */
export class StalledStreams {
  /**
   * Open for less than a moment; each has its place until it is closed. Not a
   * Set, whose old tables keep what was in them from being collected as young.
   */
  readonly #young: (ServerHttp2Stream | undefined)[] = [];
  readonly #freePlaces: number[] = [];
  readonly #momentMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly limits: Limits) {
    this.#momentMs = Math.min(longestMomentMs, limits.requestTimeoutMs / 10, limits.idleTimeoutMs / 10);
  }

  /** Answers what is to be called when the stream is closed. */
  watch(stream: ServerHttp2Stream): () => void {
    const place = this.#freePlaces.pop() ?? this.#young.length;
    this.#young[place] = stream;
    this.#timer ??= setTimeout(() => this.#sweep(), this.#momentMs).unref();
    return () => {
      this.#young[place] = undefined;
      this.#freePlaces.push(place);
    };
  }

  #sweep(): void {
    this.#timer = undefined;
    for (const [place, stream] of this.#young.entries()) {
      if (stream === undefined) continue;
      closeStalled(stream, this.limits);
      this.#young[place] = undefined;
    }
  }
}

function closeStalled(stream: ServerHttp2Stream, limits: Limits): void {
  let isRequestOver = stream.endAfterHeaders || stream.readableEnded;
  stream.setTimeout(isRequestOver ? limits.idleTimeoutMs : limits.requestTimeoutMs);
  stream.once("end", () => {
    isRequestOver = true;
    stream.setTimeout(limits.idleTimeoutMs);
  });
  stream.on("timeout", () => {
    // Node.js would send CANCEL only when something else is to be sent.
    if (!isRequestOver || stream.writableLength > 0) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });
}
