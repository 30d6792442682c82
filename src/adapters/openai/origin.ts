/** Which session a request belongs to, as far as its headers and its body say so. */
import { invalid } from "./errors.js";
import { type HeaderReader, presentHeader } from "./headers.js";
import { shippedOrigins } from "./origin-table.js";
import { isObject, type JsonObject, wellFormed } from "./parts.js";

export interface Origin {
  readonly scope: string;
  /** Absent: the request names no session. */
  readonly externalId?: string;
  /** The client sends its whole history with each message, and uses the id for calls beside the chat as well. */
  readonly replayed: boolean;
  /** It never sends a message without the chat before it: one that comes alone is the first, or beside the chat. */
  readonly neverAlone?: boolean;
}

/** A header or a field of the body in which clients name their conversations. */
export interface OriginRow {
  readonly from: "header" | "field";
  /** The name of the header, or the names on the way to the field, with dots between them. */
  readonly source: string;
  /** Below the credential's; empty: the credential's own, else `default`. */
  readonly scope: string;
  readonly replayed: boolean;
  readonly neverAlone?: boolean;
  /** Makes an id of what the client sent. Default: it is one. */
  readonly idOf?: (sent: string, header: HeaderReader, rules: OriginRules) => string;
}

export interface OriginRules {
  /** The scope of the credential; empty if it has none. */
  readonly baseScope: string;
  /** The agent that the model name stands for. */
  readonly modelAgent: string | undefined;
  readonly defaultAgent: string;
  /** Default: those that are shipped. */
  readonly table?: readonly OriginRow[];
  /** The only sources that the credential may use; empty: all. */
  readonly accepted?: readonly string[];
}

/**
 * The first row that the request has. Others must name the same id, else it is
 * 400: nobody can tell which conversation is meant (ruling 37).
 */
export function resolveOrigin(header: HeaderReader, body: JsonObject, rules: OriginRules): Origin {
  const { table = shippedOrigins, baseScope, accepted = [] } = rules;
  let first: (Origin & { readonly source: string }) | undefined;
  for (const row of table) {
    if (accepted.length > 0 && !accepted.includes(row.source)) continue;
    const sent = row.from === "header" ? presentHeader(header, row.source) : fieldAt(body, row.source);
    if (sent === undefined) continue;
    const externalId = row.idOf?.(sent, header, rules) ?? sent;
    if (first !== undefined && first.externalId !== externalId) {
      throw invalid(row.source, `${first.source} and ${row.source} name different sessions`);
    }
    const scope = row.scope === "" ? baseScope || "default" : below(baseScope, row.scope);
    const { source, replayed, neverAlone = false } = row;
    first ??= { source, scope, externalId, replayed, ...(neverAlone ? { neverAlone } : {}) };
  }
  if (first === undefined) return { scope: below(baseScope, "history"), replayed: true };
  const { source: _, ...origin } = first;
  return origin;
}

/** A header never widens what a credential reaches. */
export function below(baseScope: string, scope: string): string {
  return baseScope ? `${baseScope}/${scope}` : scope;
}

/** Undefined if it is absent or null; 400 if it is no id. An object stands for its `id`. */
function fieldAt(body: JsonObject, path: string): string | undefined {
  const found = path
    .split(".")
    .reduce<unknown>((value, name) => (isObject(value) ? (value[name] ?? null) : null), body);
  if (found === null) return undefined;
  const id = isObject(found) ? found.id : found;
  if (typeof id !== "string" || id === "") {
    throw invalid(path, `${path} is not an id: a string that is not empty`);
  }
  return wellFormed(id);
}
