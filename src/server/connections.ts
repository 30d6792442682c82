/**
 * The connections of one listening socket: each is given to an HTTP/1.1 or an
 * HTTP/2 server by its first bytes, and all of them can be drained.
 */
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { RequestHandler } from "./handler.js";
import { sniffProtocol } from "./preface.js";

export interface ConnectionLimits {
  /** Connections at once on each listening socket; more are closed at once. */
  readonly connections: number;
  /** HTTP/2 streams at once on one connection. */
  readonly streamsPerConnection: number;
  /** Bytes of a request's header fields, its path included. */
  readonly headerBytes: number;
  /** From the opening of a connection, or the start of a later request, to the end of the header. */
  readonly headersTimeoutMs: number;
  /**
   * From the first to the last byte of an HTTP/1.1 request; 0: no limit. The
   * response may take any time.
   */
  readonly requestTimeoutMs: number;
  /** How long a connection without a request is kept. */
  readonly idleTimeoutMs: number;
}

export const defaultLimits: ConnectionLimits = {
  connections: 4096,
  streamsPerConnection: 250,
  headerBytes: 64 * 1024,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 300_000,
  idleTimeoutMs: 300_000,
};

export interface Connections {
  accept(socket: Socket): void;
  /** Lets each request end, and closes each connection when it has none. */
  drain(): void;
  /** Closes every connection at once. */
  destroy(): void;
}

export function createConnections(handler: RequestHandler, limits: ConnectionLimits): Connections {
  const sockets = new Set<Socket>();
  const undecided = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  /** Sockets of HTTP/1.1, with the number of requests that have no complete response. */
  const pending = new Map<Socket, number>();
  let draining = false;

  const h1 = createHttp1Server(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.idleTimeoutMs,
      connectionsCheckingInterval: Math.min(1000, limits.headersTimeoutMs),
      maxHeaderSize: limits.headerBytes,
    },
    onHttp1Request,
  );
  // The timeouts are checked from this event on, and the server itself never listens.
  h1.emit("listening");

  const h2 = createHttp2Server(
    {
      settings: {
        maxConcurrentStreams: limits.streamsPerConnection,
        maxHeaderListSize: limits.headerBytes,
      },
    },
    (req, res) => answer(handler, req, res),
  );
  h2.on("session", onSession);

  return {
    accept(socket) {
      undecided.add(socket);
      sockets.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        undecided.delete(socket);
        pending.delete(socket);
      });
      sniffProtocol(socket, limits.headersTimeoutMs, (protocol) => {
        undecided.delete(socket);
        if (protocol === "h2") {
          // A client that closes its half has left; HTTP/1.1 clients may do so and wait for the answer.
          socket.allowHalfOpen = false;
          h2.emit("connection", socket);
        } else {
          pending.set(socket, 0);
          h1.emit("connection", socket);
          socket.resume();
        }
      });
    },
    drain() {
      draining = true;
      for (const socket of undecided) socket.destroy();
      for (const session of sessions) session.close();
      for (const [socket, count] of pending) if (count === 0) socket.destroySoon();
    },
    destroy() {
      for (const session of sessions) session.destroy();
      // Those of sessions that have closed, too: the client may keep its half open.
      for (const socket of sockets) socket.destroy();
      // Ends the checking of timeouts.
      h1.close();
    },
  };

  function onHttp1Request(req: IncomingMessage, res: ServerResponse): void {
    const { socket } = req;
    pending.set(socket, (pending.get(socket) ?? 0) + 1);
    res.once("close", () => {
      const count = pending.get(socket);
      if (count === undefined) return;
      pending.set(socket, count - 1);
      if (draining && count === 1) socket.destroySoon();
    });
    if (draining) res.setHeader("connection", "close");
    answer(handler, req, res);
  }

  function onSession(session: ServerHttp2Session): void {
    let streams = 0;
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.on("stream", (stream) => {
      streams++;
      stream.once("close", () => {
        streams--;
      });
    });
    session.setTimeout(limits.idleTimeoutMs);
    session.on("timeout", () => {
      // Silence on an open stream is not idleness: a watch may have nothing to say for hours.
      if (streams === 0) session.close();
      else session.setTimeout(limits.idleTimeoutMs);
    });
  }
}

/** A request that has no usable authority makes the handler throw before it answers. */
function answer(handler: RequestHandler, ...[req, res]: Parameters<RequestHandler>): void {
  try {
    handler(req, res);
  } catch {
    if (!res.headersSent) res.writeHead(400);
    res.end();
  }
}
