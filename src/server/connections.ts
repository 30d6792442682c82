/**
 * The connections of one listening socket: each is given to an HTTP/1.1 or an
 * HTTP/2 server by its first bytes, and all of them can be drained.
 */
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { RequestHandler } from "./handler.js";
import { guardHeaders, listSizeOf, pseudoHeaders } from "./header-bounds.js";
import { keepCalm } from "./keep-calm.js";
import { sniffProtocol } from "./preface.js";
import { closeStalled } from "./stalled-streams.js";

export interface ConnectionLimits {
  /**
   * Connections at once on each listening socket. One more takes the place of the
   * oldest that has not had a request; if there is none, it is closed at once.
   */
  readonly connections: number;
  /** HTTP/2 streams at once on one connection. */
  readonly streamsPerConnection: number;
  /** Bytes of a request's path and header fields, names and values. */
  readonly headerBytes: number;
  /** Header fields of a request. */
  readonly headerFields: number;
  /** HTTP/2: streams that the client cancels, pings and settings, on one connection within 10 s. */
  readonly resetsPerConnection: number;
  /** From the opening of a connection, or the start of a later request, to the end of the header. */
  readonly headersTimeoutMs: number;
  /**
   * From the first to the last byte of an HTTP/1.1 request, and the silence of a
   * client that has not ended its request over HTTP/2. The response may take any
   * time.
   */
  readonly requestTimeoutMs: number;
  /**
   * How long a connection without a request is kept, and a response of which the
   * client takes nothing.
   */
  readonly idleTimeoutMs: number;
}

export const defaultLimits: ConnectionLimits = {
  connections: 4096,
  streamsPerConnection: 250,
  headerBytes: 64 * 1024,
  headerFields: 128,
  resetsPerConnection: 200,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 300_000,
  idleTimeoutMs: 300_000,
};

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

export function createConnections(inner: RequestHandler, limits: ConnectionLimits): Connections {
  const handler = guardHeaders(inner, limits);
  const sockets = new Set<Socket>();
  const undecided = new Set<Socket>();
  /** Without a request so far, the oldest first. */
  const silent = new Set<Socket>();
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

  const h2 = createHttp2Server(
    {
      settings: {
        maxConcurrentStreams: limits.streamsPerConnection,
        maxHeaderListSize: listSizeOf(limits),
      },
      maxHeaderListPairs: limits.headerFields + pseudoHeaders + 1,
    },
    (req, res) => answer(handler, req, res),
  );
  h2.on("session", onSession);

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
          const noteStreams = (session: ServerHttp2Session) =>
            session.once("stream", () => silent.delete(socket));
          // It is the session of this socket: the event comes before `emit` returns.
          h2.once("session", noteStreams);
          h2.emit("connection", socket);
          h2.off("session", noteStreams);
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

  function onSession(session: ServerHttp2Session): void {
    let streams = 0;
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    keepCalm(session, limits.resetsPerConnection);
    session.on("stream", (stream) => {
      streams++;
      closeStalled(stream, limits);
      stream.once("close", () => {
        streams--;
      });
    });
    session.setTimeout(limits.idleTimeoutMs);
    let isAsked = false;
    session.on("timeout", () => {
      // Silence on an open stream is not idleness: a watch may have nothing to say for hours.
      if (streams === 0) session.close();
      // One that the library has ended for a bad frame stays open, and answers nothing.
      else if (isAsked) session.destroy();
      else {
        isAsked = true;
        session.ping(() => {
          isAsked = false;
        });
        session.setTimeout(limits.idleTimeoutMs);
      }
    });
  }
}

/** A request that has no usable authority makes the handler throw before it answers. */
function answer(handler: RequestHandler, ...[req, res]: Parameters<RequestHandler>): void {
  // Cancelled in the same read in which it came.
  if ("stream" in req && req.stream.destroyed) return;
  try {
    handler(req, res);
  } catch {
    if (!res.headersSent) res.writeHead(400);
    res.end();
  }
}
