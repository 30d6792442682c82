/** Imported rows, many in one transaction. */
import { decideImport } from "../../sessions/importing.js";
import type { ImportResult, ImportRow, ScopePattern } from "../../sessions/session-store.js";
import { isKnownElsewhere, nativeIdOwner } from "./owners.js";
import { sessionKey } from "./tables.js";
import type { Transaction } from "./transaction.js";

export function importRows(
  tx: Transaction,
  call: { readonly rows: readonly ImportRow[]; readonly callerScopes: readonly ScopePattern[] },
): readonly ImportResult[] {
  return call.rows.map((row) => importRow(tx, row, call.callerScopes));
}

function importRow(tx: Transaction, row: ImportRow, callerScopes: readonly ScopePattern[]): ImportResult {
  const present = tx.tables.current(row.key);
  const busyTurnId = tx.tables.busyTurnId(row.key);
  const takenAlias = row.aliases.find((alias) => isTaken(tx, row, alias));
  const owner =
    row.nativeId === undefined
      ? undefined
      : nativeIdOwner(
          tx,
          { key: row.key, workspace: row.workspace, recordNo: present?.recordNo ?? 0 },
          row.nativeId,
        );
  const isForeign =
    row.nativeId !== undefined && isKnownElsewhere(tx, row.key.provider, row.nativeId, callerScopes);
  const decision = decideImport(row, {
    ...(present === undefined ? {} : { row: present }),
    ...(busyTurnId === undefined ? {} : { busyTurnId }),
    ...(takenAlias === undefined ? {} : { takenAlias }),
    nativeIdTaken: owner !== undefined || isForeign,
    newRecordNo: tx.next("recordNo"),
  });
  if (decision.row !== undefined) {
    tx.tables.delete("tombstones", sessionKey(row.key));
    tx.putSession(decision.row, present);
  }
  return { result: decision.result, message: decision.message };
}

function isTaken(tx: Transaction, row: ImportRow, alias: string): boolean {
  const where = { scopes: [row.key.scope], provider: row.key.provider };
  return tx.tables
    .byId({ kind: "alias", id: alias }, where, 16)
    .some(
      (owner) =>
        owner.key.externalId !== row.key.externalId &&
        owner.aliases.some(({ id, kind }) => id === alias && kind === "platform"),
    );
}
