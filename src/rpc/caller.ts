/** Who asks: the credential of a request, and what of the store it can see. */
import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import { BrokerError } from "../errors.js";
import { type ScopePattern, scopeMatches, type Where } from "../sessions/session-store.js";

export interface Caller {
  readonly name: string;
  readonly role: Role;
  readonly scopes: readonly ScopePattern[];
  /**
   * The scope that everything of this credential lies in or below, the unit of
   * fairness; empty if it is not confined to one.
   */
  readonly baseScope: string;
  /** Several people use it. */
  readonly shared: boolean;
  /** The only headers and fields in which the adapter lets it name conversations; none: all. */
  readonly origins: readonly string[];
}

export const callerKey = createContextKey<Caller | undefined>(undefined);

export function callerOf(context: HandlerContext): Caller {
  const caller = context.values.get(callerKey);
  if (caller === undefined) throw new BrokerError("UNAUTHENTICATED", "a bearer token is needed");
  return caller;
}

/** `acme` for the patterns `acme` and `acme/*`; empty if they have no scope in common. */
export function baseScopeOf(scopes: readonly ScopePattern[]): string {
  const bases = new Set(scopes.map((pattern) => (pattern === "*" ? "" : pattern.replace(/\/\*$/, ""))));
  const [only] = bases;
  return bases.size === 1 && only !== undefined ? only : "";
}

/**
 * READ < DISPATCH < ADMIN. APPROVE reads, and answers for any turn; those who
 * dispatch turns answer for their own, which the method sees to.
 */
const included: Record<Role, readonly Role[]> = {
  [Role.UNSPECIFIED]: [],
  [Role.READ]: [Role.READ],
  [Role.APPROVE]: [Role.READ, Role.APPROVE],
  [Role.DISPATCH]: [Role.READ, Role.DISPATCH, Role.APPROVE],
  [Role.ADMIN]: [Role.READ, Role.DISPATCH, Role.APPROVE, Role.ADMIN],
};

export function roleIncludes(held: Role, needed: Role): boolean {
  return included[held].includes(needed);
}

/** @throws BrokerError FOREIGN_SCOPE if the scope is not the caller's */
export function requireScope(caller: Caller, scope: string): void {
  if (caller.scopes.some((pattern) => scopeMatches(pattern, scope))) return;
  throw new BrokerError("FOREIGN_SCOPE", `scope: ${scope} is not one of your credential's`, { scope });
}

/** Where a look-up may look: the caller's scopes, or those of them that the request names. */
export function whereOf(caller: Caller, scope: string, provider = ""): Where {
  const scopes = scope === "" ? caller.scopes : [narrow(caller, scope)];
  return { scopes, provider: provider === "" ? undefined : provider };
}

function narrow(caller: Caller, wanted: ScopePattern): ScopePattern {
  const sample = wanted.endsWith("/*") ? wanted.slice(0, -1) : wanted;
  const allowed = caller.scopes.some((pattern) =>
    wanted === "*" || wanted.endsWith("/*")
      ? pattern === "*" ||
        pattern === wanted ||
        (pattern.endsWith("/*") && sample.startsWith(pattern.slice(0, -1)))
      : scopeMatches(pattern, wanted),
  );
  if (allowed) return wanted;
  throw new BrokerError("FOREIGN_SCOPE", `scope: ${wanted} is not one of your credential's`, {
    scope: wanted,
  });
}
