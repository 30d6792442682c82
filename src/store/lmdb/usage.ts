/**
 * What turns took, summed by the day on which they ended, their scope and their
 * provider. Sums of their own, so that they outlive the turns and cost no scan.
 */
import { create } from "@bufbuild/protobuf";
import { DayUsageRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { addUsage, noUsage } from "../../sessions/session.js";
import { scopeMatches } from "../../sessions/session-store.js";
import { hasEnded } from "../../turns/turn.js";
import { dayOf, type SpentUsage, type UsageCall, type UsagePage, type UsageRow } from "../../turns/usage.js";
import { decodeTurn, decodeUsage, encodeUsage, sealMessage, unsealMessage } from "./codec.js";
import { afterAll } from "./schema.js";
import type { Key, Tables } from "./tables.js";

/** Rows looked at for one page: those of other scopes count, too. */
const mostRows = 5_000;

/** Adds a turn that had the lane and has ended. */
export function countUsage(tables: Tables, { key: { scope, provider }, endedAtMs, usage }: SpentUsage): void {
  const place = [dayOf(endedAtMs), scope, provider];
  const before = read(tables.get("usage", place));
  const sum = create(DayUsageRecordSchema, {
    turns: before.turns + 1,
    usage: encodeUsage(addUsage(before.usage, usage)),
  });
  tables.put("usage", place, sealMessage(DayUsageRecordSchema, sum));
}

/** Sums anew from the turns that are there. */
export function countAllUsage(tables: Tables): void {
  for (const { key } of [...tables.all("usage")]) tables.delete("usage", key);
  for (const { key, value } of tables.all("turns")) {
    const turn = decodeTurn(Number(key), value);
    if (!hasEnded(turn.state) || turn.fence === undefined) continue;
    countUsage(tables, { ...turn, endedAtMs: turn.endedAtMs ?? turn.createdAtMs });
  }
}

export function listUsage(tables: Tables, call: UsageCall): UsagePage {
  const { sinceDay, untilDay, after, limit } = call;
  const rows: UsageRow[] = [];
  let last: Pick<UsageRow, "day" | "scope" | "provider"> | undefined;
  let lookedAt = 0;
  const start: Key = after === undefined ? [sinceDay] : [after.day, after.scope, after.provider, afterAll];
  for (const { key, value } of tables.entriesBetween("usage", start, [untilDay, afterAll])) {
    if (last !== undefined && (rows.length >= limit || lookedAt >= mostRows)) return { rows, next: last };
    lookedAt += 1;
    last = { day: Number(key[0]), scope: String(key[1]), provider: String(key[2]) };
    if (isWanted(last, call)) rows.push({ ...last, ...read(value) });
  }
  return { rows };
}

function isWanted({ scope, provider }: Pick<UsageRow, "scope" | "provider">, call: UsageCall): boolean {
  if (call.provider !== undefined && provider !== call.provider) return false;
  return call.scopes.some((pattern) => scopeMatches(pattern, scope));
}

function read(sealed: Buffer | undefined): Pick<UsageRow, "turns" | "usage"> {
  if (sealed === undefined) return { turns: 0, usage: noUsage };
  const { turns, usage } = unsealMessage(DayUsageRecordSchema, sealed, "usage");
  return { turns, usage: decodeUsage(usage) };
}
