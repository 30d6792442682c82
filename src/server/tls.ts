/**
 * TLS in front of the connections of a port, with ALPN for HTTP/2 and HTTP/1.1,
 * and what a client's certificate says of it.
 */
import type { Socket } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import type { RequestHead } from "./handler.js";

/** What the files of a configuration hold. */
export interface TlsMaterial {
  /** In PEM, as all of them. */
  readonly certificate: string;
  readonly key: string;
  /** Signs the certificates of clients. Absent: none is asked for. */
  readonly clientCa?: string;
  /** Whether a client without one is let in. */
  readonly clientCertificates: "optional" | "required";
  /** Whether the certificate is one for this host name or address. */
  readonly isNamed: (name: string) => boolean;
}

export interface TlsFront {
  /** Takes a new connection; `secured` is given it once the client has shown what it has to. */
  accept(socket: Socket): void;
  /** For connections that come from now on; others keep what they have. */
  replace(material: TlsMaterial): void;
  /** Cuts off the oldest one that is not secured yet; false if there is none. */
  dropOldest(): boolean;
  /** Cuts off those that are not secured yet. */
  destroy(): void;
}

const alpn = ["h2", "http/1.1"];
const handshakeRecord = 0x16;
/** For those who see text where they expected an answer. */
const refusal =
  "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis port speaks TLS: use https.\n";

/** @param timeoutMs from the opening of a connection to the end of the handshake */
export function createTlsFront(
  material: TlsMaterial,
  timeoutMs: number,
  secured: (socket: TLSSocket) => void,
): TlsFront {
  /** Connections that are not secured yet, by their addresses. */
  const waiting = new Map<string, { readonly socket: Socket; readonly release: () => void }>();

  const server = createServer({
    ...tlsContext(material),
    ALPNProtocols: alpn,
    handshakeTimeout: timeoutMs,
    allowHalfOpen: true,
  });
  server.on("secureConnection", (socket) => {
    waiting.get(addressesOf(socket))?.release();
    secured(socket);
  });
  // A handshake that fails is the client's affair: it was told by an alert, and its connection is closed.
  server.on("tlsClientError", (_error, socket) => socket.destroy());

  return {
    accept(socket) {
      const addresses = addressesOf(socket);
      // It is gone already.
      if (socket.remoteAddress === undefined) return void socket.destroy();
      const timer = setTimeout(() => socket.destroy(), timeoutMs);
      const release = () => {
        clearTimeout(timer);
        waiting.delete(addresses);
        socket.off("close", release);
      };
      waiting.set(addresses, { socket, release });
      socket.on("close", release);
      socket.on("error", () => socket.destroy());
      const onEnd = () => void socket.destroy();
      socket.once("end", onEnd);
      socket.once("data", (chunk: Buffer) => {
        socket.off("end", onEnd);
        if (chunk[0] !== handshakeRecord) {
          socket.write(refusal);
          socket.destroySoon();
          return;
        }
        socket.pause();
        socket.unshift(chunk);
        server.emit("connection", socket);
      });
    },
    replace: (next) => server.setSecureContext(tlsContext(next)),
    dropOldest() {
      const [oldest] = waiting.values();
      oldest?.release();
      oldest?.socket.destroy();
      return oldest !== undefined;
    },
    destroy() {
      for (const { socket } of waiting.values()) socket.destroy();
    },
  };
}

/** As options of a server of Node.js. */
export function tlsContext({ certificate, key, clientCa, clientCertificates }: TlsMaterial) {
  return {
    cert: certificate,
    key,
    ...(clientCa === undefined ? {} : { ca: clientCa }),
    requestCert: clientCa !== undefined,
    rejectUnauthorized: clientCa !== undefined && clientCertificates === "required",
  };
}

/**
 * Subject of the certificate that the client of a request has shown and that
 * was found good, as RFC 2253 writes it: the most specific part first. Values
 * are in UTF-8.
 */
export function certificateSubject(request: RequestHead): string | undefined {
  const socket = request.socket as Partial<TLSSocket>;
  if (socket.encrypted !== true || socket.authorized !== true) return undefined;
  const subject = socket.getPeerX509Certificate?.()?.subject;
  return subject === undefined ? undefined : subjectText(subject);
}

/** @param lines as Node.js gives it: escaped as in RFC 2253, one part on a line, the least specific first */
export function subjectText(lines: string): string {
  return lines
    .split("\n")
    .reverse()
    .map((part) => part.split(" + ").reverse().join("+"))
    .join(",");
}

function addressesOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return [localAddress, localPort, remoteAddress, remotePort].join(" ");
}
