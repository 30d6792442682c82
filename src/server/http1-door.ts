/**
 * HTTP/1.1 of one listening socket: its connections, and the two ways in which
 * their requests are answered.
 *
 *     bytes ──▶ plain request ──▶ short way ──▶ answered on the socket
 *         │ unusual                 │ no
 *         ▼                         ▼
 *        Node's server, from now on ──▶ bounds of the header ──▶ handler
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { answer, type RequestHandler, type ShortWay } from "./handler.js";
import { guardHeaders } from "./header-bounds.js";
import type { ConnectionLimits } from "./limits.js";
import { PlainConnection } from "./plain-connection.js";
import { KnownHeads } from "./plain-head.js";

/** Requests of one connection that have no complete response; common clients have one. */
const mostPipelined = 16;

export interface Http1Door {
  /** @param onFirstRequest of this connection; may be called again for later ones */
  accept(socket: Socket, onFirstRequest: () => void): void;
  /** Lets each request end, and closes each connection when it has none. */
  drain(): void;
  /** Ends what the door does by itself. Its connections are the caller's to close. */
  destroy(): void;
}

interface LeftConnection {
  /** Requests that have no complete response. */
  pending: number;
  readonly onRequest: () => void;
}

/**
 * @param inner answers what the short way leaves
 * @param shortWay gets requests whose header is within its bounds
 */
export function createHttp1Door(
  inner: RequestHandler,
  shortWay: ShortWay,
  limits: ConnectionLimits,
): Http1Door {
  const handler = guardHeaders(inner, limits);
  const plain = new Map<Socket, PlainConnection>();
  const heads = new KnownHeads();
  const left = new Map<Socket, LeftConnection>();
  let draining = false;

  const server = createServer(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.idleTimeoutMs,
      connectionsCheckingInterval: Math.min(1000, limits.headersTimeoutMs),
      // The parser refuses what has so many bytes.
      maxHeaderSize: limits.headerBytes + 1,
    },
    onRequest,
  );
  // The parser leaves out what comes after these, and the request is refused for their number.
  server.maxHeadersCount = limits.headerFields + 1;
  server.setTimeout(limits.idleTimeoutMs, (socket) => {
    const isIdle = left.get(socket)?.pending === 0;
    if (isIdle || socket.writableLength > 0) socket.destroy();
  });
  // The timeouts are checked from this event on, and the server itself never listens.
  server.emit("listening");

  return {
    accept(socket, onFirstRequest) {
      const onLeft = () => {
        plain.delete(socket);
        left.set(socket, { pending: 0, onRequest: onFirstRequest });
        server.emit("connection", socket);
        socket.resume();
      };
      socket.once("close", () => {
        plain.delete(socket);
        left.delete(socket);
      });
      const options = { shortWay, limits, heads, onRequest: onFirstRequest, onLeft };
      plain.set(socket, new PlainConnection(socket, options));
      socket.resume();
    },
    drain() {
      draining = true;
      for (const connection of plain.values()) connection.drain();
      for (const [socket, { pending }] of left) if (pending === 0) socket.destroySoon();
    },
    destroy() {
      // Ends the checking of timeouts.
      server.close();
    },
  };

  function onRequest(req: IncomingMessage, res: ServerResponse): void {
    const { socket } = req;
    const connection = left.get(socket);
    if (connection === undefined) return void socket.destroy();
    connection.onRequest();
    // One read may hold hundreds of requests, and others would wait for all of them.
    if (connection.pending === mostPipelined) return void socket.destroy();
    connection.pending += 1;
    res.once("close", () => {
      connection.pending -= 1;
      if (draining && connection.pending === 0) socket.destroySoon();
    });
    if (draining) res.setHeader("connection", "close");
    answer(handler, req, res);
  }
}
