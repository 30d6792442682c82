/** A request and its response on the wire, of HTTP/1.1 or of HTTP/2, where they differ. */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import { drained } from "../../drained.js";
import type { RequestHead } from "../handler.js";
import type { PlainRequest } from "../plain-connection.js";
import type { OutgoingHeaders, PlainReply } from "../plain-reply.js";
import type { StreamRequest } from "../stream-request.js";
import { refuseBody } from "../unread-body.js";
import type { Payload } from "./messages/answer-writer.js";

export interface Body {
  readonly bytes: Buffer;
  /** It has more than so many bytes, and the rest is read by nobody. */
  readonly cut: boolean;
}

export interface Exchange {
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** Nobody reads the response any more. */
  readonly gone: boolean;
  /** Calls back once, unless the response was sent to its end before. */
  onGone(callback: () => void): void;
  /** The body, up to the piece with which it is too large. Never resolves if the client leaves before. */
  body(maxBytes: number): Body | Promise<Body>;
  /** @param trailed the response ends with trailers; HTTP/2 only */
  head(status: number, headers: OutgoingHeaders, trailed?: boolean): void;
  /** False: wait for `drained` before more is written. */
  write(bytes: Uint8Array): boolean;
  drained(): Promise<void>;
  end(payload?: Payload, trailers?: OutgoingHeaders): void;
  /** Leaves the client without an answer. */
  cutOff(): void;
}

export class Http1Exchange implements Exchange {
  constructor(
    private readonly req: IncomingMessage,
    private readonly res: ServerResponse,
  ) {}

  get url(): string {
    return urlOf(this.req);
  }

  get headers(): IncomingHttpHeaders {
    return this.req.headers;
  }

  get gone(): boolean {
    return this.res.destroyed;
  }

  onGone(callback: () => void): void {
    this.res.once("close", () => {
      if (!this.res.writableFinished) callback();
    });
  }

  body(maxBytes: number): Promise<Body> {
    return readAll(this.req, maxBytes);
  }

  head(status: number, headers: OutgoingHeaders): void {
    this.res.writeHead(status, headers as Record<string, string | number | string[]>);
  }

  write(bytes: Uint8Array): boolean {
    return this.res.write(bytes);
  }

  drained(): Promise<void> {
    return drained(this.res);
  }

  end(payload?: Payload): void {
    this.res.end(payload, "latin1");
  }

  cutOff(): void {
    this.res.destroy();
  }
}

/** HTTP/1.1 on the bare socket. */
export class PlainExchange implements Exchange {
  readonly headers: IncomingHttpHeaders;
  private readonly reply: PlainReply;

  constructor(private readonly request: PlainRequest) {
    this.headers = request.headers;
    this.reply = request.reply;
  }

  get url(): string {
    return urlOf(this.request);
  }

  get gone(): boolean {
    return this.reply.gone;
  }

  onGone(callback: () => void): void {
    this.reply.onGone(callback);
  }

  /** Its length is in the header, and one that is too large is not answered here. */
  body(): Body {
    return { bytes: this.request.body, cut: false };
  }

  head(status: number, headers: OutgoingHeaders): void {
    this.reply.head(status, headers);
  }

  write(bytes: Uint8Array): boolean {
    return this.reply.write(bytes);
  }

  drained(): Promise<void> {
    return this.reply.drained();
  }

  end(payload?: Payload): void {
    this.reply.end(payload);
  }

  cutOff(): void {
    this.reply.cutOff();
  }
}

export class Http2Exchange implements Exchange {
  readonly headers: IncomingHttpHeaders;
  private readonly stream: ServerHttp2Stream;

  constructor({ stream, headers }: StreamRequest) {
    this.stream = stream;
    this.headers = headers;
  }

  get url(): string {
    const authority = this.headers[":authority"] ?? this.headers.host ?? "";
    return `${String(this.headers[":scheme"] ?? "http")}://${String(authority)}${String(this.headers[":path"])}`;
  }

  get gone(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  onGone(callback: () => void): void {
    this.stream.once("close", () => {
      if (!this.stream.writableFinished || this.stream.rstCode !== 0) callback();
    });
  }

  body(maxBytes: number): Promise<Body> {
    return readAll(this.stream, maxBytes);
  }

  head(status: number, headers: OutgoingHeaders, trailed = false): void {
    if (this.gone) return;
    this.stream.respond({ ":status": status, ...headers } as never, { waitForTrailers: trailed });
  }

  write(bytes: Uint8Array): boolean {
    return this.gone || this.stream.write(bytes);
  }

  drained(): Promise<void> {
    return drained(this.stream);
  }

  end(payload?: Payload, trailers?: OutgoingHeaders): void {
    if (this.gone) return;
    if (trailers !== undefined) {
      this.stream.on("wantTrailers", () => this.stream.sendTrailers(trailers as never));
    }
    if (!this.stream.readableEnded) refuseBody(this.stream, trailers !== undefined);
    this.stream.end(payload, "latin1");
  }

  cutOff(): void {
    this.stream.destroy();
  }
}

/** Of a request over HTTP/1.1. */
function urlOf({ socket, headers, url = "" }: RequestHead): string {
  return `${"encrypted" in socket ? "https" : "http"}://${headers.host ?? ""}${url}`;
}

function readAll(source: IncomingMessage | ServerHttp2Stream, maxBytes: number): Promise<Body> {
  return new Promise((resolve) => {
    let first: Buffer | undefined;
    let rest: Buffer[] | undefined;
    let bytes = 0;
    const settle = (cut: boolean) =>
      resolve({ bytes: rest === undefined ? (first ?? Buffer.alloc(0)) : Buffer.concat(rest, bytes), cut });
    const onData = (chunk: Buffer) => {
      bytes += chunk.length;
      if (first === undefined) first = chunk;
      else if (rest === undefined) rest = [first, chunk];
      else rest.push(chunk);
      if (bytes <= maxBytes) return;
      source.off("data", onData);
      source.off("end", onEnd);
      settle(true);
    };
    const onEnd = () => settle(false);
    source.on("data", onData);
    source.on("end", onEnd);
  });
}
