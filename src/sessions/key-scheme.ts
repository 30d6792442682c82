/**
 * How a scope spells its external ids: which spellings are the same row, and
 * what a row's conversation is called by its agent.
 */

/**
 * `opaque`: every spelling is its own row.
 * `agent`: OpenClaw's keys, `agent:<agent id>:<rest>`.
 */
export type KeyScheme = "opaque" | "agent";

export interface KeyIdentity {
  /** The canonical id: the part of the row's key. */
  readonly storeKey: string;
  /** Always computed from the store key. */
  readonly requestKey: string;
  /** Empty in the scheme `opaque`. */
  readonly agent: string;
}

export type KeyParse =
  | { readonly ok: true; readonly identity: KeyIdentity }
  | { readonly ok: false; readonly problem: string };

const defaultAgent = "main";
const mainKey = "main";

/** Canonicalises an external id. Fails for an id that starts as an agent key and is none. */
export function identify(scheme: KeyScheme, externalId: string): KeyParse {
  if (scheme === "opaque") {
    return { ok: true, identity: { storeKey: externalId, requestKey: externalId, agent: "" } };
  }
  return identifyAgentKey(externalId);
}

/** The same for an id that was canonicalised before it was stored. */
export function identifyStored(scheme: KeyScheme, storeKey: string): KeyIdentity {
  const parsed = identify(scheme, storeKey);
  // A scope whose scheme was changed in the configuration keeps its old rows.
  return parsed.ok ? parsed.identity : { storeKey, requestKey: storeKey, agent: "" };
}

/** Spells an id that is looked up as the scheme would store it. */
export function normaliseId(scheme: KeyScheme, id: string): string {
  return scheme === "agent" ? lowerCaseRest(id.trim()) : id;
}

/** `^[a-z0-9][a-z0-9_-]{0,63}$`, by force; empty becomes the default agent. */
export function normaliseAgentId(text: string): string {
  const lower = text.trim().toLowerCase();
  if (/^[a-z0-9][a-z0-9_-]{0,63}$/.test(lower)) return lower;
  const forced = lower
    .replace(/[^a-z0-9_-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 64);
  return forced === "" ? defaultAgent : forced;
}

function identifyAgentKey(given: string): KeyParse {
  const text = given.trim();
  const parsed = parseAgentKey(text);
  if (parsed === undefined && /^agent:/i.test(text)) {
    return { ok: false, problem: "starts with agent: but is not agent:<agent id>:<rest>" };
  }
  const agent = parsed === undefined ? defaultAgent : normaliseAgentId(parsed.agent);
  const rest = lowerCaseRest(parsed === undefined ? text : parsed.rest);
  const requestKey = rest === "" ? mainKey : rest;
  return { ok: true, identity: { storeKey: `agent:${agent}:${requestKey}`, requestKey, agent } };
}

/** Splits `agent:<agent id>:<rest>`; empty segments at the end of the rest are kept. */
function parseAgentKey(text: string): { agent: string; rest: string } | undefined {
  const match = /^agent:([^:]+):([^:].*)$/is.exec(text);
  if (match?.[1] === undefined || match[2] === undefined || match[1].trim() === "") return undefined;
  return { agent: match[1], rest: match[2] };
}

/**
 * Lower-cases all but what the platform tells apart by case: the one segment
 * after `signal:group:`, and all after `matrix:channel:` or `matrix:group:`
 * except the marker `:thread:`.
 */
function lowerCaseRest(rest: string): string {
  const signal = /^(.*?)(signal:group:)([^:]+)(.*)$/is.exec(rest);
  if (signal !== null && startsSegment(signal[1])) {
    return `${lower(signal[1])}${lower(signal[2])}${signal[3]}${lower(signal[4])}`;
  }
  const matrix = /^(.*?)(matrix:(?:channel|group):)(.*)$/is.exec(rest);
  if (matrix !== null && startsSegment(matrix[1])) {
    const opaque = (matrix[3] ?? "").replace(/:thread:/i, ":thread:");
    return `${lower(matrix[1])}${lower(matrix[2])}${opaque}`;
  }
  return rest.toLowerCase();
}

function startsSegment(before: string | undefined): boolean {
  return before === "" || before?.endsWith(":") === true;
}

function lower(text: string | undefined): string {
  return (text ?? "").toLowerCase();
}
