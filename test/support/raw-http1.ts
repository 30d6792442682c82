/** A connection of HTTP/1.1 whose bytes a test writes and reads itself. */
import { connect, type Socket } from "node:net";

export interface RawHttp1 {
  readonly socket: Socket;
  /** Everything it was sent, each byte a character. */
  received(): string;
  /** Resolves to that once it is closed. */
  readonly closed: Promise<string>;
}

/** Resolves once it is open, or has failed. */
export async function openRaw(port: number): Promise<RawHttp1> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  let received = "";
  socket.setEncoding("latin1");
  socket.on("data", (chunk) => {
    received += chunk;
  });
  socket.on("error", () => {});
  const closed = new Promise<string>((resolve) => socket.once("close", () => resolve(received)));
  await new Promise<void>((resolve) =>
    socket.once("connect", () => resolve()).once("close", () => resolve()),
  );
  return { socket, received: () => received, closed };
}
