/** Calls whose messages stand in envelopes: Connect's streams, and all of gRPC. */
import type { ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { endStreamFlag } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { plainGrpcMessage } from "../grpc-compat.js";
import type { Call } from "./call.js";
import { EnvelopeBuffer, onlyEnvelope, onlyMessage, readEnvelopes } from "./envelopes.js";
import type { OutgoingHeaders } from "./exchange.js";
import { toNodeHeaders } from "./headers.js";
import type { FastMethod } from "./methods.js";
import { toConnectError } from "./unary.js";

/** What is sent at once, although more may come in the same moment. */
const flushBytes = 16 * 1024;
const envelopeHeadBytes = 5;

export async function answerStream(fast: FastMethod, call: Call): Promise<void> {
  const { exchange, encoding } = call;
  const sender = new Sender(fast, call);
  let error: ConnectError | undefined;
  try {
    const input = messagesOf(fast, call);
    const message = fast.streaming ? input : await onlyMessage(input, "unary");
    const response = await fast.invoke(call.request(message));
    const output = fast.serialization.getO(encoding.binary);
    if (!response.stream) sender.add(output.serialize(response.message as never));
    else {
      for await (const each of response.message) {
        await sender.send(output.serialize(each as never));
        if (exchange.gone) break;
      }
    }
  } catch (reason) {
    error = toConnectError(reason);
  }
  call.end(error);
  sender.end(error);
}

/** As connect-node has them: read and parsed when they are asked for, which who may not call never gets to. */
async function* messagesOf(fast: FastMethod, { encoding, exchange }: Call): AsyncGenerator<object> {
  const parser = fast.serialization.getI(encoding.binary);
  const { bytes, cut } = await exchange.body(fast.readMaxBytes + envelopeHeadBytes);
  const only = cut ? undefined : onlyEnvelope(bytes);
  if (only !== undefined) yield parser.parse(only);
  else yield* readEnvelopes(bytes, parser, encoding.protocol, fast.readMaxBytes);
}

/** Sends what comes in one moment in one piece. */
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
  ) {}

  add(message: Uint8Array): void {
    this.#buffer.add(message);
  }

  /** Resolves at once unless the reader is slower than what comes. */
  async send(message: Uint8Array): Promise<void> {
    this.#buffer.add(message);
    if (this.#buffer.bytes >= flushBytes) this.#flush();
    else if (!this.#scheduled && this.#drained === undefined) {
      this.#scheduled = true;
      process.nextTick(() => {
        this.#scheduled = false;
        this.#flush();
      });
    }
    if (this.#drained !== undefined) await this.#drained;
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
    const { exchange, encoding, written } = this.call;
    const headers =
      written.header === undefined ? { "content-type": encoding.contentType } : toNodeHeaders(written.header);
    exchange.head(200, headers, encoding.protocol === "grpc");
  }
}

function grpcTrailers(trailer: Headers | undefined, error: ConnectError | undefined): OutgoingHeaders {
  if (trailer === undefined && error === undefined) return { "grpc-status": "0" };
  const trailers = setTrailerStatus(trailer ?? new Headers(), error);
  const message = trailers.get("grpc-message");
  if (message !== null) trailers.set("grpc-message", plainGrpcMessage(message));
  return toNodeHeaders(trailers);
}
