/** What gRPC clients of other languages need beyond connect-node. */
import type { RequestHandler } from "./handler.js";

/**
 * For the unix socket. Clients built on gRPC's C core send the percent-encoded
 * path of the socket as `:authority`, which is no host, and connect-node makes
 * a URL of it.
 */
export function withUsableAuthority(handler: RequestHandler): RequestHandler {
  return (req, res) => {
    const authority = req.headers[":authority"];
    if (typeof authority === "string" && !URL.canParse(`http://${authority}`)) {
      req.headers[":authority"] = "localhost";
    }
    handler(req, res);
  };
}

/**
 * Encodes `grpc-message` as the gRPC specification says: only bytes outside
 * 0x20 to 0x7E, and the percent sign. connect-es encodes more than that, and
 * some clients show what they do not expect as it is.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
 */
export function withPlainGrpcMessages(handler: RequestHandler): RequestHandler {
  return (req, res) => {
    if (req.headers["content-type"]?.startsWith("application/grpc") === true) {
      const addTrailers = res.addTrailers.bind(res);
      res.addTrailers = (trailers: Record<string, string | string[]>) => {
        const message = (trailers as Record<string, unknown>)["grpc-message"];
        addTrailers(
          typeof message === "string" ? { ...trailers, "grpc-message": plainGrpcMessage(message) } : trailers,
        );
      };
    }
    handler(req, res);
  };
}

/** From what connect-es makes of a message. */
export function plainGrpcMessage(encoded: string): string {
  return decodeURIComponent(encoded).replace(/[^\x20-\x24\x26-\x7e]+/gu, encodeURIComponent);
}
