/**
 * The databases of the store, their keys, and how the environment is opened.
 * Keys are arrays in lmdb's ordered encoding, each database with one shape.
 */
import type { RootDatabaseOptionsWithPath } from "lmdb";

/** Raised with every change of keys or records; opening a newer store refuses. */
export const schemaVersion = 3;

/** The data file of a directory of a store. */
export const dataFileName = "data.mdb";

export const databaseNames = {
  /** "owner" | "counters" | "schema" | "logged", … → JSON */
  meta: "meta",
  /** [scope, external id, provider] → SessionRecord: the row a key points to */
  sessions: "sessions",
  /** [scope, external id, provider, record no] → SessionRecord: rotated rows */
  archive: "archive",
  /** [scope, kind, id] and, if several have it, [scope, kind, id, external id, provider, record no]: see ids.ts */
  ids: "ids",
  /** [scope, provider, "l" live | "a" archived, -(last activity ms), external id, record no] → nothing */
  activity: "activity",
  /** [scope, provider] → ScopeRecord */
  scopes: "scopes",
  /** [scope, external id, provider] → TombstoneRecord */
  tombstones: "tombstones",
  /** [scope or credential, idempotency key] → ReplayRecord */
  replays: "replays",
  /** [expiry ms, scope or credential, idempotency key] → nothing */
  replayExpiry: "replay-expiry",
  /** revision → ChangeRecord */
  changes: "changes",
  /** turn no → TurnRecord */
  turns: "turns",
  /** [scope, turn id] → turn no */
  turnIds: "turn-ids",
  /** [record no, turn no] → nothing */
  sessionTurns: "session-turns",
  /** [scope, state, -(creation ms), -(turn no)] → nothing */
  turnOrder: "turn-order",
  /** [scope, external id, provider, turn no] → turn id and fence of a waiting or running turn */
  lanes: "lanes",
  /** [turn no, turn no of one whose text goes into it] → nothing */
  merges: "merges",
  /** turn no → DispatchRequest of a turn that has not ended, or whose text goes into one */
  requests: "requests",
  /** [turn no, first sequence] → JournalBatch */
  events: "events",
  /** [grant, end ms, turn no] → bytes of the events: turns that have ended and whose events are kept */
  keptEvents: "kept-events",
  /** grant → bytes of the events of all its turns that have ended */
  grantEvents: "grant-events",
  /** turn no → nothing: events that are gone for readers and are still to be deleted */
  evicting: "evicting",
  /** [record no, turn no] → ExchangeRecord */
  history: "history",
  /** record no → HistorySizeRecord */
  historySizes: "history-sizes",
  /** [scope, provider, link] → ChainRecord: which conversation a link leads to; never deleted */
  chains: "chains",
  /** [day since the epoch, scope, provider] → DayUsageRecord */
  usage: "usage",
  /** record no → nothing: what hangs on a deleted row and is still to be deleted */
  garbage: "garbage",
} as const;

/** Databases that stores of earlier versions do not have, with the version that has them first. */
export const addedIn: Readonly<Record<string, number>> = {
  [databaseNames.chains]: 2,
  [databaseNames.usage]: 2,
};

export type DatabaseName = keyof typeof databaseNames;

/** Sorts after every text and number in a key. */
export const afterAll = Buffer.from([255]);

const gib = 2 ** 30;

export function environmentOptions(path: string): RootDatabaseOptionsWithPath {
  return {
    path,
    noSubdir: false,
    maxDbs: 32,
    encoding: "binary",
    // A commit is visible to others only once it is on disk.
    overlappingSync: false,
    // One map for the life of the process: grown maps stay mapped beside the old ones.
    mapSize: 64 * gib,
    // Values are verified by our own checksum.
    compression: false,
    cache: false,
  };
}
