/** Rows to bytes and back. Every value carries a checksum of what follows it. */
import { crc32 } from "node:zlib";
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  ExchangeRecordSchema,
  JournalBatchSchema,
  type TurnRecord,
  TurnRecordSchema,
  type UsageRecord,
  UsageRecordSchema,
} from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { BrokerError } from "../../errors.js";
import type { SessionKey } from "../../sessions/key.js";
import type { SessionRow, UsageTotal } from "../../sessions/session.js";
import type { ConflictPolicy, TurnRow, TurnState } from "../../turns/turn.js";
import { readSession, writeSession } from "./session-record.js";

const checksumBytes = 4;

export function seal(payload: Uint8Array): Buffer {
  const sealed = Buffer.allocUnsafe(checksumBytes + payload.length);
  sealed.writeUInt32LE(crc32(payload), 0);
  sealed.set(payload, checksumBytes);
  return sealed;
}

/**
 * @param sealed may be a buffer of lmdb's that is larger than its `length` says
 * @throws BrokerError STORE_DAMAGED if the checksum does not hold.
 */
export function unseal(sealed: Buffer, what: string): Buffer {
  const payload = sealed.subarray(checksumBytes, sealed.length);
  if (sealed.length < checksumBytes || sealed.readUInt32LE(0) !== crc32(payload)) {
    throw new BrokerError(
      "STORE_DAMAGED",
      `a record of ${what} fails its checksum; run session-broker verify`,
    );
  }
  return payload;
}

export function sealMessage<D extends DescMessage>(schema: D, message: MessageShape<D>): Buffer {
  return seal(toBinary(schema, message));
}

export function unsealMessage<D extends DescMessage>(
  schema: D,
  sealed: Buffer,
  what: string,
): MessageShape<D> {
  return fromBinary(schema, unseal(sealed, what));
}

export function sealJson(value: unknown): Buffer {
  return seal(Buffer.from(JSON.stringify(value)));
}

export function unsealJson(sealed: Buffer, what: string): unknown {
  return JSON.parse(unseal(sealed, what).toString());
}

export function encodeSession(row: SessionRow): Buffer {
  return seal(writeSession(row));
}

/** @returns a row with nothing of `sealed` */
export function decodeSession(key: SessionKey, sealed: Buffer): SessionRow {
  return readSession(key, unseal(sealed, "sessions"));
}

export function encodeTurn(row: TurnRow): Buffer {
  const record = create(TurnRecordSchema, {
    turnId: row.turnId,
    scope: row.key.scope,
    externalId: row.key.externalId,
    provider: row.key.provider,
    recordNo: row.recordNo,
    sessionId: row.sessionId,
    generation: row.generation,
    state: row.state,
    payloadHash: row.payloadHash,
    credential: row.credential,
    grant: row.grant,
    clientChoseId: row.clientChoseId,
    cancelOnDisconnect: row.cancelOnDisconnect,
    createdAtMs: row.createdAtMs,
    startedAtMs: row.startedAtMs ?? 0,
    endedAtMs: row.endedAtMs ?? 0,
    queueDeadlineMs: row.queueDeadlineMs,
    fence: row.fence ?? 0,
    attempt: row.attempt,
    lastSequence: row.lastSequence,
    reservedThrough: row.reservedThrough,
    accepted: row.accepted,
    ending: row.ending ?? new Uint8Array(),
    usage: encodeUsage(row.usage),
    labels: { ...row.labels },
    chainLink: row.chainLink ?? new Uint8Array(),
    nativeId: row.nativeId ?? "",
    onConflict: row.onConflict,
    mergeKey: row.mergeKey,
    external: row.external,
    mergedIntoTurnNo: row.mergedInto?.turnNo ?? 0,
    mergedIntoTurnId: row.mergedInto?.turnId ?? "",
    eventBytes: row.eventBytes,
    evictedThrough: row.evictedThrough,
  });
  return sealMessage(TurnRecordSchema, record);
}

export function decodeTurn(turnNo: number, sealed: Buffer): TurnRow {
  const record: TurnRecord = unsealMessage(TurnRecordSchema, sealed, "turns");
  return {
    turnNo,
    turnId: record.turnId,
    key: { scope: record.scope, externalId: record.externalId, provider: record.provider },
    recordNo: record.recordNo,
    sessionId: record.sessionId,
    generation: record.generation,
    state: record.state as TurnState,
    payloadHash: record.payloadHash,
    credential: record.credential,
    grant: record.grant,
    clientChoseId: record.clientChoseId,
    cancelOnDisconnect: record.cancelOnDisconnect,
    createdAtMs: record.createdAtMs,
    ...optional("startedAtMs", record.startedAtMs),
    ...optional("endedAtMs", record.endedAtMs),
    queueDeadlineMs: record.queueDeadlineMs,
    ...optional("fence", record.fence),
    attempt: record.attempt,
    lastSequence: record.lastSequence,
    reservedThrough: record.reservedThrough,
    eventBytes: record.eventBytes,
    evictedThrough: record.evictedThrough,
    accepted: record.accepted,
    ...(record.ending.length === 0 ? {} : { ending: record.ending }),
    usage: decodeUsage(record.usage),
    labels: record.labels,
    ...optional("nativeId", record.nativeId),
    ...(record.chainLink.length === 0 ? {} : { chainLink: record.chainLink }),
    onConflict: record.onConflict as ConflictPolicy,
    mergeKey: record.mergeKey,
    external: record.external,
    ...(record.mergedIntoTurnNo === 0
      ? {}
      : { mergedInto: { turnNo: record.mergedIntoTurnNo, turnId: record.mergedIntoTurnId } }),
  };
}

export function encodeExchange(exchange: { readonly user: string; readonly assistant: string }): Buffer {
  return sealMessage(ExchangeRecordSchema, create(ExchangeRecordSchema, exchange));
}

export function decodeExchange(sealed: Buffer): { user: string; assistant: string } {
  const { user, assistant } = unsealMessage(ExchangeRecordSchema, sealed, "history");
  return { user, assistant };
}

export function encodeBatch(events: readonly Uint8Array[]): Buffer {
  return sealMessage(JournalBatchSchema, create(JournalBatchSchema, { events: [...events] }));
}

export function decodeBatch(sealed: Buffer): readonly Uint8Array[] {
  return unsealMessage(JournalBatchSchema, sealed, "events").events;
}

export function encodeUsage(usage: UsageTotal): UsageRecord {
  const { costUsd, ...tokens } = usage;
  return create(UsageRecordSchema, costUsd === undefined ? tokens : { ...tokens, costUsd });
}

export function decodeUsage(record: UsageRecord | undefined): UsageTotal {
  return {
    inputTokens: record?.inputTokens ?? 0,
    cacheReadTokens: record?.cacheReadTokens ?? 0,
    cacheWriteTokens: record?.cacheWriteTokens ?? 0,
    outputTokens: record?.outputTokens ?? 0,
    reasoningTokens: record?.reasoningTokens ?? 0,
    ...(record?.costUsd === undefined ? {} : { costUsd: record.costUsd }),
  };
}

/** The member, or none where the wire's default stands for absence. */
function optional<K extends string, V extends string | number>(name: K, value: V): { [P in K]?: V } {
  return value === "" || value === 0 ? {} : ({ [name]: value } as { [P in K]?: V });
}
