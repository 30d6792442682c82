/**
 * The header of an HTTP/1.1 request in the form in which all common clients
 * send it. It is narrower than the grammar on purpose: where two readers could
 * understand a header differently, Node.js's parser is the one that judges.
 * https://www.rfc-editor.org/rfc/rfc9112
 */
import type { IncomingHttpHeaders } from "node:http";

export interface PlainHead {
  readonly url: string;
  /** By names in lower case; each was sent once. */
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turns, as they were sent. */
  readonly rawHeaders: string[];
  readonly bodyBytes: number;
  /** The client wants the connection closed after the answer. */
  readonly isLast: boolean;
}

const requestLine = /^POST (\/[!-~]*) HTTP\/1\.1$/;
/** One space before the value, and none after it. */
const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~](?:[ -~]*[!-~])?)$/;
const bodyLength = /^\d{1,9}$/;
/** They change how the request or the connection goes on; Node.js drops the last. */
const unusual: ReadonlySet<string> = new Set([
  "expect",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "__proto__",
]);

/**
 * @param text all before the empty line, of which each byte is a character
 * @returns undefined: anything about it is unusual or wrong
 */
export function plainHead(text: string): PlainHead | undefined {
  const [first = "", ...fields] = text.split("\r\n");
  const url = requestLine.exec(first)?.[1];
  if (url === undefined) return undefined;
  const headers: IncomingHttpHeaders = Object.create(null);
  const rawHeaders: string[] = [];
  for (const each of fields) {
    const [, name, value] = field.exec(each) ?? [];
    if (name === undefined || value === undefined) return undefined;
    const key = name.toLowerCase();
    if (key in headers || unusual.has(key)) return undefined;
    headers[key] = value;
    rawHeaders.push(name, value);
  }
  const length = headers["content-length"] ?? "";
  const connection = headers.connection?.toLowerCase() ?? "keep-alive";
  if (headers.host === undefined || !bodyLength.test(length)) return undefined;
  if (connection !== "keep-alive" && connection !== "close") return undefined;
  return {
    url,
    headers: Object.freeze(headers),
    rawHeaders,
    bodyBytes: Number(length),
    isLast: connection === "close",
  };
}

/** So many, and no longer ones, are worth their memory. */
const [mostKnown, longestKnown] = [200, 2_000];

/** Headers that came before: most clients send the same again and again, but for the length of the body. */
export class KnownHeads {
  readonly #heads = new Map<string, PlainHead>();

  get(text: string): PlainHead | undefined {
    return this.#heads.get(text);
  }

  add(text: string, head: PlainHead): void {
    if (text.length > longestKnown || this.#heads.has(text)) return;
    if (this.#heads.size >= mostKnown) this.#heads.clear();
    this.#heads.set(text, head);
  }
}
