/**
 * Keeps web pages from reaching a server on the user's machine: a page can make
 * a browser send requests here, under a host name of its own (DNS rebinding),
 * but it cannot forge Host or Origin.
 */
import { networkInterfaces } from "node:os";
import type { RequestHandler, RequestHead } from "./handler.js";

export interface HostRules {
  /** Names of this server besides the loopback names. A port is ignored. */
  readonly hosts: readonly string[];
  /** Whether the server's certificate is one for this name. Default: there is none. */
  readonly isCertified?: ((name: string) => boolean) | undefined;
  /** Origins whose pages may call, such as `https://app.example.com`. */
  readonly origins: readonly string[];
}

export interface HostFacts {
  /** `Host` and `:authority`, those that were sent. */
  readonly authorities: readonly string[];
  readonly origin: string | undefined;
  /** The request has an `Origin` or a `Sec-Fetch-Site`. */
  readonly fromBrowser: boolean;
  /** By its token or its certificate. Asked only if the answer matters. */
  readonly isKnownCaller: () => boolean;
}

export type HostVerdict = { readonly allowed: true } | { readonly allowed: false; readonly message: string };

const loopbackNames: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "::1"]);

/** What costs least is looked at first. */
export function judgeHost(facts: HostFacts, rules: () => HostRules): HostVerdict {
  const problem = problemOf(facts, rules);
  if (problem === undefined || (!facts.fromBrowser && facts.isKnownCaller())) return allowed;
  return { allowed: false, message: problem };
}

const allowed: HostVerdict = { allowed: true };

function problemOf({ authorities, origin }: HostFacts, rules: () => HostRules): string | undefined {
  const name = authorities.length > 0 ? authorities.find((a) => !isOurs(hostName(a), rules)) : "";
  if (name !== undefined) return `${JSON.stringify(name)} is not a known host name of this server`;
  // "null" stands for any sandboxed or local page, so it is never an allowed origin.
  if (origin !== undefined && (origin === "null" || !rules().origins.includes(origin))) {
    return `origin ${JSON.stringify(origin)} is not allowed`;
  }
  return undefined;
}

function isOurs(name: string, rules: () => HostRules): boolean {
  if (loopbackNames.has(name)) return true;
  const { hosts, isCertified } = rules();
  return hosts.some((host) => hostName(host) === name) || (name !== "" && isCertified?.(name) === true);
}

/** Answers a request that is not allowed with 403, in the form of a Connect error. */
export function guardHost(
  handler: RequestHandler,
  rules: () => HostRules,
  isKnownCaller: (request: RequestHead) => boolean,
): RequestHandler {
  return (req, res) => {
    const verdict = judgeRequest(req, rules, isKnownCaller);
    if (verdict.allowed) return handler(req, res);
    const body = JSON.stringify({ code: "permission_denied", message: verdict.message });
    res.writeHead(403, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    res.end(body);
  };
}

export function judgeRequest(
  request: RequestHead,
  rules: () => HostRules,
  isKnownCaller: (request: RequestHead) => boolean,
): HostVerdict {
  const { headers } = request;
  const { host, origin, ":authority": authority } = headers;
  // What nearly all requests are like.
  if (origin === undefined && authority === undefined && host !== undefined && isOurs(hostName(host), rules))
    return allowed;
  return judgeHost(
    {
      authorities: [authority, host].filter((value) => typeof value === "string"),
      origin,
      fromBrowser: origin !== undefined || headers["sec-fetch-site"] !== undefined,
      isKnownCaller: () => isKnownCaller(request),
    },
    rules,
  );
}

/** The addresses at which a server bound to `address` is reached; those of every interface for a wildcard. */
export function reachableAddresses(address: string): string[] {
  if (address !== "0.0.0.0" && address !== "::") return [address];
  return Object.values(networkInterfaces()).flatMap(
    (entries) => entries?.map((entry) => entry.address) ?? [],
  );
}

/** @param address an IP address */
export function isLoopback(address: string): boolean {
  return address === "::1" || /^(::ffff:)?127\./.test(address);
}

/** So many, and no longer ones, are worth their memory. */
const [mostNames, longestAuthority] = [200, 100];
const names = new Map<string, string>();

/** Of an authority: most clients send the same one again and again. */
function hostName(authority: string): string {
  const known = names.get(authority);
  if (known !== undefined) return known;
  const name = nameIn(authority);
  if (authority.length <= longestAuthority) {
    if (names.size >= mostNames) names.clear();
    names.set(authority, name);
  }
  return name;
}

/** Lower case, without port, brackets and the final dot of a full domain name. */
function nameIn(authority: string): string {
  const text = authority.trim().toLowerCase();
  const bracketed = /^\[([^\]]*)\](?::\d*)?$/.exec(text);
  if (bracketed?.[1] !== undefined) return bracketed[1];
  const isIpv6 = text.indexOf(":") !== text.lastIndexOf(":");
  return (isIpv6 ? text : text.replace(/:\d*$/, "")).replace(/\.$/, "");
}
