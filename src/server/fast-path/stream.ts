/** Calls that are answered with a stream of messages, each in an envelope. */
import type { ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { endStreamFlag } from "@connectrpc/connect/protocol-connect";
import type { Call } from "./call.js";
import { EnvelopeBuffer, onlyEnvelope, readEnvelopes } from "./envelopes.js";
import { toNodeHeaders } from "./headers.js";
import type { FastMethod } from "./methods.js";
import { grpcTrailers } from "./trailers.js";
import { mostBytes, toConnectError, tooLarge } from "./unary.js";

/** What is sent at once, although more may come in the same moment. */
const flushBytes = 16 * 1024;

export async function answerStream(fast: FastMethod, call: Call): Promise<void> {
  const { exchange, encoding } = call;
  const body = await exchange.body(mostBytes(fast, call));
  const sender = new Sender(fast, call);
  let error: ConnectError | undefined;
  try {
    if (body === undefined) throw tooLarge(fast.readMaxBytes);
    const response = await fast.invoke(call.request(messagesOf(fast, call, body)));
    const output = fast.serialization.getO(encoding.binary);
    for await (const each of response.message as AsyncIterable<never>) {
      const room = sender.send(output.serialize(each));
      if (room !== undefined) await room;
      if (exchange.gone) break;
    }
  } catch (reason) {
    error = toConnectError(reason);
  }
  call.end(error);
  sender.end(error, body === undefined);
}

/** As connect-node has them: read and parsed when they are asked for. */
async function* messagesOf(fast: FastMethod, { encoding }: Call, body: Buffer): AsyncGenerator<object> {
  const parser = fast.serialization.getI(encoding.binary);
  const only = onlyEnvelope(body);
  if (only === undefined) yield* readEnvelopes(body, parser, encoding.protocol, fast.readMaxBytes);
  else yield parser.parse(only);
}

/** Sends what comes in one moment in one piece. */
class Sender {
  readonly #buffer = new EnvelopeBuffer();
  #begun = false;
  #ended = false;
  #scheduled = false;
  /** The reader is slower than what comes. */
  #isFull = false;

  constructor(
    private readonly fast: FastMethod,
    private readonly call: Call,
  ) {}

  /** Resolves once there is room for more; undefined if there is. */
  send(message: Uint8Array): Promise<void> | undefined {
    this.#buffer.add(message);
    if (this.#buffer.bytes >= flushBytes) this.#flush();
    else this.#schedule();
    return this.#isFull ? this.#room() : undefined;
  }

  async #room(): Promise<void> {
    await this.call.exchange.drained();
    this.#isFull = false;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  end(error: ConnectError | undefined, refused: boolean): void {
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
    if (refused) exchange.stopReading();
    const trailers = encoding.protocol === "grpc" ? grpcTrailers(written.trailer, error) : undefined;
    exchange.end(last.length === 0 ? undefined : last, trailers);
  }

  #flush(): void {
    if (this.#ended || this.#buffer.bytes === 0 || this.call.exchange.gone) return;
    this.#begin();
    this.#isFull = !this.call.exchange.write(this.#buffer.take());
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const { exchange, encoding, written } = this.call;
    const headers =
      written.header === undefined ? { "content-type": encoding.contentType } : toNodeHeaders(written.header);
    exchange.head(200, headers, encoding.protocol === "grpc");
  }
}
