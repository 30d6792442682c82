/** The conversation kept of each session: at most so many bytes, the oldest exchanges cut first. */
import { create } from "@bufbuild/protobuf";
import {
  type HistorySizeRecord,
  HistorySizeRecordSchema,
} from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { fitExchange, type KeptHistory, mostHistoryBytes } from "../../turns/history.js";
import type { Exchange } from "../../turns/provider.js";
import type { TurnRow } from "../../turns/turn.js";
import { decodeExchange, encodeExchange, sealMessage, unsealMessage } from "./codec.js";
import { afterAll } from "./schema.js";
import type { Key, Tables } from "./tables.js";
import type { Transaction } from "./transaction.js";

export function keepExchange(
  { tables }: Transaction,
  { recordNo, turnNo }: Pick<TurnRow, "recordNo" | "turnNo">,
  exchange: Exchange,
): void {
  const size = sizeOf(tables, recordNo);
  const kept = fitExchange(exchange);
  const sealed = encodeExchange(kept);
  tables.put("history", [recordNo, turnNo], sealed);
  size.bytes += sealed.length;
  size.cut ||= kept !== exchange;
  const tooOld: Key[] = [];
  if (size.bytes > mostHistoryBytes) {
    for (const { key, value } of tables.entriesBetween("history", [recordNo], [recordNo, turnNo])) {
      tooOld.push(key);
      size.bytes -= value.length;
      size.cut = true;
      if (size.bytes <= mostHistoryBytes) break;
    }
  }
  for (const key of tooOld) tables.delete("history", key);
  tables.put("historySizes", recordNo, sealMessage(HistorySizeRecordSchema, size));
}

/** Gives a new session what another has kept up to a turn. */
export function copyHistory(
  { tables }: Transaction,
  { recordNo, turnNo }: Pick<TurnRow, "recordNo" | "turnNo">,
  to: number,
): void {
  const size = create(HistorySizeRecordSchema, { cut: sizeOf(tables, recordNo).cut });
  const kept = [...tables.entriesBetween("history", [recordNo], [recordNo, turnNo + 1])];
  for (const { key, value } of kept) {
    tables.put("history", [to, Number(key[1])], value);
    size.bytes += value.length;
  }
  if (kept.length > 0) tables.put("historySizes", to, sealMessage(HistorySizeRecordSchema, size));
}

/** Newest exchanges up to a budget in bytes. */
export function readHistory(tables: Tables, recordNo: number, maxBytes: number): KeptHistory {
  const newestFirst: Exchange[] = [];
  let truncated = sizeOf(tables, recordNo).cut;
  let bytes = 0;
  for (const { value } of tables.entriesBetween("history", [recordNo, afterAll], [recordNo], true)) {
    bytes += value.length;
    if (bytes > maxBytes) {
      truncated = true;
      break;
    }
    newestFirst.push(decodeExchange(value));
  }
  return { exchanges: newestFirst.reverse(), truncated };
}

export function readExchange(
  tables: Tables,
  { recordNo, turnNo }: Pick<TurnRow, "recordNo" | "turnNo">,
): Exchange | undefined {
  const sealed = tables.get("history", [recordNo, turnNo]);
  return sealed === undefined ? undefined : decodeExchange(sealed);
}

export function readLastAnswer(tables: Tables, recordNo: number): string | undefined {
  for (const { value } of tables.entriesBetween("history", [recordNo, afterAll], [recordNo], true)) {
    return decodeExchange(value).assistant;
  }
  return undefined;
}

function sizeOf(tables: Tables, recordNo: number): HistorySizeRecord {
  const sealed = tables.get("historySizes", recordNo);
  return sealed === undefined
    ? create(HistorySizeRecordSchema)
    : unsealMessage(HistorySizeRecordSchema, sealed, "history");
}
