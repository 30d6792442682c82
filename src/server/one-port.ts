/**
 * Listening: HTTP/1.1 and HTTP/2 on one TCP port, in cleartext with prior
 * knowledge or over TLS, and on a unix socket.
 */
import { type AddressInfo, createServer, type Server } from "node:net";
import type { Inherited } from "./activation.js";
import { type Connections, createConnections } from "./connections.js";
import type { RequestHandler, ShortWay } from "./handler.js";
import { type ConnectionLimits, defaultLimits } from "./limits.js";
import { ListenError, toListenError } from "./listen-error.js";
import { createTlsFront, type TlsFront, type TlsMaterial } from "./tls.js";
import { listenOnSocket } from "./unix-socket.js";

export interface ListenOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Path of a unix socket to listen on as well, with mode 0600. */
  readonly socketPath?: string;
  /** Sockets that are listened on already, in place of `host` and `port`, and of `socketPath`. */
  readonly inherited?: Inherited;
  readonly handler: RequestHandler;
  /** Asked before `handler`. Default: there is none. */
  readonly shortWay?: ShortWay;
  /** On the TCP port. Default: cleartext. */
  readonly tls?: TlsMaterial;
  /** For requests on the unix socket. Default: `handler`. */
  readonly socketHandler?: RequestHandler;
  /** The same for the unix socket. Default: `shortWay`. */
  readonly socketShortWay?: ShortWay;
  readonly limits?: Partial<ConnectionLimits>;
  /** Told when a connection cannot be accepted. */
  readonly onError?: (error: Error) => void;
}

export interface Listening {
  readonly port: number;
  /** The IP address that is listened on. */
  readonly address: string;
  /** For connections that come from now on, if there is TLS. Whether clients need a certificate stays. */
  replaceTls(material: TlsMaterial): void;
  /**
   * Takes no more connections, lets running requests end, and resolves when
   * every connection is closed. What is left after `graceMs` is cut off.
   */
  close(graceMs: number): Promise<void>;
}

/** Resolves once every address is listened on; otherwise rejects with a ListenError, and none is. */
export async function listen(options: ListenOptions): Promise<Listening> {
  const limits = { ...defaultLimits, ...options.limits };
  const { shortWay = () => false } = options;
  const tcp = createDoor(options.handler, shortWay, limits, options.tls);
  const doors = [tcp];
  try {
    const { inherited = {} } = options;
    if (inherited.port === undefined) await listenOnPort(tcp.server, options.host, options.port);
    else await listenOnDescriptor(tcp.server, inherited.port, "port");
    if (options.socketPath !== undefined || inherited.socket !== undefined) {
      const { socketHandler = options.handler, socketShortWay = shortWay } = options;
      const unix = createDoor(socketHandler, socketShortWay, limits);
      doors.push(unix);
      if (inherited.socket !== undefined) await listenOnDescriptor(unix.server, inherited.socket, "socket");
      else await listenOnSocket(unix.server, options.socketPath ?? "");
    }
  } catch (error) {
    await closeDoors(doors, 0);
    throw error;
  }
  for (const { server } of doors) server.on("error", (error) => options.onError?.(error));

  const { port, address } = tcp.server.address() as AddressInfo;
  let closed: Promise<void> | undefined;
  return {
    port,
    address,
    replaceTls: (material) => tcp.front?.replace(material),
    close(graceMs) {
      closed ??= closeDoors(doors, graceMs);
      return closed;
    },
  };
}

interface Door {
  readonly server: Server;
  readonly connections: Connections;
  /** Absent: cleartext. */
  readonly front?: TlsFront | undefined;
}

function createDoor(
  handler: RequestHandler,
  shortWay: ShortWay,
  limits: ConnectionLimits,
  tls?: TlsMaterial,
): Door {
  const connections = createConnections(handler, shortWay, limits);
  const front = tls && createTlsFront(tls, limits.headersTimeoutMs, (socket) => connections.accept(socket));
  let open = 0;
  const server = createServer(
    { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 },
    (socket) => {
      if (open >= limits.connections && front?.dropOldest() !== true && !connections.dropSilent()) {
        return void socket.destroy();
      }
      open += 1;
      socket.once("close", () => {
        open -= 1;
      });
      (front ?? connections).accept(socket);
    },
  );
  return { server, connections, front };
}

function listenOnPort(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => {
      reject(toListenError(`${host.includes(":") ? `[${host}]` : host}:${port}`, error));
    };
    server.once("error", onError);
    server.listen({ host, port }, () => {
      server.off("error", onError);
      resolve();
    });
  });
}

/** The kind is checked: what is for the unix socket alone must not be on a port. */
function listenOnDescriptor(server: Server, fd: number, kind: keyof Inherited): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => reject(toListenError(`the inherited socket ${fd}`, error));
    server.once("error", onError);
    server.listen({ fd }, () => {
      server.off("error", onError);
      const isPort = typeof server.address() === "object" && server.address() !== null;
      if (isPort === (kind === "port")) return resolve();
      const advice = "it is of another kind; give the unix socket, and only that, FileDescriptorName=socket";
      reject(new ListenError(`the inherited socket ${fd}`, "EINVAL", advice));
    });
  });
}

async function closeDoors(doors: readonly Door[], graceMs: number): Promise<void> {
  const destroy = () => {
    for (const { connections } of doors) connections.destroy();
  };
  const timer = setTimeout(destroy, graceMs);
  try {
    await Promise.all(
      doors.map(({ server, connections, front }) => {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        front?.destroy();
        connections.drain();
        return closed;
      }),
    );
  } finally {
    clearTimeout(timer);
    destroy();
  }
}
