/** How requests are answered. */
import type { ConnectNodeAdapterOptions, connectNodeAdapter } from "@connectrpc/connect-node";
import type { PlainRequest } from "./plain-connection.js";
import type { StreamRequest } from "./stream-request.js";

/** Answers requests of HTTP/1.1 and of HTTP/2. */
export type RequestHandler = ReturnType<typeof connectNodeAdapter>;

/** What of a request comes before its body, however the request came. */
export type RequestHead = Pick<
  Parameters<RequestHandler>[0],
  "headers" | "method" | "rawHeaders" | "socket" | "url"
>;

/**
 * Answers a request on its bare stream of HTTP/2 or its bare socket of HTTP/1.1, and says true. Says
 * false, and has done nothing, if there is anything unusual or wrong with it: the RequestHandler is there
 * for that.
 */
export type ShortWay = (request: StreamRequest | PlainRequest) => boolean;

/** Both lead to the same implementations. */
export interface Served {
  readonly handler: RequestHandler;
  readonly shortWay: ShortWay;
}

/**
 * @param options those that connect-node is given; `contextValues` gets no more of a request than its head
 * @param complete answers what is left to it
 * @param onError told of a defect, after which the request has no answer
 */
export type FastPath = (
  options: ConnectNodeAdapterOptions,
  complete: RequestHandler,
  onError: (error: unknown) => void,
) => Served;

/** A request that has no usable authority makes the handler throw before it answers. */
export function answer(handler: RequestHandler, ...[req, res]: Parameters<RequestHandler>): void {
  try {
    handler(req, res);
  } catch {
    if (!res.headersSent) res.writeHead(400);
    res.end();
  }
}
