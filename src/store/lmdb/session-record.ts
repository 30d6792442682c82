/**
 * SessionRecord (proto/sessionbroker/storage/v1/records.proto), straight from a
 * row and into one, and the ChangeRecord of a change of it. It is read for each look-up and written for each
 * reservation, where making the message in between costs more than all the
 * rest. The bytes are those that protobuf itself writes.
 */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Sink } from "../../protobuf/sink.js";
import type { SessionKey } from "../../sessions/key.js";
import {
  type Alias,
  type AliasKind,
  type NativeState,
  noUsage,
  type ResetPolicy,
  type RotationReason,
  type SessionRow,
  type UsageTotal,
} from "../../sessions/session.js";

const aliasCodes: Record<AliasKind, string> = { platform: "p", response: "r", "former-native": "f" };
const aliasKinds: Record<string, AliasKind> = { p: "platform", r: "response", f: "former-native" };
/** In the order of SessionRecord.Native and SessionRecord.Archived. */
const nativeStates: readonly NativeState[] = ["unbound", "provisional", "bound", "lost"];
const archivedStates: readonly SessionRow["archived"][] = [undefined, "rotated", "pruned"];
/** In the order of UsageRecord. */
const tokenFields = [
  "inputTokens",
  "cacheReadTokens",
  "cacheWriteTokens",
  "outputTokens",
  "reasoningTokens",
] as const;

const sink = new Sink();

export function writeSession(row: SessionRow): Buffer {
  sink.reset();
  const { resetPolicy } = row;
  double(1, row.recordNo);
  text(2, row.sessionId);
  text(3, row.nativeId);
  uint32(4, nativeStates.indexOf(row.nativeState));
  uint32(5, row.generation);
  uint32(6, archivedStates.indexOf(row.archived));
  double(7, row.createdAtMs);
  double(8, row.startedAtMs);
  double(9, row.lastActivityMs);
  uint32(10, row.turnCount);
  usage(11, row.usage);
  double(13, resetPolicy?.idleMs ?? 0);
  uint32(14, resetPolicy?.daily === undefined ? 0 : resetPolicy.daily.hour + 1);
  text(15, resetPolicy?.daily?.timeZone);
  text(16, row.workspace);
  flag(17, row.pinned);
  text(18, row.previousSessionId);
  text(19, row.owedRotation);
  text(20, row.importedKey);
  for (const { id, kind } of row.aliases) {
    nested(21, () => {
      text(1, id);
      text(2, aliasCodes[kind]);
    });
  }
  for (const [name, value] of Object.entries(row.labels)) {
    // The entry of a map has both, even if they are empty.
    nested(22, () => {
      tag(1, WireType.LengthDelimited);
      sink.text(name);
      tag(2, WireType.LengthDelimited);
      sink.text(value);
    });
  }
  double(23, row.revision);
  flag(24, resetPolicy !== undefined);
  if (Object.keys(row.agentTotal).length > 0) usage(25, row.agentTotal);
  bytes(26, row.systemDigest);
  bytes(27, row.chainHead);
  flag(28, row.laneUsed === true);
  return sink.taken();
}

/** A ChangeRecord: that the session changed. */
export function writeChange({ key, recordNo, sessionId }: SessionRow, kind: string, atMs: number): Buffer {
  sink.reset();
  text(1, key.scope);
  text(2, key.externalId);
  text(3, key.provider);
  double(4, recordNo);
  text(5, sessionId);
  text(6, kind);
  double(7, atMs);
  return sink.taken();
}

function tag(field: number, wireType: number): void {
  sink.varint(field * 8 + wireType);
}

function double(field: number, value: number): void {
  if (Object.is(value, 0)) return;
  tag(field, WireType.Bit64);
  sink.double(value);
}

function uint32(field: number, value: number): void {
  if (value === 0) return;
  tag(field, WireType.Varint);
  sink.varint(value);
}

function flag(field: number, value: boolean): void {
  uint32(field, Number(value));
}

function text(field: number, value = ""): void {
  if (value === "") return;
  tag(field, WireType.LengthDelimited);
  sink.text(value);
}

function bytes(field: number, value?: Uint8Array): void {
  if (value === undefined || value.length === 0) return;
  tag(field, WireType.LengthDelimited);
  sink.varint(value.length);
  sink.bytes(value);
}

function nested(field: number, write: () => void): void {
  tag(field, WireType.LengthDelimited);
  const start = sink.begin();
  write();
  sink.end(start);
}

function usage(field: number, total: Partial<UsageTotal>): void {
  nested(field, () => {
    for (const [index, name] of tokenFields.entries()) double(index + 1, total[name] ?? 0);
    if (total.costUsd === undefined) return;
    tag(6, WireType.Bit64);
    sink.double(total.costUsd);
  });
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** @throws Error if the bytes are no SessionRecord */
export function readSession(key: SessionKey, record: Buffer): SessionRow {
  const reader = new BinaryReader(record, decodeText);
  const aliases: Alias[] = [];
  const labels: Record<string, string> = {};
  const policy = { isOwn: false, idleMs: 0, hourPlusOne: 0, timeZone: "" };
  const row: Mutable<SessionRow> = {
    recordNo: 0,
    key,
    sessionId: "",
    nativeState: "unbound",
    generation: 0,
    createdAtMs: 0,
    startedAtMs: 0,
    lastActivityMs: 0,
    turnCount: 0,
    usage: noUsage,
    agentTotal: {},
    workspace: "",
    pinned: false,
    aliases,
    labels,
    revision: 0,
  };
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    switch (tag >>> 3) {
      case 1:
        row.recordNo = reader.double();
        break;
      case 2:
        row.sessionId = reader.string();
        break;
      case 3:
        row.nativeId = reader.string();
        break;
      case 4:
        row.nativeState = nativeStates[reader.uint32()] ?? "unbound";
        break;
      case 5:
        row.generation = reader.uint32();
        break;
      case 6:
        archive(row, archivedStates[reader.uint32()]);
        break;
      case 7:
        row.createdAtMs = reader.double();
        break;
      case 8:
        row.startedAtMs = reader.double();
        break;
      case 9:
        row.lastActivityMs = reader.double();
        break;
      case 10:
        row.turnCount = reader.uint32();
        break;
      case 11:
        row.usage = readUsage(reader);
        break;
      case 13:
        policy.idleMs = reader.double();
        break;
      case 14:
        policy.hourPlusOne = reader.uint32();
        break;
      case 15:
        policy.timeZone = reader.string();
        break;
      case 16:
        row.workspace = reader.string();
        break;
      case 17:
        row.pinned = reader.bool();
        break;
      case 18:
        row.previousSessionId = reader.string();
        break;
      case 19:
        row.owedRotation = reader.string() as RotationReason;
        break;
      case 20:
        row.importedKey = reader.string();
        break;
      case 21:
        aliases.push(readAlias(reader));
        break;
      case 22:
        readLabel(reader, labels);
        break;
      case 23:
        row.revision = reader.double();
        break;
      case 24:
        policy.isOwn = reader.bool();
        break;
      case 25:
        row.agentTotal = readUsage(reader);
        break;
      case 26:
        row.systemDigest = Buffer.from(reader.bytes());
        break;
      case 27:
        row.chainHead = Buffer.from(reader.bytes());
        break;
      case 28:
        if (reader.bool()) row.laneUsed = true;
        break;
      default:
        reader.skip(tag & 7, tag >>> 3);
    }
  }
  if (policy.isOwn) row.resetPolicy = readPolicy(policy);
  return row;
}

/** What is read is a part of a Buffer. */
function decodeText(bytes: Uint8Array): string {
  return (bytes as Buffer).toString();
}

function archive(row: Mutable<SessionRow>, archived: SessionRow["archived"]): void {
  if (archived !== undefined) row.archived = archived;
}

function readUsage(reader: BinaryReader): UsageTotal {
  const end = reader.uint32() + reader.pos;
  // Most sessions have had no turn with any.
  if (reader.pos === end) return noUsage;
  const total: Mutable<UsageTotal> = { ...noUsage };
  while (reader.pos < end) {
    const tag = reader.uint32();
    const name = tokenFields[(tag >>> 3) - 1];
    if (name !== undefined) total[name] = reader.double();
    else if (tag >>> 3 === 6) total.costUsd = reader.double();
    else reader.skip(tag & 7, tag >>> 3);
  }
  return total;
}

function readAlias(reader: BinaryReader): Alias {
  const [id, kind] = readPair(reader);
  return { id, kind: aliasKinds[kind] ?? "platform" };
}

function readLabel(reader: BinaryReader, labels: Record<string, string>): void {
  const [name, value] = readPair(reader);
  // Any name may be given, "__proto__" as well.
  Object.defineProperty(labels, name, { value, enumerable: true, configurable: true, writable: true });
}

/** A message of two texts, as an alias is, and the entry of a map. */
function readPair(reader: BinaryReader): [first: string, second: string] {
  const end = reader.uint32() + reader.pos;
  const pair: [string, string] = ["", ""];
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) pair[0] = reader.string();
    else if (tag >>> 3 === 2) pair[1] = reader.string();
    else reader.skip(tag & 7, tag >>> 3);
  }
  return pair;
}

function readPolicy(policy: { idleMs: number; hourPlusOne: number; timeZone: string }): ResetPolicy {
  return {
    ...(policy.idleMs === 0 ? {} : { idleMs: policy.idleMs }),
    ...(policy.hourPlusOne === 0
      ? {}
      : { daily: { hour: policy.hourPlusOne - 1, timeZone: policy.timeZone } }),
  };
}
