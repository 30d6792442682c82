/**
 * What has to hold of each entry, by database. A check yields what is wrong, or
 * throws where the entry cannot be read. `sessions` and `archive` are read
 * before what hangs on them.
 */
import { fromBinary } from "@bufbuild/protobuf";
import {
  ChainRecordSchema,
  ChangeRecordSchema,
  DayUsageRecordSchema,
  HistorySizeRecordSchema,
  ReplayRecordSchema,
  ScopeRecordSchema,
  TombstoneRecordSchema,
} from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { TurnEventSchema } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { SessionRow } from "../../sessions/session.js";
import { activityKey } from "./activity.js";
import {
  decodeBatch,
  decodeExchange,
  decodeSession,
  decodeTurn,
  unseal,
  unsealJson,
  unsealMessage,
} from "./codec.js";
import { idEntries, ownerOf } from "./ids.js";
import { keptEventsKey } from "./kept-events.js";
import type { DatabaseName } from "./schema.js";
import { decodeLane, decodeNumber, type Key } from "./tables.js";
import { turnOrderKey } from "./turn-order.js";
import { isInLane, type VerifiedRows } from "./verified-rows.js";

type Check<K> = (key: K, value: Buffer, rows: VerifiedRows) => Iterable<string>;

export const checks: Readonly<Record<DatabaseName, Check<Key | number | string>>> = {
  meta: readable((value) => unsealJson(value, "meta")),
  sessions: keyed(function* ([scope, externalId, provider], value, rows) {
    const row = decodeSession(keyOf(scope, externalId, provider), value);
    if (row.archived === "rotated") yield "a row that was replaced is its key's";
    yield* sessionProblems(row, rows);
  }),
  archive: keyed(function* ([scope, externalId, provider, recordNo], value, rows) {
    const row = decodeSession(keyOf(scope, externalId, provider), value);
    if (row.recordNo !== recordNo) yield `its row has the number ${row.recordNo}`;
    if (row.archived !== "rotated") yield "a row that was not replaced is archived";
    yield* sessionProblems(row, rows);
  }),
  ids: keyed(function* (key, value, rows) {
    const [scope, code, id] = key;
    if (key.length > 3) yield* markProblems(value);
    const owner = ownerOf(key, value);
    if (owner === undefined) return;
    const row = rows.session(keyOf(scope, owner.externalId, owner.provider), owner.recordNo);
    const has =
      row !== undefined && idEntries(row).some((entry) => sameKey(entry.id, [scope, code, id] as Key));
    if (!has) yield noRow;
    else if (key.length > 3 && rows.schemaVersion >= 3 && !rows.has("ids", [scope, code, id] as Key))
      yield "the id itself has no entry";
  }),
  activity: keyed(function* (key, value, rows) {
    yield* markProblems(value);
    const [scope, provider, , , externalId, recordNo] = key;
    const row = rows.session(keyOf(scope, externalId, provider), Number(recordNo));
    if (row === undefined || !sameKey(activityKey(row), key)) yield noRow;
  }),
  scopes: keyed(function* ([scope, provider], value, rows) {
    const { live, archived } = unsealMessage(ScopeRecordSchema, value, "scopes");
    const counted = rows.countsOf(String(scope), String(provider));
    if (live === counted.live && archived === counted.archived) return;
    yield `it counts ${live} live and ${archived} archived sessions, and there are ${counted.live} and ${counted.archived}`;
  }),
  tombstones: readable((value) => unsealMessage(TombstoneRecordSchema, value, "tombstones")),
  replays: keyed(function* (key, value, rows) {
    const { expiresAtMs, response } = unsealMessage(ReplayRecordSchema, value, "replays");
    if (response.length > 0) unsealJson(Buffer.from(response), "replays");
    if (!rows.has("replayExpiry", [expiresAtMs, ...key])) yield "no entry in replay-expiry";
  }),
  replayExpiry: keyed(function* ([expiresAtMs], value) {
    if (numberIn(value) !== expiresAtMs) yield otherValue;
  }),
  changes: readable((value) => unsealMessage(ChangeRecordSchema, value, "changes")),
  *turns(turnNo, value, rows) {
    const turn = decodeTurn(Number(turnNo), value);
    const { key, recordNo } = turn;
    if (!rows.hasRecord(recordNo)) yield "its session is missing";
    if (!rows.has("turnIds", [key.scope, turn.turnId])) yield "no entry in turn-ids";
    if (!rows.has("sessionTurns", [recordNo, turn.turnNo])) yield "no entry in session-turns";
    if (!rows.has("turnOrder", turnOrderKey(turn))) yield "no entry in turn-order";
    if (isInLane(turn) && !rows.has("lanes", [key.scope, key.externalId, key.provider, turn.turnNo])) {
      yield "no entry in lanes";
    }
    const kept = keptEventsKey(turn);
    if (kept !== undefined && !rows.has("keptEvents", kept)) yield "no entry in kept-events";
  },
  turnIds: keyed(function* ([scope, turnId], value, rows) {
    const turn = rows.turn(numberIn(value));
    if (turn?.turnId !== turnId || turn?.key.scope !== scope) yield noRow;
  }),
  sessionTurns: keyed(function* ([recordNo, turnNo], value, rows) {
    if (numberIn(value) !== turnNo) yield otherValue;
    if (rows.turn(Number(turnNo))?.recordNo !== recordNo) yield noRow;
  }),
  turnOrder: keyed(function* (key, value, rows) {
    yield* markProblems(value);
    const turn = rows.turn(0 - Number(key[3]));
    if (turn === undefined || !sameKey(turnOrderKey(turn), key)) yield noRow;
  }),
  lanes: keyed(function* ([scope, externalId, provider, turnNo], value, rows) {
    const turn = rows.turn(Number(turnNo));
    const { turnId, fence } = decodeLane(value);
    const row = rows.current(keyOf(scope, externalId, provider));
    if (rows.schemaVersion >= 3 && row?.laneUsed !== true) yield "the row of its key takes the lane for free";
    if (turn === undefined || !isInLane(turn)) yield noRow;
    else if (turn.turnId !== turnId || (turn.fence ?? 0) !== fence) yield otherValue;
  }),
  merges: keyed(function* ([intoTurnNo, turnNo], value, rows) {
    if (numberIn(value) !== turnNo) yield otherValue;
    if (rows.turn(Number(turnNo))?.mergedInto?.turnNo !== intoTurnNo) yield noRow;
  }),
  *requests(turnNo, value, rows) {
    unseal(value, "requests");
    if (!rows.has("turns", Number(turnNo))) yield noRow;
  },
  events: keyed(function* ([turnNo, sequence], value, rows) {
    const [first] = decodeBatch(value);
    if (first === undefined || fromBinary(TurnEventSchema, first).sequence !== sequence) yield otherValue;
    if (!rows.has("turns", Number(turnNo))) yield noRow;
  }),
  keptEvents: keyed(function* (key, value, rows) {
    const [grant, , turnNo] = key;
    const turn = rows.turn(Number(turnNo));
    const known = turn && keptEventsKey(turn);
    rows.addKept(String(grant), numberIn(value));
    if (turn === undefined || known === undefined || !sameKey(known, key)) yield noRow;
    else if (turn.eventBytes !== numberIn(value)) yield otherValue;
  }),
  *grantEvents(grant, value, rows) {
    if (numberIn(value) !== rows.keptBytes(String(grant))) yield "its sum is not that of its turns";
  },
  *evicting(turnNo, value) {
    if (numberIn(value) !== turnNo) yield otherValue;
  },
  history: keyed(function* ([recordNo, turnNo], value, rows) {
    decodeExchange(value);
    rows.addHistory(Number(recordNo), value.length);
    if (!rows.hasRecord(Number(recordNo))) yield "its session is missing";
    if (!rows.has("sessionTurns", [Number(recordNo), Number(turnNo)])) yield "its turn is missing";
  }),
  *historySizes(recordNo, value, rows) {
    const { bytes } = unsealMessage(HistorySizeRecordSchema, value, "history");
    const counted = rows.historyBytes(Number(recordNo));
    if (bytes !== counted && !rows.isGarbage(Number(recordNo))) {
      yield `it says ${bytes} bytes, and there are ${counted}`;
    }
  },
  chains: readable((value) => unsealMessage(ChainRecordSchema, value, "chains")),
  usage: readable((value) => unsealMessage(DayUsageRecordSchema, value, "usage")),
  *garbage(recordNo, value) {
    if (numberIn(value) !== recordNo) yield otherValue;
  },
};

const noRow = "no row has it";
const otherValue = "its value is not the one of its row";

function readable(read: (value: Buffer) => unknown): Check<unknown> {
  return (_key, value) => {
    read(value);
    return [];
  };
}

function* sessionProblems(row: SessionRow, rows: VerifiedRows): Generator<string> {
  rows.addSession(row);
  if (!idEntries(row).every((entry) => rows.hasId(entry))) yield "an entry in ids is missing";
  if (!rows.has("activity", activityKey(row))) yield "no entry in activity";
}

/** Entries without a record hold one byte. */
function* markProblems(value: Buffer): Generator<string> {
  if (value.length !== 1 || value[0] !== 1) yield otherValue;
}

/** @throws RangeError unless it is one */
function numberIn(value: Buffer): number {
  if (value.length !== 8) throw new RangeError("its value is no number");
  return decodeNumber(value);
}

function keyOf(scope: unknown, externalId: unknown, provider: unknown): SessionRow["key"] {
  return { scope: String(scope), externalId: String(externalId), provider: String(provider) };
}

function keyed(check: Check<Key>): Check<Key | number | string> {
  return (key, value, rows) =>
    typeof key === "object" ? check(key, value, rows) : ["its key has another shape"];
}

function sameKey(a: Key, b: Key): boolean {
  return a.length === b.length && a.every((part, index) => part === b[index]);
}
