/** A request and its response on the wire, of HTTP/1.1 or of HTTP/2, where they differ. */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse, ServerHttp2Stream } from "node:http2";
import type { RequestHandler } from "../handler.js";
import { refuseBody } from "../unread-body.js";

export type OutgoingHeaders = Record<string, string | number | readonly string[]>;

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
  body(maxBytes: number): Promise<Body>;
  /** @param trailed the response ends with trailers; HTTP/2 only */
  head(status: number, headers: OutgoingHeaders, trailed?: boolean): void;
  /** False: wait for `drained` before more is written. */
  write(bytes: Uint8Array): boolean;
  drained(): Promise<void>;
  end(bytes?: Uint8Array, trailers?: OutgoingHeaders): void;
}

export function exchangeOf(...[req, res]: Parameters<RequestHandler>): Exchange {
  return "stream" in req
    ? new Http2Exchange(req.stream, req, res as Http2ServerResponse)
    : new Http1Exchange(req, res as ServerResponse);
}

class Http1Exchange implements Exchange {
  constructor(
    private readonly req: IncomingMessage,
    private readonly res: ServerResponse,
  ) {}

  get url(): string {
    const scheme = "encrypted" in this.req.socket ? "https" : "http";
    return `${scheme}://${this.req.headers.host ?? ""}${this.req.url ?? ""}`;
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
    return drainOf(this.res);
  }

  end(bytes?: Uint8Array): void {
    this.res.end(bytes);
  }
}

/** On the stream itself: the objects that Node.js makes of it for compatibility cost as much as a small call. */
class Http2Exchange implements Exchange {
  readonly headers: IncomingHttpHeaders;

  constructor(
    private readonly stream: ServerHttp2Stream,
    { headers }: Http2ServerRequest,
    private readonly res: Http2ServerResponse,
  ) {
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
    return drainOf(this.stream);
  }

  end(bytes?: Uint8Array, trailers?: OutgoingHeaders): void {
    if (this.gone) return;
    // Node.js sends these when the stream wants them.
    if (trailers !== undefined) this.res.addTrailers(trailers as never);
    if (!this.stream.readableEnded) refuseBody(this.stream, trailers !== undefined);
    this.stream.end(bytes);
  }
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
    source.once("end", onEnd);
  });
}

function drainOf(sink: ServerResponse | ServerHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    if (sink.destroyed || !sink.writableNeedDrain) return resolve();
    const settle = () => {
      sink.off("drain", settle);
      sink.off("close", settle);
      resolve();
    };
    sink.once("drain", settle);
    sink.once("close", settle);
  });
}
