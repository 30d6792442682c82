/** The answer to a plain request of HTTP/1.1, written on the bare socket. */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { drained } from "../drained.js";

export type OutgoingHeaders = Readonly<Record<string, string | number | readonly string[]>>;

export interface ReplyOptions {
  /** How long the connection is kept without a request. */
  readonly keptMs: number;
  /** Asked when the answer begins: the connection is closed after it. */
  readonly isLast: () => boolean;
  /** The answer has been written to its end. */
  readonly onEnd: () => void;
}

export class PlainReply {
  #head = "";
  #chunked = false;
  #finished = false;
  #lost = false;
  #onGone: (() => void)[] = [];

  constructor(
    private readonly socket: Socket,
    private readonly options: ReplyOptions,
  ) {}

  /** Nobody reads it any more. */
  get gone(): boolean {
    return this.#lost || !this.socket.writable;
  }

  /** Calls back once, unless it was written to its end before. */
  onGone(callback: () => void): void {
    this.#onGone.push(callback);
  }

  /** The connection is closed. */
  lose(): void {
    if (this.#lost || this.#finished) return;
    this.#lost = true;
    for (const callback of this.#onGone) callback();
  }

  /** Leaves with what is written next. Without `content-length` that goes in chunks. */
  head(status: number, headers: OutgoingHeaders): void {
    this.#chunked = headers["content-length"] === undefined;
    let text =
      status === 200 ? "HTTP/1.1 200 OK\r\n" : `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
    for (const name of Object.keys(headers)) {
      const value = headers[name];
      if (typeof value !== "object") text += `${name}: ${value}\r\n`;
      else for (const each of value) text += `${name}: ${each}\r\n`;
    }
    text += dateLine();
    text += this.options.isLast()
      ? "Connection: close\r\n"
      : `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(this.options.keptMs / 1000)}\r\n`;
    this.#head = this.#chunked ? `${text}Transfer-Encoding: chunked\r\n\r\n` : `${text}\r\n`;
  }

  /** False: wait for `drained` before more is written. */
  write(bytes: Uint8Array): boolean {
    return this.gone || this.#send(bytes, false);
  }

  drained(): Promise<void> {
    return drained(this.socket);
  }

  /** @param payload the rest; a text is ASCII */
  end(payload: Uint8Array | string = ""): void {
    if (this.gone) return;
    this.#finished = true;
    this.#send(payload, true);
    this.options.onEnd();
  }

  /** Leaves the client without an answer. */
  cutOff(): void {
    this.socket.destroy();
  }

  /** In one piece: each write is a call of the system. */
  #send(payload: Uint8Array | string, isEnd: boolean): boolean {
    let before = this.#head;
    let after = "";
    this.#head = "";
    if (this.#chunked && payload.length > 0) {
      before += `${payload.length.toString(16)}\r\n`;
      after = "\r\n";
    }
    if (this.#chunked && isEnd) after += "0\r\n\r\n";
    if (typeof payload === "string") return this.socket.write(before + payload + after, "latin1");
    const piece = Buffer.allocUnsafe(before.length + payload.length + after.length);
    piece.write(before, 0, "latin1");
    piece.set(payload, before.length);
    piece.write(after, before.length + payload.length, "latin1");
    return this.socket.write(piece);
  }
}

let dateSecond = 0;
let dateText = "";

function dateLine(): string {
  const second = Math.floor(Date.now() / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = `Date: ${new Date(second * 1000).toUTCString()}\r\n`;
  }
  return dateText;
}
