/**
 * Images and files that a request names by URL. The request decides what is
 * asked of whom, so only hosts that configuration names are asked, redirects
 * included, and the answer is bounded in size and time.
 */
import { ApiError, invalid } from "./errors.js";
import { type GivenPart, isRemote, type Part, type RemotePart } from "./parts.js";

export interface Fetching {
  /** Host names, or `*.` and what they end with. */
  readonly hosts: readonly string[];
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

const mostRedirects = 3;

/** @throws ApiError 400 that names the field */
export async function fetchParts(
  parts: readonly GivenPart[],
  fetching: Fetching | undefined,
): Promise<Part[]> {
  return Promise.all(parts.map((part) => (isRemote(part) ? fetchPart(part, fetching) : part)));
}

async function fetchPart(part: RemotePart, fetching: Fetching | undefined): Promise<Part> {
  const { kind, name, param } = part;
  if (fetching === undefined) {
    throw invalid(param, `${param} is not a data: URL, and no others are fetched here`, "unsupported_value");
  }
  try {
    const response = await follow(part, fetching);
    const mediaType = (response.headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
    if (kind === "image" && !mediaType.startsWith("image/")) {
      await response.body?.cancel();
      throw refused(param, `is answered with ${mediaType || "no content type"} instead of an image`);
    }
    const data = await readWithin(response, fetching.maxBytes, param);
    return {
      part: { case: kind, value: { mediaType: mediaType || "application/octet-stream", name, data } },
    };
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw refused(param, `cannot be fetched: ${reasonOf(error)}`);
  }
}

async function follow({ url, param }: RemotePart, { hosts, timeoutMs }: Fetching): Promise<Response> {
  const signal = AbortSignal.timeout(timeoutMs);
  let at = new URL(url);
  for (let redirects = 0; redirects <= mostRedirects; redirects++) {
    if (!/^https?:$/.test(at.protocol) || !isAllowed(at.hostname, hosts)) {
      throw refused(param, `leads to ${at.protocol}//${at.hostname}, from which nothing is fetched here`);
    }
    // A name and password in it would be sent on.
    if (at.username !== "" || at.password !== "") throw refused(param, "has a user name or a password in it");
    const response = await fetch(at, { redirect: "manual", signal, headers: { accept: "*/*" } });
    const location = response.headers.get("location");
    if (response.status < 300 || response.status > 399 || location === null) {
      if (response.ok) return response;
      await response.body?.cancel();
      throw refused(param, `is answered with HTTP status ${response.status}`);
    }
    await response.body?.cancel();
    at = new URL(location, at);
  }
  throw refused(param, `is redirected more than ${mostRedirects} times`);
}

export function isAllowed(hostname: string, hosts: readonly string[]): boolean {
  const name = hostname.toLowerCase();
  return hosts.some((host) => (host.startsWith("*.") ? name.endsWith(host.slice(1)) : name === host));
}

async function readWithin(response: Response, maxBytes: number, param: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw refused(param, `has more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function refused(param: string, what: string): ApiError {
  return invalid(param, `${param} ${what}`);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error ? cause.message : error.message;
}
