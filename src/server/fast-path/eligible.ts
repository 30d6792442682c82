/**
 * Which requests the fast path answers, decided on the header block alone: what
 * has been read of a body cannot be handed over. Whatever is unusual here is
 * left to connect-node, which also says what is wrong with it.
 */
import type { IncomingHttpHeaders } from "node:http";
import { mostBodyBytes } from "./envelopes.js";

export type Protocol = "connect" | "grpc";

/** How a request that the fast path answers is encoded. */
export interface Encoding {
  readonly protocol: Protocol;
  /** Protobuf's binary format, or else JSON. */
  readonly binary: boolean;
  /** The message stands in an envelope, and so do the answers. */
  readonly enveloped: boolean;
  /** Of the answer; connect-node sends the plainest name of the format. */
  readonly contentType: string;
  /** Absent: the call has no deadline. */
  readonly timeoutMs?: number;
}

export interface RequestFacts {
  readonly headers: IncomingHttpHeaders;
  readonly httpMajor: number;
  readonly streaming: boolean;
  /** Largest message, in bytes. */
  readonly readMaxBytes: number;
}

type Format = Omit<Encoding, "timeoutMs">;

const unary: Readonly<Record<string, Format>> = {
  "application/json": format("connect", false, false, "application/json"),
  "application/proto": format("connect", true, false, "application/proto"),
};

const streams: Readonly<Record<string, Format>> = {
  "application/connect+json": format("connect", false, true, "application/connect+json"),
  "application/connect+proto": format("connect", true, true, "application/connect+proto"),
};

/** Over HTTP/2 only: HTTP/1.1 has trailers that nobody reads. */
const grpc: Readonly<Record<string, Format>> = {
  "application/grpc": format("grpc", true, true, "application/grpc+proto"),
  "application/grpc+proto": format("grpc", true, true, "application/grpc+proto"),
};

function format(protocol: Protocol, binary: boolean, enveloped: boolean, contentType: string): Format {
  return { protocol, binary, enveloped, contentType };
}

/** Undefined: for connect-node. */
export function encodingOf({
  headers,
  httpMajor,
  streaming,
  readMaxBytes,
}: RequestFacts): Encoding | undefined {
  const contentType = headers["content-type"] ?? "";
  const formats = streaming ? streams : unary;
  const found = own(formats, contentType) ?? (httpMajor === 2 ? own(grpc, contentType) : undefined);
  if (found === undefined) return undefined;
  if (isCompressed(headers)) return undefined;
  const length = headers["content-length"];
  if (length !== undefined && Number(length) > mostBodyBytes(found.enveloped, readMaxBytes)) return undefined;
  const timeout = found.protocol === "grpc" ? grpcTimeout(headers) : connectTimeout(headers);
  if (timeout === "unusual") return undefined;
  return timeout === undefined ? found : { ...found, timeoutMs: timeout };
}

function own(formats: Readonly<Record<string, Format>>, contentType: string): Format | undefined {
  return Object.hasOwn(formats, contentType) ? formats[contentType] : undefined;
}

function isCompressed(headers: IncomingHttpHeaders): boolean {
  return (
    isOther(headers["content-encoding"]) ||
    isOther(headers["connect-content-encoding"]) ||
    isOther(headers["grpc-encoding"])
  );
}

function isOther(encoding: string | string[] | undefined): boolean {
  return encoding !== undefined && encoding !== "identity";
}

/** https://connectrpc.com/docs/protocol#timeouts */
function connectTimeout(headers: IncomingHttpHeaders): number | "unusual" | undefined {
  const text = headers["connect-timeout-ms"];
  if (text === undefined) return undefined;
  return typeof text === "string" && /^\d{1,10}$/.test(text) ? Number(text) : "unusual";
}

const unitMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
function grpcTimeout(headers: IncomingHttpHeaders): number | "unusual" | undefined {
  const text = headers["grpc-timeout"];
  if (text === undefined) return undefined;
  const [, digits, unit] = (typeof text === "string" && /^(\d{1,8})([HMSmun])$/.exec(text)) || [];
  return digits === undefined || unit === undefined ? "unusual" : Number(digits) * (unitMs[unit] ?? 0);
}
