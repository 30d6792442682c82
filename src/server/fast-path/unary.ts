/** Calls with one message and one answer. */
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJsonBytes, trailerMux } from "@connectrpc/connect/protocol-connect";
import type { OutgoingHeaders } from "../plain-reply.js";
import type { Call } from "./call.js";
import { mostBodyBytes, onlyEnvelope, onlyMessage, readEnvelopes, wrap } from "./envelopes.js";
import type { Body } from "./exchange.js";
import { toNodeHeaders } from "./headers.js";
import type { Payload } from "./messages/answer-writer.js";
import type { FastMethod } from "./methods.js";
import type { Rounds } from "./rounds.js";
import { grpcTrailers } from "./trailers.js";

export async function answerUnary(fast: FastMethod, call: Call, rounds: Rounds): Promise<void> {
  const { exchange, encoding } = call;
  const arriving = exchange.body(mostBodyBytes(encoding.enveloped, fast.readMaxBytes));
  const body = arriving instanceof Promise ? await arriving : arriving;
  let result: Payload | ConnectError;
  try {
    const message = encoding.enveloped ? await inEnvelope(fast, call, body) : plain(fast, call, body);
    const response = await fast.invoke(call.request(message));
    result = fast.serialize(response.message, encoding.binary);
  } catch (reason) {
    result = toConnectError(reason);
  }
  call.end(result instanceof ConnectError ? result : undefined);
  await rounds.end();
  if (exchange.gone) return;
  if (encoding.protocol === "grpc") sendGrpc(call, result);
  else if (result instanceof ConnectError) sendError(fast, call, result);
  else send(call, 200, result);
}

function plain(fast: FastMethod, { encoding }: Call, { bytes, cut }: Body): object {
  if (cut) throw tooLarge(fast.readMaxBytes);
  return fast.parse(bytes, encoding.binary);
}

function inEnvelope(fast: FastMethod, { encoding }: Call, { bytes, cut }: Body): object | Promise<object> {
  const only = cut ? undefined : onlyEnvelope(bytes);
  if (only !== undefined) return fast.parse(only, encoding.binary);
  return onlyMessage(readEnvelopes(bytes, fast, encoding), "unary");
}

function sendGrpc(call: Call, result: Payload | ConnectError): void {
  const { exchange, written } = call;
  exchange.head(200, call.head, true);
  if (result instanceof ConnectError) exchange.end(undefined, grpcTrailers(written.trailer, result));
  else exchange.end(wrap(result), grpcTrailers(written.trailer, undefined));
}

function sendError(fast: FastMethod, call: Call, error: ConnectError): void {
  call.responseHeader.set("content-type", "application/json");
  for (const [name, value] of error.metadata) call.responseHeader.set(name, value);
  send(call, codeToHttpStatus(error.code), errorToJsonBytes(error, fast.jsonOptions));
}

function send(call: Call, status: number, payload: Payload): void {
  call.exchange.head(status, headersOf(call, payload.length));
  call.exchange.end(payload);
}

const emptyTrailer = new Headers();

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
