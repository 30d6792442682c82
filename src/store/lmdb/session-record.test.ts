/** The record as protobuf writes and reads it is the measure of ours. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, it } from "vitest";
import {
  ChangeRecordSchema,
  SessionRecord_Archived,
  SessionRecord_Native,
  SessionRecordSchema,
} from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { noUsage, type SessionRow } from "../../sessions/session.js";
import { readSession, writeChange, writeSession } from "./session-record.js";

const key = { scope: "acme/team", externalId: "chat-1", provider: "echo" };
const text = fc.string({ unit: "binary", maxLength: 200 });
const word = fc.string({ unit: "binary", minLength: 1, maxLength: 80 });
const amount = fc.oneof(fc.constant(0), fc.nat(), fc.double({ min: 0, noNaN: true }));
const small = fc.nat({ max: 2 ** 31 - 1 });
const usage = fc.record(
  {
    ...{ inputTokens: amount, cacheReadTokens: amount, cacheWriteTokens: amount },
    ...{ outputTokens: amount, reasoningTokens: amount, costUsd: amount },
  },
  { requiredKeys: ["inputTokens", "cacheReadTokens", "cacheWriteTokens", "outputTokens", "reasoningTokens"] },
);
const digest = fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => Buffer.from(bytes));
const daily = fc.record({ hour: fc.nat({ max: 23 }), timeZone: word });

const rows: fc.Arbitrary<SessionRow> = fc.record(
  {
    ...{ recordNo: amount, key: fc.constant(key), sessionId: text, nativeId: word },
    nativeState: fc.constantFrom("unbound", "provisional", "bound", "lost"),
    generation: small,
    archived: fc.constantFrom("rotated", "pruned"),
    ...{ createdAtMs: amount, startedAtMs: amount, lastActivityMs: amount, turnCount: small },
    usage,
    agentTotal: fc.oneof(fc.constant({}), usage),
    ...{ chainHead: digest, systemDigest: digest },
    resetPolicy: fc.record({ idleMs: fc.integer({ min: 1 }), daily }, { requiredKeys: [] }),
    ...{ workspace: text, pinned: fc.boolean(), previousSessionId: word },
    owedRotation: fc.constantFrom("IDLE", "DAILY", "EXPLICIT_RESET", "NATIVE_LOST", "PRUNED", "PURGED"),
    importedKey: word,
    aliases: fc.array(
      fc.record({ id: text, kind: fc.constantFrom("platform", "response", "former-native") }),
      { maxLength: 5 },
    ),
    labels: fc.dictionary(fc.oneof(text, fc.constantFrom("__proto__", "constructor", "")), text, {
      maxKeys: 4,
      noNullPrototype: true,
    }),
    laneUsed: fc.constant(true),
    revision: amount,
  },
  {
    requiredKeys: [
      ...(["recordNo", "key", "sessionId", "nativeState", "generation", "createdAtMs"] as const),
      ...(["startedAtMs", "lastActivityMs", "turnCount", "usage", "agentTotal", "workspace"] as const),
      ...(["pinned", "aliases", "labels", "revision"] as const),
    ],
  },
) as fc.Arbitrary<SessionRow>;

const natives = {
  unbound: SessionRecord_Native.UNSPECIFIED,
  provisional: SessionRecord_Native.PROVISIONAL,
  bound: SessionRecord_Native.BOUND,
  lost: SessionRecord_Native.LOST,
};
const archives = { rotated: SessionRecord_Archived.ROTATED, pruned: SessionRecord_Archived.PRUNED };
const kinds = { platform: "p", response: "r", "former-native": "f" };

it("writes a change as protobuf does", () => {
  const name = fc.string({ unit: "binary", maxLength: 60 });
  const keys = fc.record({ scope: name, externalId: name, provider: name });
  fc.assert(
    fc.property(rows, keys, fc.constantFrom("CREATED", "DELETED"), amount, (row, changed, kind, atMs) => {
      const { recordNo, sessionId } = row;
      const record = create(ChangeRecordSchema, { ...changed, recordNo, sessionId, kind, atMs });
      const written = writeChange({ ...row, key: changed }, kind, atMs);
      expect(Buffer.from(written)).toEqual(Buffer.from(toBinary(ChangeRecordSchema, record)));
    }),
  );
});

function recordOf(row: SessionRow) {
  const { resetPolicy, key: _key, nativeState, agentTotal, importedKey = "", ...same } = row;
  return create(SessionRecordSchema, {
    ...same,
    importedKey,
    native: natives[nativeState],
    archived: row.archived === undefined ? SessionRecord_Archived.UNSPECIFIED : archives[row.archived],
    ...(Object.keys(agentTotal).length === 0 ? {} : { agentTotal: { ...noUsage, ...agentTotal } }),
    hasResetPolicy: resetPolicy !== undefined,
    idleMs: resetPolicy?.idleMs ?? 0,
    dailyHourPlusOne: resetPolicy?.daily === undefined ? 0 : resetPolicy.daily.hour + 1,
    dailyTimeZone: resetPolicy?.daily?.timeZone ?? "",
    aliases: row.aliases.map(({ id, kind }) => ({ id, kind: kinds[kind] })),
    labels: { ...row.labels },
  });
}

it("writes the bytes that protobuf writes, and reads every row back", () => {
  fc.assert(
    fc.property(rows, (row) => {
      const bytes = writeSession(row);
      expect(Buffer.from(bytes)).toEqual(Buffer.from(toBinary(SessionRecordSchema, recordOf(row))));
      expect(readSession(key, Buffer.from(bytes))).toEqual(row);
    }),
    { numRuns: 500 },
  );
});

it("passes over what a later version may have added", () => {
  const bytes = Buffer.concat([
    toBinary(SessionRecordSchema, create(SessionRecordSchema, { sessionId: "s", turnCount: 3 })),
    // Field 12, a varint; field 100, bytes; field 101, eight bytes.
    Buffer.from([12 << 3, 5]),
    Buffer.from([0xa2, 0x06, 3, 1, 2, 3]),
    Buffer.from([0xa9, 0x06, 0, 0, 0, 0, 0, 0, 0, 0]),
    toBinary(SessionRecordSchema, create(SessionRecordSchema, { workspace: "w" })),
  ]);
  expect(readSession(key, bytes)).toMatchObject({ sessionId: "s", turnCount: 3, workspace: "w" });
  expect(fromBinary(SessionRecordSchema, bytes)).toMatchObject({ sessionId: "s", workspace: "w" });
});

it("keeps nothing of the bytes that it was read from, which lmdb uses again", () => {
  fc.assert(
    fc.property(rows, (row) => {
      const bytes = Buffer.from(writeSession(row));
      const read = readSession(key, bytes);
      bytes.fill(0xff);
      expect(read).toEqual(row);
    }),
  );
});

it("fails on a record that ends too early", () => {
  const bytes = Buffer.from(writeSession({ ...firstRow, sessionId: "0123456789" }));
  for (const cut of [3, 8, 12]) expect(() => readSession(key, bytes.subarray(0, cut))).toThrow();
});

const firstRow: SessionRow = {
  ...{ recordNo: 1, key, sessionId: "s", nativeState: "unbound", generation: 1, createdAtMs: 1 },
  ...{ startedAtMs: 1, lastActivityMs: 1, turnCount: 0, usage: noUsage, agentTotal: {}, workspace: "" },
  ...{ pinned: false, aliases: [], labels: {}, revision: 1 },
};
