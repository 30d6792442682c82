/** Ids that at most one session may have. */
import type { SessionKey } from "../../sessions/key.js";
import { type Refusal, refuse } from "../../sessions/refusal.js";
import type { SessionRow } from "../../sessions/session.js";
import { type IdQuery, type ScopePattern, scopeMatches, type Where } from "../../sessions/session-store.js";
import type { Transaction } from "./transaction.js";

/** Another live session of the provider and workspace that has the native id. */
export function nativeIdOwner(
  tx: Transaction,
  row: Pick<SessionRow, "key" | "recordNo" | "workspace">,
  nativeId: string,
): SessionRow | undefined {
  const where = { scopes: ["*"], provider: row.key.provider };
  return firstOwner(
    tx,
    { kind: "native-id", id: nativeId },
    where,
    (owner) =>
      owner.recordNo !== row.recordNo && owner.archived === undefined && owner.workspace === row.workspace,
  );
}

/** Whether a session outside of these scopes has the native id, or had it: live or archived, in any workspace. */
export function isForeignNativeId(
  tx: Transaction,
  provider: string,
  nativeId: string,
  callerScopes: readonly ScopePattern[],
): boolean {
  if (callerScopes.includes("*")) return false;
  const where = { scopes: ["*"], provider };
  const kinds = ["native-id", "alias"] as const;
  return kinds.some((kind) => {
    const foreign = firstOwner(tx, { kind, id: nativeId }, where, (owner) => {
      const had = owner.aliases.some((alias) => alias.id === nativeId && alias.kind === "former-native");
      const isMine = callerScopes.some((pattern) => scopeMatches(pattern, owner.key.scope));
      return !isMine && (kind === "native-id" || had);
    });
    return foreign !== undefined;
  });
}

/** A platform alias of the row that another live session of the scope and provider has. */
export function findTakenAlias(
  tx: Transaction,
  row: SessionRow,
  before: SessionRow | undefined,
): Refusal | undefined {
  const had = new Set(before?.aliases.map((alias) => alias.id));
  for (const alias of row.aliases) {
    if (alias.kind !== "platform" || had.has(alias.id)) continue;
    if (aliasOwner(tx, row.key, alias.id) !== undefined) {
      return refuse("ALIAS_TAKEN", `aliases: ${JSON.stringify(alias.id)} names another session`, {
        alias: alias.id,
      });
    }
  }
  return undefined;
}

/** A session of the scope and provider, other than the key's own, to which a caller gave the alias. */
export function aliasOwner(tx: Transaction, key: SessionKey, alias: string): SessionRow | undefined {
  const where = { scopes: [key.scope], provider: key.provider };
  return firstOwner(tx, { kind: "alias", id: alias }, where, (owner) => {
    const isPlatform = owner.aliases.some(({ id, kind }) => id === alias && kind === "platform");
    return isPlatform && owner.key.externalId !== key.externalId;
  });
}

function firstOwner(
  tx: Transaction,
  query: IdQuery,
  where: Where,
  fits: (owner: SessionRow) => boolean,
): SessionRow | undefined {
  let found: SessionRow | undefined;
  tx.tables.visitOwners(query, where, (owner) => {
    if (fits(owner)) found = owner;
    return found === undefined;
  });
  return found;
}
