/** Connect's calls with one message and one answer, without envelopes. */
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJsonBytes, trailerMux } from "@connectrpc/connect/protocol-connect";
import type { Call } from "./call.js";
import type { OutgoingHeaders } from "./exchange.js";
import { toNodeHeaders } from "./headers.js";
import type { FastMethod } from "./methods.js";

const emptyTrailer = new Headers();

export async function answerUnary(fast: FastMethod, call: Call): Promise<void> {
  const { exchange, encoding } = call;
  const body = await exchange.body(fast.readMaxBytes);
  let status = 200;
  let bytes: Uint8Array;
  try {
    if (body.cut) throw tooLarge(fast.readMaxBytes);
    const message = fast.serialization.getI(encoding.binary).parse(body.bytes);
    const response = await fast.invoke(call.request(message));
    bytes = fast.serialization.getO(encoding.binary).serialize(response.message as never);
  } catch (reason) {
    call.end(reason);
    const error = toConnectError(reason);
    status = codeToHttpStatus(error.code);
    call.responseHeader.set("content-type", "application/json");
    for (const [name, value] of error.metadata) call.responseHeader.set(name, value);
    bytes = errorToJsonBytes(error, fast.jsonOptions);
  }
  call.end();
  if (exchange.gone) return;
  exchange.head(status, headersOf(call, bytes.length));
  exchange.end(bytes);
}

function headersOf({ encoding, written }: Call, bytes: number): OutgoingHeaders {
  const { header, trailer } = written;
  if (header === undefined && trailer === undefined) {
    return { "content-type": encoding.contentType, "content-length": bytes };
  }
  const own = header ?? new Headers({ "content-type": encoding.contentType });
  const muxed = trailerMux(own, trailer ?? emptyTrailer);
  return { ...toNodeHeaders(muxed), "content-length": bytes };
}

function tooLarge(readMaxBytes: number): ConnectError {
  return new ConnectError(
    `message size is larger than configured readMaxBytes ${readMaxBytes}`,
    Code.ResourceExhausted,
  );
}

export function toConnectError(reason: unknown): ConnectError {
  if (reason instanceof ConnectError) return reason;
  return new ConnectError("internal error", Code.Internal, undefined, undefined, reason);
}
