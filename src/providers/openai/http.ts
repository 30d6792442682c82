/**
 * One request to the service, over a connection of its own. Node's `fetch` ends
 * a request after five minutes of silence, which a model on a slow machine
 * needs; here the caller alone decides how long to wait. No redirect is
 * followed, so that the key goes nowhere else.
 */
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";

export interface ServiceRequest {
  readonly method: "GET" | "POST";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Aborted: the connection is closed at once. */
  readonly signal: AbortSignal;
}

export interface ServiceResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Throws if the connection breaks before the end. */
  readonly body: AsyncIterator<Buffer>;
  /** Closes the connection. */
  close(): void;
}

/** No connection was made, so that nothing was asked. */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}

/** Resolves with the head of the response. Throws UnreachableError, or what broke the connection. */
export function send({ method, url, headers, body, signal }: ServiceRequest): Promise<ServiceResponse> {
  const isSecure = url.protocol === "https:";
  return new Promise((resolve, reject) => {
    let connected = false;
    const request = (isSecure ? httpsRequest : httpRequest)(url, {
      method,
      headers: { ...headers, "accept-encoding": "identity" },
      // A kept connection may be closed by the service just when the next turn begins.
      agent: false,
      signal,
    });
    request.once("socket", (socket) => {
      socket.once(isSecure ? "secureConnect" : "connect", () => {
        connected = true;
      });
    });
    request.once("response", (response: IncomingMessage) => {
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        body: response[Symbol.asyncIterator]() as AsyncIterator<Buffer>,
        close: () => request.destroy(),
      });
    });
    request.on("error", (error) => reject(connected ? error : new UnreachableError(reasonOf(error))));
    request.end(body);
  });
}

/** A name that has several addresses fails with an error for each, and no message of its own. */
function reasonOf(error: Error): string {
  const [first] = error instanceof AggregateError ? error.errors : [error];
  return first instanceof Error && first.message !== "" ? first.message : error.name;
}
