/** Requests that are answered before their end, such as those that are too large. */
import type { IncomingMessage } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import type { RequestHandler } from "./handler.js";

/**
 * connect-node stops reading a body that it refuses, and leaves it at that: a client that goes on sending
 * waits for ever, and so does its next request on an HTTP/1.1 connection. Here the rest of the body is read
 * and dropped, or the client is told to keep it.
 */
export function withRefusedBodies(handler: RequestHandler): RequestHandler {
  return (req, res) => {
    if ("stream" in req) {
      const { stream } = req;
      stream.once("wantTrailers", () => {
        if (!stream.readableEnded) closeSoon(stream);
      });
    } else readToEnd(req);
    handler(req, res);
  };
}

/**
 * Ends an HTTP/2 stream with its answer, which has not ended.
 *
 * @param trailed the answer ends with trailers
 */
export function refuseBody(stream: ServerHttp2Stream, trailed: boolean): void {
  stream.once(trailed ? "wantTrailers" : "finish", () => closeSoon(stream));
}

/** After the trailers. https://www.rfc-editor.org/rfc/rfc9113#section-8.1-12 */
function closeSoon(stream: ServerHttp2Stream): void {
  setImmediate(() => stream.close());
}

/** Reads the rest and drops it, so that the answer arrives and the connection can be used again. */
function readToEnd(req: IncomingMessage): void {
  const { socket } = req;
  const destroy = req.destroy.bind(req);
  req.destroy = (error) => {
    // Without an error it is the end of a loop over the body.
    if (error || req.complete || socket.destroyed) return destroy(error);
    req.removeAllListeners("readable");
    return req.on("data", () => {});
  };
}
