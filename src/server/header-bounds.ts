/** The same bounds of a request's header in HTTP/1.1 and in HTTP/2, told with 431. */
import type { RequestHandler } from "./handler.js";

export interface HeaderLimits {
  /** Bytes of the path and of the names and values of header fields. */
  readonly headerBytes: number;
  readonly headerFields: number;
}

/** :method, :scheme, :authority and :path. */
export const pseudoHeaders = 4;
/** What HTTP/2 counts for each field. https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2 */
const fieldOverhead = 32;
/** For names and values of pseudo-headers, without the path. */
const pseudoBytes = 512;

/** For SETTINGS_MAX_HEADER_LIST_SIZE: it lets in whatever the limits allow. */
export function listSizeOf({ headerBytes, headerFields }: HeaderLimits): number {
  return headerBytes + pseudoBytes + fieldOverhead * (headerFields + pseudoHeaders);
}

/** Which limit a header is beyond, in words; undefined if it is within both. */
export function beyondBounds(
  path: string,
  rawHeaders: readonly string[],
  { headerBytes, headerFields }: HeaderLimits,
): string | undefined {
  let bytes = Buffer.byteLength(path, "latin1");
  let fields = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? "";
    if (name.startsWith(":")) continue;
    fields += 1;
    bytes += name.length + (rawHeaders[at + 1] ?? "").length;
  }
  if (fields > headerFields) return `more than ${headerFields} header fields (limits.header_fields)`;
  if (bytes > headerBytes) return `more than ${headerBytes} bytes of header (limits.header_bytes)`;
  return undefined;
}

/** Answers a request whose header is too large with 431, and closes an HTTP/1.1 connection. */
export function guardHeaders(handler: RequestHandler, limits: HeaderLimits): RequestHandler {
  return (req, res) => {
    const beyond = beyondBounds(req.url ?? "", req.rawHeaders, limits);
    if (beyond === undefined) return handler(req, res);
    const body = `The request has ${beyond}.\n`;
    if (!("stream" in req)) res.setHeader("connection", "close");
    res.writeHead(431, { "content-type": "text/plain", "content-length": Buffer.byteLength(body) });
    res.end(body);
  };
}
