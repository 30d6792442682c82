/** How a gRPC call ended. */
import type { ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { plainGrpcMessage } from "../grpc-compat.js";
import type { OutgoingHeaders } from "../plain-reply.js";
import { toNodeHeaders } from "./headers.js";

const ok: OutgoingHeaders = { "grpc-status": "0" };

export function grpcTrailers(trailer: Headers | undefined, error: ConnectError | undefined): OutgoingHeaders {
  if (trailer === undefined && error === undefined) return ok;
  const trailers = setTrailerStatus(trailer ?? new Headers(), error);
  const message = trailers.get("grpc-message");
  if (message !== null) trailers.set("grpc-message", plainGrpcMessage(message));
  return toNodeHeaders(trailers);
}
