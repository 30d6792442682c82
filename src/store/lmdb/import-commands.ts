/** Imported rows, many in one transaction. */
import { decideImport } from "../../sessions/importing.js";
import type { ImportResult, ImportRow, ScopePattern } from "../../sessions/session-store.js";
import { aliasOwner, isForeignNativeId, nativeIdOwner } from "./owners.js";
import { scopeFull } from "./scope-bound.js";
import { sessionKey } from "./tables.js";
import type { Transaction } from "./transaction.js";

export interface ImportCall {
  readonly rows: readonly ImportRow[];
  readonly callerScopes: readonly ScopePattern[];
  /** Default: any number. */
  readonly sessionsPerScope?: number;
}

export function importRows(tx: Transaction, call: ImportCall): readonly ImportResult[] {
  return call.rows.map((row) => importRow(tx, row, call));
}

function importRow(
  tx: Transaction,
  row: ImportRow,
  { callerScopes, sessionsPerScope }: ImportCall,
): ImportResult {
  const present = tx.tables.current(row.key);
  const busyTurnId = tx.tables.busyTurnId(row.key);
  const takenAlias = row.aliases.find((alias) => aliasOwner(tx, row.key, alias) !== undefined);
  const place = { key: row.key, workspace: row.workspace, recordNo: present?.recordNo ?? 0 };
  const decision = decideImport(row, {
    ...(present === undefined ? {} : { row: present }),
    ...(busyTurnId === undefined ? {} : { busyTurnId }),
    ...(takenAlias === undefined ? {} : { takenAlias }),
    nativeIdTaken:
      row.nativeId !== undefined &&
      (nativeIdOwner(tx, place, row.nativeId) !== undefined ||
        isForeignNativeId(tx, row.key.provider, row.nativeId, callerScopes)),
    newRecordNo: tx.next("recordNo"),
  });
  if (decision.row !== undefined) {
    const full = present === undefined ? scopeFull(tx, row.key.scope, sessionsPerScope) : undefined;
    if (full !== undefined) return { result: "CONFLICTING", message: full.message };
    tx.tables.delete("tombstones", sessionKey(row.key));
    tx.putSession(decision.row, present);
  }
  return { result: decision.result, message: decision.message };
}
