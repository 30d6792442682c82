/** Requests that are answered before their end, such as those that are too large. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import type { RequestHandler } from "./handler.js";

/**
 * connect-node stops reading a body that it refuses, and leaves it at that: a client that goes on sending
 * waits for ever, and so does its next request on an HTTP/1.1 connection. Here the client is told,
 * by the end of the stream or of the connection.
 */
export function withRefusedBodies(handler: RequestHandler): RequestHandler {
  return (req, res) => {
    if ("stream" in req) {
      const { stream } = req;
      stream.once("wantTrailers", () => {
        if (!stream.readableEnded) closeSoon(stream);
      });
    } else closeAfterRefusal(req, res as ServerResponse);
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

/** Of the connection: the rest of a destroyed request is read by nobody. */
function closeAfterRefusal(req: IncomingMessage, res: ServerResponse): void {
  const { socket } = req;
  const isRefused = () => req.destroyed && !req.complete;
  const writeHead = res.writeHead.bind(res) as (...args: unknown[]) => ServerResponse;
  res.writeHead = (...args: unknown[]) => {
    if (isRefused()) res.setHeader("connection", "close");
    return writeHead(...args);
  };
  res.once("finish", () => {
    if (isRefused()) socket.destroySoon();
  });
}
