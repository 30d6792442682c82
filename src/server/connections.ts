/**
 * The connections of one listening socket: each is given to an HTTP/1.1 or an
 * HTTP/2 server by its first bytes, and all of them can be drained.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { answer, type RequestHandler, type ShortWay } from "./handler.js";
import { guardHeaders } from "./header-bounds.js";
import { createHttp2Door } from "./http2-door.js";
import type { ConnectionLimits } from "./limits.js";
import { sniffProtocol } from "./preface.js";

/** HTTP/1.1 requests of one connection that have no complete response; common clients have one. */
const mostPipelined = 16;

export interface Connections {
  accept(socket: Socket): void;
  /** Closes the oldest connection that has not had a request; false if there is none. */
  dropSilent(): boolean;
  /** Lets each request end, and closes each connection when it has none. */
  drain(): void;
  /** Closes every connection at once. */
  destroy(): void;
}

export function createConnections(
  inner: RequestHandler,
  shortWay: ShortWay,
  limits: ConnectionLimits,
): Connections {
  const handler = guardHeaders(inner, limits);
  const sockets = new Set<Socket>();
  const undecided = new Set<Socket>();
  /** Without a request so far, the oldest first. */
  const silent = new Set<Socket>();
  /** Sockets of HTTP/1.1, with the number of requests that have no complete response. */
  const pending = new Map<Socket, number>();
  let draining = false;

  const h1 = createServer(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.idleTimeoutMs,
      connectionsCheckingInterval: Math.min(1000, limits.headersTimeoutMs),
      // The parser refuses what has so many bytes.
      maxHeaderSize: limits.headerBytes + 1,
    },
    onHttp1Request,
  );
  // The parser leaves out what comes after these, and the request is refused for their number.
  h1.maxHeadersCount = limits.headerFields + 1;
  h1.setTimeout(limits.idleTimeoutMs, (socket) => {
    const isIdle = pending.get(socket) === 0;
    if (isIdle || socket.writableLength > 0) socket.destroy();
  });
  // The timeouts are checked from this event on, and the server itself never listens.
  h1.emit("listening");

  const h2 = createHttp2Door(inner, shortWay, limits);

  return {
    accept(socket) {
      undecided.add(socket);
      sockets.add(socket);
      silent.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        silent.delete(socket);
        undecided.delete(socket);
        pending.delete(socket);
      });
      sniffProtocol(socket, limits.headersTimeoutMs, (protocol) => {
        undecided.delete(socket);
        if (protocol === "h2") {
          // A client that closes its half has left; HTTP/1.1 clients may do so and wait for the answer.
          socket.allowHalfOpen = false;
          h2.accept(socket, () => silent.delete(socket));
        } else {
          pending.set(socket, 0);
          h1.emit("connection", socket);
          socket.resume();
        }
      });
    },
    dropSilent() {
      const [oldest] = silent;
      if (oldest === undefined) return false;
      silent.delete(oldest);
      oldest.destroy();
      return true;
    },
    drain() {
      draining = true;
      for (const socket of undecided) socket.destroy();
      h2.drain();
      for (const [socket, count] of pending) if (count === 0) socket.destroySoon();
    },
    destroy() {
      h2.destroy();
      // Those of sessions that have closed, too: the client may keep its half open.
      for (const socket of sockets) socket.destroy();
      // Ends the checking of timeouts.
      h1.close();
    },
  };

  function onHttp1Request(req: IncomingMessage, res: ServerResponse): void {
    const { socket } = req;
    silent.delete(socket);
    // One read may hold hundreds of requests, and others would wait for all of them.
    const waiting = (pending.get(socket) ?? 0) + 1;
    if (waiting > mostPipelined) return void socket.destroy();
    pending.set(socket, waiting);
    res.once("close", () => {
      const count = pending.get(socket);
      if (count === undefined) return;
      pending.set(socket, count - 1);
      if (draining && count === 1) socket.destroySoon();
    });
    if (draining) res.setHeader("connection", "close");
    answer(handler, req, res);
  }
}
