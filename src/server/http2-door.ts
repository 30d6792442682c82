/**
 * HTTP/2 of one listening socket: its connections, and the two ways in which
 * their requests are answered.
 *
 *     stream ──▶ short way ──▶ answered on the stream
 *                   │ no
 *                   ▼
 *        Node's request and response ──▶ bounds of the header ──▶ handler
 */
import {
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import { answer, type RequestHandler, type ShortWay } from "./handler.js";
import { beyondBounds, guardHeaders, listSizeOf, pseudoHeaders } from "./header-bounds.js";
import { keepCalm } from "./keep-calm.js";
import type { ConnectionLimits } from "./limits.js";
import { StalledStreams } from "./stalled-streams.js";
import { StreamRequest } from "./stream-request.js";

export interface Http2Door {
  /** @param onFirstRequest of this connection */
  accept(socket: Socket, onFirstRequest: () => void): void;
  /** Lets each request end, and closes each connection when it has none. */
  drain(): void;
  /** Closes every connection at once. */
  destroy(): void;
}

/**
 * @param handler answers what the short way leaves
 * @param shortWay gets requests whose header is within its bounds
 */
export function createHttp2Door(
  handler: RequestHandler,
  shortWay: ShortWay,
  limits: ConnectionLimits,
): Http2Door {
  const sessions = new Set<ServerHttp2Session>();
  const stalled = new StalledStreams(limits);
  const server = createServer({
    settings: {
      maxConcurrentStreams: limits.streamsPerConnection,
      maxHeaderListSize: listSizeOf(limits),
    },
    maxHeaderListPairs: limits.headerFields + pseudoHeaders + 1,
  });
  server.on("session", onSession);
  server.on("stream", onStream);
  // Has no connections: it makes Node's request and response of the streams that it is given.
  const guarded = guardHeaders(handler, limits);
  const complete = createServer((req, res) => answer(guarded, req, res));

  return {
    accept(socket, onFirstRequest) {
      const noteStreams = (session: ServerHttp2Session) => session.once("stream", onFirstRequest);
      // It is the session of this socket: the event comes before `emit` returns.
      server.once("session", noteStreams);
      server.emit("connection", socket);
      server.off("session", noteStreams);
    },
    drain() {
      for (const session of sessions) session.close();
    },
    destroy() {
      for (const session of sessions) session.destroy();
    },
  };

  function onStream(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    flags: number,
    rawHeaders: string[],
  ): void {
    // An error of its connection is one of each stream. That it is closed is all that matters of it.
    stream.on("error", ignore);
    // Cancelled in the same read in which it came, or its connection has failed in that.
    if (stream.destroyed) return;
    const request = new StreamRequest(stream, headers, rawHeaders);
    if (beyondBounds(request.url, rawHeaders, limits) === undefined && shortWay(request)) return;
    complete.emit("stream", stream, headers, flags, rawHeaders);
  }

  function onSession(session: ServerHttp2Session): void {
    let streams = 0;
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    keepCalm(session, limits.resetsPerConnection);
    session.on("stream", (stream) => {
      streams += 1;
      const forget = stalled.watch(stream);
      stream.on("close", () => {
        streams -= 1;
        forget();
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

function ignore(): void {}
