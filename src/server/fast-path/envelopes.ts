/**
 * Messages in envelopes, as Connect's streams and gRPC have them: a byte of
 * flags, four of length, and the message.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import {
  createAsyncIterable,
  pipe,
  transformDecompressEnvelope,
  transformParseEnvelope,
  transformSplitEnvelope,
} from "@connectrpc/connect/protocol";
import { endStreamFlag } from "@connectrpc/connect/protocol-connect";
import type { Encoding } from "./eligible.js";
import type { Payload } from "./messages/answer-writer.js";

const headBytes = 5;

/** Of a body with one message. */
export function mostBodyBytes(enveloped: boolean, readMaxBytes: number): number {
  return enveloped ? headBytes + readMaxBytes : readMaxBytes;
}

interface Reader {
  readonly parse: (message: Uint8Array, binary: boolean) => object;
  /** Largest message, in bytes. */
  readonly readMaxBytes: number;
}

/** The message of a body that is one plain envelope; undefined if it is anything else. */
export function onlyEnvelope(body: Buffer): Uint8Array | undefined {
  const isOne = body.length >= headBytes && body[0] === 0 && body.readUInt32BE(1) === body.length - headBytes;
  return isOne ? body.subarray(headBytes) : undefined;
}

/** Any body, as connect-node reads it, with its errors. */
export function readEnvelopes(
  body: Buffer,
  { parse, readMaxBytes }: Reader,
  { protocol, binary }: Pick<Encoding, "protocol" | "binary">,
): AsyncIterable<object> {
  const parser = { parse: (message: Uint8Array) => parse(message, binary) };
  return pipe(
    createAsyncIterable<Uint8Array>([body]),
    transformSplitEnvelope(readMaxBytes),
    transformDecompressEnvelope(null, readMaxBytes),
    protocol === "connect"
      ? transformParseEnvelope<object>(parser as never, endStreamFlag)
      : transformParseEnvelope<object>(parser as never),
  );
}

/** The one message of a request, with the errors of connect-node if there is another number of them. */
export async function onlyMessage<T>(messages: AsyncIterable<T>, kind: string): Promise<T> {
  const iterator = messages[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) {
    throw new ConnectError(`protocol error: missing input message for ${kind} method`, Code.Unimplemented);
  }
  const second = await iterator.next();
  if (second.done !== true) {
    throw new ConnectError(
      `protocol error: received extra input message for ${kind} method`,
      Code.Unimplemented,
    );
  }
  return first.value;
}

/** A message in its envelope. */
export function wrap(message: Payload): Buffer {
  const envelopes = new EnvelopeBuffer();
  envelopes.add(message);
  return envelopes.take();
}

/** Envelopes that are sent together, in one piece. */
export class EnvelopeBuffer {
  #messages: Payload[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(message: Payload): void {
    this.#messages.push(message);
    this.#bytes += headBytes + message.length;
  }

  take(): Buffer {
    const taken = Buffer.allocUnsafe(this.#bytes);
    let at = 0;
    for (const message of this.#messages) {
      taken[at] = 0;
      taken.writeUInt32BE(message.length, at + 1);
      at += headBytes;
      if (typeof message === "string") taken.write(message, at, "latin1");
      else taken.set(message, at);
      at += message.length;
    }
    this.#messages = [];
    this.#bytes = 0;
    return taken;
  }
}
