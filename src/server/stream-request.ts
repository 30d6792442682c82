import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { RequestHead } from "./handler.js";

/**
 * A request of HTTP/2 without the two objects that Node.js makes of each for
 * compatibility with HTTP/1.1: they cost as much as a small call.
 */
export class StreamRequest implements RequestHead {
  constructor(
    readonly stream: ServerHttp2Stream,
    readonly headers: IncomingHttpHeaders,
    readonly rawHeaders: string[],
  ) {}

  get method(): string {
    return this.headers[":method"] ?? "";
  }

  get url(): string {
    return this.headers[":path"] ?? "";
  }

  /** Of the connection; without properties once that is closed. */
  get socket(): Socket {
    return (this.stream.session?.socket ?? {}) as Socket;
  }
}
