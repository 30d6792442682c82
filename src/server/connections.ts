/**
 * The connections of one listening socket: each is given to an HTTP/1.1 or an
 * HTTP/2 server by its first bytes, and all of them can be drained.
 */
import type { Socket } from "node:net";
import type { RequestHandler, ShortWay } from "./handler.js";
import { createHttp1Door } from "./http1-door.js";
import { createHttp2Door } from "./http2-door.js";
import type { ConnectionLimits } from "./limits.js";
import { sniffProtocol } from "./preface.js";

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
  handler: RequestHandler,
  shortWay: ShortWay,
  limits: ConnectionLimits,
): Connections {
  const sockets = new Set<Socket>();
  const undecided = new Set<Socket>();
  /** Without a request so far, the oldest first. */
  const silent = new Set<Socket>();
  const h1 = createHttp1Door(handler, shortWay, limits);
  const h2 = createHttp2Door(handler, shortWay, limits);

  return {
    accept(socket) {
      undecided.add(socket);
      sockets.add(socket);
      silent.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        silent.delete(socket);
        undecided.delete(socket);
      });
      sniffProtocol(socket, limits.headersTimeoutMs, (protocol) => {
        undecided.delete(socket);
        // A client that closes its half has left; HTTP/1.1 clients may do so and wait for the answer.
        if (protocol === "h2") socket.allowHalfOpen = false;
        const door = protocol === "h2" ? h2 : h1;
        door.accept(socket, () => silent.delete(socket));
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
      for (const socket of undecided) socket.destroy();
      h2.drain();
      h1.drain();
    },
    destroy() {
      h2.destroy();
      // Those of sessions that have closed, too: the client may keep its half open.
      for (const socket of sockets) socket.destroy();
      h1.destroy();
    },
  };
}
