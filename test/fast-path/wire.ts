/** Requests as bytes, over HTTP/1.1 and HTTP/2, and what comes back for them. */
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { connect } from "node:net";
import { setImmediate } from "node:timers/promises";

export interface WireRequest {
  readonly http: 1 | 2;
  readonly method: string;
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  /** The body in the pieces in which it is sent. */
  readonly pieces: readonly Buffer[];
  /** HTTP/1.1 only: says how long the body is, instead of sending it in chunks. */
  readonly sized: boolean;
}

export interface WireAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
  readonly trailers: Readonly<Record<string, unknown>>;
}

/** Of one server; HTTP/2 requests share a connection, and each HTTP/1.1 request has its own. */
export class WireClient {
  #session: ClientHttp2Session | undefined;

  constructor(private readonly port: number) {}

  send(request: WireRequest): Promise<WireAnswer> {
    return request.http === 1 ? this.#sendHttp1(request) : this.#sendHttp2(request);
  }

  close(): void {
    this.#session?.destroy();
  }

  async #sendHttp1({ method, path, headers, pieces, sized }: WireRequest): Promise<WireAnswer> {
    const socket = connect({ port: this.port, host: "127.0.0.1", noDelay: true });
    const received: Buffer[] = [];
    socket.on("data", (chunk) => received.push(chunk));
    let failure: Error | undefined;
    socket.once("error", (error) => {
      failure = error;
    });
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    const length = pieces.reduce((sum, { length }) => sum + length, 0);
    const framing = sized ? `content-length: ${length}` : "transfer-encoding: chunked";
    const lines = [`${method} ${path} HTTP/1.1`, "host: localhost", "connection: close", framing];
    const fields = headers.map(([name, value]) => `${name}: ${value}`);
    const head = Buffer.from([...lines, ...fields, "", ""].join("\r\n"));
    // As common clients send what they have at once.
    const isWhole = sized && pieces.length === 1;
    socket.write(isWhole ? Buffer.concat([head, ...pieces]) : head);
    for (const piece of isWhole ? [] : pieces) {
      // It may have been answered already.
      if (!socket.writable) break;
      if (!sized && piece.length > 0) socket.write(`${piece.length.toString(16)}\r\n`);
      socket.write(piece);
      if (!sized && piece.length > 0) socket.write("\r\n");
      await setImmediate();
    }
    if (!sized && socket.writable) socket.write("0\r\n\r\n");
    await closed;
    if (failure !== undefined && received.length === 0) throw failure;
    return parse(Buffer.concat(received));
  }

  async #sendHttp2({ method, path, headers, pieces }: WireRequest): Promise<WireAnswer> {
    if (this.#session === undefined || this.#session.destroyed || this.#session.closed) {
      this.#session = connectHttp2(`http://127.0.0.1:${this.port}`);
      this.#session.on("error", () => {});
    }
    const fields: Record<string, string | string[]> = { ":method": method, ":path": path };
    for (const [name, value] of headers) {
      const key = name.toLowerCase();
      const earlier = fields[key];
      fields[key] = earlier === undefined ? value : [earlier, value].flat();
    }
    const stream = this.#session.request(fields);
    let head: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    const body: Buffer[] = [];
    stream.on("response", (received) => {
      head = received;
    });
    stream.on("trailers", (received) => {
      trailers = received;
    });
    stream.on("data", (chunk) => body.push(chunk));
    const closed = new Promise<void>((resolve, reject) => {
      stream.once("close", () => resolve());
      stream.once("error", reject);
    });
    for (const piece of pieces) {
      if (stream.writable) stream.write(piece);
      await setImmediate();
    }
    stream.end();
    await closed;
    const { ":status": status, ...rest } = head;
    return { status: Number(status), headers: rest, body: Buffer.concat(body), trailers };
  }
}

/** One answer, after which the connection is closed. */
function parse(bytes: Buffer): WireAnswer {
  const end = bytes.indexOf("\r\n\r\n");
  const [first = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const at = line.indexOf(":");
    headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim();
  }
  const rest = bytes.subarray(end + 4);
  const body = headers["transfer-encoding"] === "chunked" ? joinChunks(rest) : rest;
  return { status: Number(first.split(" ")[1]), headers, body, trailers: {} };
}

function joinChunks(bytes: Buffer): Buffer {
  const chunks: Buffer[] = [];
  let at = 0;
  for (;;) {
    const end = bytes.indexOf("\r\n", at);
    const size = Number.parseInt(bytes.subarray(at, end).toString("latin1"), 16);
    if (end === -1 || !(size > 0)) return Buffer.concat(chunks);
    chunks.push(bytes.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}
