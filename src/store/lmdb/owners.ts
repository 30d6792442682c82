/** Ids that at most one session may have. */
import { type Refusal, refuse } from "../../sessions/refusal.js";
import type { SessionRow } from "../../sessions/session.js";
import { type ScopePattern, scopeMatches } from "../../sessions/session-store.js";
import type { Transaction } from "./transaction.js";

/** Another live session of the provider and workspace that has the native id. */
export function nativeIdOwner(
  tx: Transaction,
  row: Pick<SessionRow, "key" | "recordNo" | "workspace">,
  nativeId: string,
): SessionRow | undefined {
  const where = { scopes: ["*"], provider: row.key.provider };
  const owners = tx.tables.byId({ kind: "native-id", id: nativeId }, where, 16);
  return owners.find(
    (owner) =>
      owner.recordNo !== row.recordNo && owner.archived === undefined && owner.workspace === row.workspace,
  );
}

/** Whether a session outside these scopes has the native id, or had it: live or archived, wherever it works. */
export function isKnownElsewhere(
  tx: Transaction,
  provider: string,
  nativeId: string,
  scopes: readonly ScopePattern[],
): boolean {
  if (scopes.includes("*")) return false;
  const where = { scopes: ["*"], provider };
  const isForeign = ({ key }: SessionRow) => !scopes.some((pattern) => scopeMatches(pattern, key.scope));
  const owners = (kind: "native-id" | "alias") =>
    tx.tables.byId({ kind, id: nativeId }, where, Number.POSITIVE_INFINITY).filter(isForeign);
  return (
    owners("native-id").length > 0 ||
    owners("alias").some(({ aliases }) =>
      aliases.some(({ id, kind }) => id === nativeId && kind === "former-native"),
    )
  );
}

/** A platform alias of the row that another live session of the scope and provider has. */
export function findTakenAlias(
  tx: Transaction,
  row: SessionRow,
  before: SessionRow | undefined,
): Refusal | undefined {
  const { scope, provider } = row.key;
  const had = new Set(before?.aliases.map((alias) => alias.id));
  for (const alias of row.aliases) {
    if (alias.kind !== "platform" || had.has(alias.id)) continue;
    const owners = tx.tables.byId({ kind: "alias", id: alias.id }, { scopes: [scope], provider }, 16);
    const rival = owners.find((owner) => !sameConversation(owner, row) && hasPlatformAlias(owner, alias.id));
    if (rival !== undefined) {
      return refuse("ALIAS_TAKEN", `aliases: ${JSON.stringify(alias.id)} names another session`, {
        alias: alias.id,
      });
    }
  }
  return undefined;
}

function sameConversation(a: SessionRow, b: SessionRow): boolean {
  return (
    a.key.externalId === b.key.externalId && a.key.provider === b.key.provider && a.key.scope === b.key.scope
  );
}

function hasPlatformAlias(row: SessionRow, id: string): boolean {
  return row.aliases.some((alias) => alias.id === id && alias.kind === "platform");
}
