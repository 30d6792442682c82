/** Which session a link of a conversation leads to. */
import { create } from "@bufbuild/protobuf";
import { ChainRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import type { SessionRow } from "../../sessions/session.js";
import type { LaneState } from "../../sessions/session-store.js";
import type { TurnRow } from "../../turns/turn.js";
import type { Linked } from "../../turns/turn-store.js";
import { sealMessage, unsealMessage } from "./codec.js";
import type { Key, Tables } from "./tables.js";

/** A link that two sessions were given leads to none of them. */
export function giveLink(tables: Tables, { key, recordNo }: TurnRow, link: Uint8Array): void {
  const place = placeOf(key, link);
  const known = read(tables, place);
  const shared = known !== undefined && (known.shared || known.recordNo !== recordNo);
  const record = create(ChainRecordSchema, { recordNo, externalId: key.externalId, shared });
  tables.put("chains", place, sealMessage(ChainRecordSchema, record));
}

/** The live session that was given the link. */
export function followLink(
  tables: Tables,
  { scope, provider }: { readonly scope: string; readonly provider: string },
  link: Uint8Array,
): Linked | undefined {
  const known = read(tables, placeOf({ scope, provider }, link));
  if (known === undefined || known.shared) return undefined;
  const row = tables.current({ scope, provider, externalId: known.externalId });
  if (row?.recordNo !== known.recordNo || row.archived !== undefined) return undefined;
  return { row, isNewest: isAt(row, tables.lane(row.key), link) };
}

/** The session beside that of the key which the link is the newest of. */
export function sideOf(tables: Tables, key: SessionRow["key"], link: Uint8Array): SessionRow | undefined {
  const known = read(tables, placeOf(key, link));
  if (known === undefined || known.shared) return undefined;
  const row = tables.row(key, known.recordNo);
  const isNewest = row?.chainHead !== undefined && Buffer.compare(row.chainHead, link) === 0;
  return row?.archived === "rotated" && isNewest ? row : undefined;
}

/** Whether the session can go on from the link: nothing was answered since, and nothing runs or waits. */
export function isAt(row: SessionRow | undefined, lane: LaneState, link: Uint8Array): boolean {
  const isIdle = lane.runningTurnId === undefined && lane.queuedTurns === 0;
  const isLive = row?.chainHead !== undefined && row.archived === undefined;
  return isIdle && isLive && Buffer.compare(row.chainHead, link) === 0;
}

function read(tables: Tables, place: Key) {
  const sealed = tables.get("chains", place);
  return sealed === undefined ? undefined : unsealMessage(ChainRecordSchema, sealed, "chains");
}

function placeOf(key: { readonly scope: string; readonly provider: string }, link: Uint8Array): Key {
  return [key.scope, key.provider, Buffer.from(link).toString("base64url")];
}
