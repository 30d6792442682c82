/** The headers of a request, as interceptors and implementations read them. */
import type { IncomingHttpHeaders } from "node:http";
import type { OutgoingHeaders } from "../plain-reply.js";

/**
 * Most calls read one header, so `Headers`, which copies and checks all of them,
 * is made only for those that do more.
 */
export class RequestHeaders implements Headers {
  #whole: Headers | undefined;

  constructor(private readonly sent: IncomingHttpHeaders) {}

  get(name: string): string | null {
    if (this.#whole !== undefined) return this.#whole.get(name);
    const value = this.sent[name.toLowerCase()];
    return typeof value === "string" ? value : value === undefined ? null : this.#headers.get(name);
  }

  has(name: string): boolean {
    return this.get(name) !== null;
  }

  append(name: string, value: string): void {
    this.#headers.append(name, value);
  }

  delete(name: string): void {
    this.#headers.delete(name);
  }

  set(name: string, value: string): void {
    this.#headers.set(name, value);
  }

  getSetCookie(): string[] {
    return this.#headers.getSetCookie();
  }

  forEach(callback: (value: string, key: string, parent: Headers) => void, thisArg?: unknown): void {
    this.#headers.forEach(callback, thisArg);
  }

  entries() {
    return this.#headers.entries();
  }

  keys() {
    return this.#headers.keys();
  }

  values() {
    return this.#headers.values();
  }

  [Symbol.iterator]() {
    return this.#headers[Symbol.iterator]();
  }

  get #headers(): Headers {
    this.#whole ??= toHeaders(this.sent);
    return this.#whole;
  }
}

export function toNodeHeaders(headers: Headers): OutgoingHeaders {
  const cookies = headers.getSetCookie();
  return {
    ...Object.fromEntries(headers),
    ...(cookies.length === 0 ? {} : { "set-cookie": cookies }),
  };
}

/** Without the pseudo-headers of HTTP/2. */
function toHeaders(sent: IncomingHttpHeaders): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(sent)) {
    if (name.startsWith(":") || value === undefined) continue;
    for (const each of typeof value === "string" ? [value] : value) headers.append(name, each);
  }
  return headers;
}
