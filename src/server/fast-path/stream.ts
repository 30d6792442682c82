/** Calls that are answered with a stream of messages, each in an envelope. */
import type { ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { endStreamFlag } from "@connectrpc/connect/protocol-connect";
import type { Call } from "./call.js";
import { EnvelopeBuffer, mostBodyBytes, onlyEnvelope, readEnvelopes } from "./envelopes.js";
import type { Payload } from "./messages/answer-writer.js";
import type { FastMethod } from "./methods.js";
import type { Rounds } from "./rounds.js";
import { grpcTrailers } from "./trailers.js";
import { toConnectError } from "./unary.js";

/** What is sent at once, although more may come in the same moment. */
const flushBytes = 16 * 1024;

export async function answerStream(fast: FastMethod, call: Call, rounds: Rounds): Promise<void> {
  const { exchange, encoding } = call;
  const sender = new Sender(fast, call, rounds);
  let error: ConnectError | undefined;
  try {
    const response = await fast.invoke(call.request(messagesOf(fast, call)));
    for await (const each of response.message as AsyncIterable<never>) {
      const room = sender.send(fast.serialize(each, encoding.binary));
      if (room !== undefined) await room;
      if (exchange.gone) break;
    }
  } catch (reason) {
    error = toConnectError(reason);
  }
  call.end(error);
  sender.end(error);
}

/** As connect-node has them: read and parsed when they are asked for, which who may not call never gets to. */
async function* messagesOf(fast: FastMethod, call: Call): AsyncGenerator<object> {
  const { encoding, exchange } = call;
  const { bytes, cut } = await exchange.body(mostBodyBytes(encoding.enveloped, fast.readMaxBytes));
  const only = cut ? undefined : onlyEnvelope(bytes);
  if (only !== undefined) yield fast.parse(only, encoding.binary);
  else yield* readEnvelopes(bytes, fast, encoding);
}

/** Sends what comes in one round of the event loop in one piece. */
class Sender {
  readonly #buffer = new EnvelopeBuffer();
  #begun = false;
  #ended = false;
  #scheduled = false;
  /** While the reader is slower than what comes. */
  #drained: Promise<void> | undefined;

  constructor(
    private readonly fast: FastMethod,
    private readonly call: Call,
    private readonly rounds: Rounds,
  ) {}

  /** Resolves once there is room for more; undefined if there is. */
  send(message: Payload): Promise<void> | undefined {
    this.#buffer.add(message);
    if (this.#buffer.bytes >= flushBytes) this.#flush();
    else this.#schedule();
    return this.#drained;
  }

  #schedule(): void {
    if (this.#scheduled || this.#drained !== undefined) return;
    this.#scheduled = true;
    void this.rounds.end().then(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  end(error: ConnectError | undefined): void {
    const { exchange, encoding, written } = this.call;
    this.#ended = true;
    if (exchange.gone) return;
    this.#begin();
    let last = this.#buffer.take();
    if (encoding.protocol === "connect") {
      const metadata = written.trailer ?? new Headers();
      const end = this.fast.endStream.serialize(error === undefined ? { metadata } : { metadata, error });
      last = Buffer.concat([last, encodeEnvelope(endStreamFlag, end)]);
    }
    const trailers = encoding.protocol === "grpc" ? grpcTrailers(written.trailer, error) : undefined;
    exchange.end(last.length === 0 ? undefined : last, trailers);
  }

  #flush(): void {
    const { exchange } = this.call;
    if (this.#ended || this.#buffer.bytes === 0 || exchange.gone) return;
    this.#begin();
    if (exchange.write(this.#buffer.take()) || this.#drained !== undefined) return;
    this.#drained = exchange.drained().then(() => {
      this.#drained = undefined;
      this.#flush();
    });
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const { exchange, encoding, head } = this.call;
    exchange.head(200, head, encoding.protocol === "grpc");
  }
}
