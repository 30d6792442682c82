/**
 * Tells HTTP/1.1 and HTTP/2 with prior knowledge apart by the client's first
 * bytes. https://www.rfc-editor.org/rfc/rfc9113#section-3.4
 */
import type { Socket } from "node:net";

export type Protocol = "h1" | "h2";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/**
 * Undefined while more than one is possible. What does not begin like the
 * preface is left to the HTTP/1.1 parser to judge; `PRI`, which is no method of
 * HTTP/1.1, is not, because that parser may wait for ever after it.
 */
export function protocolOf(received: Uint8Array): Protocol | "neither" | undefined {
  const length = Math.min(received.length, preface.length);
  if (preface.compare(received, 0, length, 0, length) === 0) {
    return received.length < preface.length ? undefined : "h2";
  }
  return preface.compare(received, 0, Math.min(length, 4), 0, 4) === 0 ? "neither" : "h1";
}

/**
 * Calls `decided` once, with every byte back in the socket and the socket
 * paused. A client that has not decided in time is disconnected: with 408 if it
 * sent a beginning, without a word if it sent nothing. One that begins with
 * neither protocol gets 400.
 */
export function sniffProtocol(
  socket: Socket,
  timeoutMs: number,
  decided: (protocol: Protocol) => void,
): void {
  let received: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => {
    if (received.length > 0) refuse("408 Request Timeout");
    else socket.destroy();
  }, timeoutMs);

  socket.on("data", onData);
  socket.on("end", onGone);
  socket.on("error", onGone);
  socket.on("close", release);

  function onData(chunk: Buffer): void {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    const protocol = protocolOf(received);
    if (protocol === undefined) return;
    if (protocol === "neither") {
      refuse("400 Bad Request");
      return;
    }
    socket.pause();
    release();
    socket.unshift(received);
    decided(protocol);
  }

  function refuse(status: string): void {
    socket.off("data", onData);
    socket.write(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    socket.destroySoon();
  }

  function onGone(): void {
    socket.destroy();
  }

  function release(): void {
    clearTimeout(timer);
    socket.off("data", onData);
    socket.off("end", onGone);
    socket.off("error", onGone);
    socket.off("close", release);
  }
}
