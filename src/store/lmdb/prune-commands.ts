/** Pruning and what has to be cleared away from time to time, in bounded steps. */
import {
  ChangeRecordSchema,
  ReplayRecordSchema,
  ScopeRecordSchema,
} from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { decidePrune } from "../../sessions/prune.js";
import type { SessionRow } from "../../sessions/session.js";
import type { Place, PruneCall, PruneRow, PruneSkip } from "../../sessions/session-store.js";
import { type Stretch, walkActivity } from "./activity.js";
import { unsealMessage } from "./codec.js";
import { settleMerges } from "./merge-commands.js";
import { afterAll } from "./schema.js";
import { purge } from "./session-commands.js";
import type { Tables } from "./tables.js";
import type { Transaction } from "./transaction.js";
import { buryTurn } from "./turn-tombstones.js";

/** Looks at the rows of one scope, the longest idle first. */
export interface PruneStep {
  readonly call: PruneCall;
  readonly scope: string;
  /** Where the step before ended. */
  readonly after?: Place;
  /** Rows that are over the cap of the scope, from here on. */
  readonly overCap: number;
  /** Rows to prune at most. */
  readonly limit: number;
}

export interface PruneStepResult {
  readonly rows: readonly PruneRow[];
  readonly skipped: readonly PruneSkip[];
  readonly after?: Place;
  readonly overCap: number;
  readonly done: boolean;
}

/** Rows that one step looks at, so that other writers wait milliseconds. */
const rowsPerStep = 50;

export function pruneStep(tx: Transaction, step: PruneStep): PruneStepResult {
  const { call } = step;
  const rows: PruneRow[] = [];
  const skipped: PruneSkip[] = [];
  let { after, overCap } = step;
  let passed = 0;
  const end = (done: boolean): PruneStepResult => ({
    rows,
    skipped,
    overCap,
    done,
    ...(after === undefined ? {} : { after }),
  });
  const places = walkActivity(tx.tables, stretchesOf(tx.tables, call, step.scope), "oldest", after);
  for (const place of take(places, rowsPerStep)) {
    if (rows.length >= step.limit) return end(false);
    const row = tx.tables.row(place.key, place.recordNo);
    after = place;
    if (row === undefined) continue;
    if (call.hasTurns !== undefined && row.archived === undefined && row.turnCount > 0 !== call.hasTurns) {
      passed += 1;
      continue;
    }
    const decision = decidePrune(row, laneOf(tx, row), overCap > 0, call);
    if (decision.kind === "keep") return end(true);
    overCap = Math.max(0, overCap - 1);
    if (decision.kind === "skip") {
      skipped.push({ row, reason: decision.reason });
      continue;
    }
    rows.push({ row, reason: decision.reason });
    if (!call.dryRun) pruneRow(tx, row, call);
  }
  return end(rows.length + skipped.length + passed < rowsPerStep);
}

/** The scopes a prune looks at, each with the number of rows it is over the cap. */
export function pruneScopes(
  tables: Tables,
  call: PruneCall,
): { readonly scope: string; readonly overCap: number }[] {
  return [...tables.scopesOf(call.scopes)].map((scope) => {
    const held = countRows(tables, call, scope);
    return { scope, overCap: call.maxSessions === undefined ? 0 : Math.max(0, held - call.maxSessions) };
  });
}

/** Deletes what hangs on deleted rows, at most `limit` entries; true if nothing is left. */
export function sweepGarbage(
  tx: Transaction,
  call: { readonly nowMs: number; readonly limit: number },
): boolean {
  let left = call.limit;
  for (const { key: recordNo } of [...tx.tables.numbered("garbage", call.limit)]) {
    for (const entry of [...tx.tables.keysBelow("sessionTurns", [recordNo], left)]) {
      const turnNo = Number(entry[1]);
      for (const event of [...tx.tables.keysBelow("events", [turnNo], left)]) {
        tx.tables.delete("events", event);
        if (--left <= 0) return false;
      }
      const turn = tx.tables.turn(turnNo);
      if (turn !== undefined) {
        buryTurn(tx, turn, call.nowMs);
        tx.deleteTurn(turn);
      }
      tx.tables.delete("requests", turnNo);
      settleMerges(tx, turnNo, undefined);
      tx.tables.delete("history", [recordNo, turnNo]);
      tx.tables.delete("sessionTurns", entry);
      if (--left <= 0) return false;
    }
    tx.tables.delete("historySizes", recordNo);
    tx.tables.delete("garbage", recordNo);
    if (--left <= 0) return false;
  }
  return true;
}

/** Deletes answers that are no longer given again, at most `limit`; true if none is left. */
export function expireReplays(
  tx: Transaction,
  call: { readonly nowMs: number; readonly limit: number },
): boolean {
  const due = [...tx.tables.keysBetween("replayExpiry", [0], [call.nowMs], call.limit)];
  for (const key of due) {
    const place = [String(key[1]), String(key[2])];
    const sealed = tx.tables.get("replays", place);
    // The key may have been used again since.
    const record = sealed === undefined ? undefined : unsealMessage(ReplayRecordSchema, sealed, "replays");
    if (record !== undefined && record.expiresAtMs < call.nowMs) tx.tables.delete("replays", place);
    tx.tables.delete("replayExpiry", key);
  }
  return due.length < call.limit;
}

/** Deletes the oldest changes, at most `limit`; true if none is left that has to go. */
export function expireChanges(
  tx: Transaction,
  call: { readonly before: number; readonly olderThanMs: number; readonly limit: number },
): boolean {
  const due: number[] = [];
  for (const { key, value } of tx.tables.numbered("changes", call.limit)) {
    const { atMs } = unsealMessage(ChangeRecordSchema, value, "changes");
    if (key >= call.before && atMs >= call.olderThanMs) break;
    due.push(key);
  }
  for (const key of due) tx.tables.delete("changes", key);
  tx.forgetChanges(due.at(-1) ?? 0);
  return due.length < call.limit;
}

function stretchesOf(tables: Tables, call: PruneCall, scope: string): Stretch[] {
  const providers = [...tables.keysBelow("scopes", [scope])].map(([, provider]) => String(provider));
  return providers
    .filter((provider) => call.provider === undefined || provider === call.provider)
    .flatMap((provider): Stretch[] => [
      ...(call.live ? [[scope, provider, "l"] as const] : []),
      ...(call.archived ? [[scope, provider, "a"] as const] : []),
    ]);
}

function countRows(tables: Tables, call: PruneCall, scope: string): number {
  let held = 0;
  for (const { key, value } of tables.entriesBetween("scopes", [scope], [scope, afterAll])) {
    if (call.provider !== undefined && key[1] !== call.provider) continue;
    const counts = unsealMessage(ScopeRecordSchema, value, "scopes");
    held += (call.live ? counts.live : 0) + (call.archived ? counts.archived : 0);
  }
  return held;
}

function laneOf(tx: Transaction, row: SessionRow): "RUNNING" | "QUEUED" | undefined {
  if (row.archived === "rotated") return undefined;
  const lane = tx.tables.lane(row.key);
  if (lane.runningTurnId !== undefined) return "RUNNING";
  return lane.queuedTurns > 0 ? "QUEUED" : undefined;
}

function pruneRow(tx: Transaction, row: SessionRow, call: PruneCall): void {
  if (call.purge) purge(tx, row);
  else if (row.archived === undefined) tx.putSession({ ...row, archived: "pruned", revision: 0 }, row);
}

/** Read ahead of the writes, which must not move the walk. */
function take(places: Generator<Place>, most: number): Place[] {
  const taken: Place[] = [];
  for (const place of places) {
    taken.push(place);
    if (taken.length >= most) break;
  }
  return taken;
}
