/**
 * What sessions need of a store. Each write decides about one key inside one
 * transaction, with the functions of this folder, and is on disk when its
 * promise resolves. A refusal is a value; a promise is rejected only when the
 * store itself fails.
 */
import type { Binding } from "./binding.js";
import type { SessionKey } from "./key.js";
import type { Refusal } from "./refusal.js";
import type { Reservation } from "./reservation.js";
import type { ResetPolicy, RotationReason, SessionRow } from "./session.js";

/** `*` (all), `acme/*` (all below acme), or a scope. */
export type ScopePattern = string;

export function scopeMatches(pattern: ScopePattern, scope: string): boolean {
  if (pattern === "*") return true;
  if (pattern.endsWith("/*")) return scope.startsWith(pattern.slice(0, -1));
  return pattern === scope;
}

export type IdKind = "session-id" | "native-id" | "alias" | "short-id";

export interface IdQuery {
  readonly kind: IdKind;
  readonly id: string;
}

/** Where to look. Empty patterns: nowhere. */
export interface Where {
  readonly scopes: readonly ScopePattern[];
  readonly provider?: string | undefined;
}

export interface LaneState {
  readonly runningTurnId?: string;
  readonly fence?: number;
  readonly queuedTurns: number;
}

/** A row beside the state of its lane. */
export interface SessionView {
  readonly row: SessionRow;
  readonly lane: LaneState;
}

/** A session named by its key, or by a session id within some scopes. */
export type SessionSelector =
  | { readonly kind: "key"; readonly key: SessionKey }
  | { readonly kind: "session-id"; readonly sessionId: string; readonly where: Where };

export type Reserved =
  | {
      readonly kind: "reserved";
      readonly outcome: "CREATED" | "EXISTING" | "ROTATED" | "EXPLICIT";
      readonly reason?: RotationReason | undefined;
      /** EXPLICIT took the place of another session: `newSessionId` of the call that did it. */
      readonly replacedBy?: string;
      readonly view: SessionView;
    }
  | { readonly kind: "ephemeral"; readonly sessionId: string }
  | Refusal;

export type ReservationOutcome = Extract<Reserved, { kind: "reserved" }>["outcome"] | "EPHEMERAL";

export interface IdempotencyKey {
  /** Whose key it is: two owners may use the same one. */
  readonly owner: string;
  readonly key: string;
  /** Digest of the request. */
  readonly requestHash: Uint8Array;
}

export interface ReserveCall {
  readonly reservation: Reservation;
  readonly pendingActivityMs?: number | undefined;
  readonly idempotency?: IdempotencyKey | undefined;
  readonly clockBelieved: boolean;
  readonly nowMs: number;
  readonly newSessionId: string;
  /** Most sessions of the scope, archived ones included. Default: any number. */
  readonly sessionsPerScope?: number;
}

export interface ListFilter extends Where {
  readonly archived: boolean;
  readonly live: boolean;
  /** Only rows whose last activity is before this. */
  readonly idleSinceMs?: number;
  /** Default: latest activity first. */
  readonly oldestFirst?: boolean;
}

/** Where a row stands in the order of activity. */
export interface Place {
  readonly lastActivityMs: number;
  readonly key: SessionKey;
  readonly archived: boolean;
  readonly recordNo: number;
}

export function placeOf(row: SessionRow): Place {
  const { lastActivityMs, key, recordNo, archived } = row;
  return { lastActivityMs, key, recordNo, archived: archived !== undefined };
}

/** What the calls about an existing session have in common. */
export interface SessionCall {
  readonly selector: SessionSelector;
  readonly expectedGeneration?: number;
  readonly idempotency?: IdempotencyKey;
  readonly nowMs: number;
}

export interface Reset {
  readonly kind: "reset";
  readonly view: SessionView;
  readonly previousSessionId: string;
}

export interface Removed {
  readonly kind: "removed";
  /** As it was. */
  readonly row: SessionRow;
  readonly turns: number;
}

export interface PruneCall extends Where {
  readonly olderThanMs?: number;
  readonly maxSessions?: number;
  /** Which rows to look at. */
  readonly live: boolean;
  readonly archived: boolean;
  /** Of the live ones only those that had a turn, or only those that had none. */
  readonly hasTurns?: boolean;
  readonly purge: boolean;
  readonly dryRun: boolean;
  readonly limit?: number;
  readonly nowMs: number;
}

export interface PruneRow {
  readonly row: SessionRow;
  readonly reason: "IDLE" | "OVER_CAP";
}

export interface PruneSkip {
  readonly row: SessionRow;
  readonly reason: "RUNNING" | "QUEUED" | "PINNED";
}

export interface PruneReport {
  readonly archived: number;
  readonly purged: number;
  readonly rows: readonly PruneRow[];
  readonly skipped: readonly PruneSkip[];
  readonly skippedTotal: number;
  readonly more: boolean;
}

export interface Activity {
  readonly key: SessionKey;
  readonly atMs: number;
}

export type ChangeKind = "CREATED" | "UPDATED" | "ROTATED" | "ARCHIVED" | "DELETED";

/** That a session changed; activity alone is no change. */
export interface Change {
  /** Store-wide, growing. */
  readonly revision: number;
  readonly kind: ChangeKind;
  readonly key: SessionKey;
  readonly sessionId: string;
  /** As it is now, which may be later than the change; absent once deleted. */
  readonly view?: SessionView;
}

/** A session from somewhere else. */
export interface ImportRow {
  readonly key: SessionKey;
  /** The spelling of the external id in the source, if another. */
  readonly importedKey?: string;
  readonly sessionId: string;
  readonly nativeId?: string;
  readonly aliases: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly workspace: string;
  readonly resetPolicy?: ResetPolicy;
  /** Not in the future. */
  readonly createdAtMs: number;
  readonly startedAtMs: number;
  readonly lastActivityMs: number;
}

export interface ImportResult {
  readonly result: "CREATED" | "KEPT" | "CONFLICTING";
  /** Why it was not taken, or not whole. */
  readonly message: string;
}

export interface SessionStore {
  byKey(key: SessionKey): Promise<SessionView | undefined>;
  /** Every row that owns the id, verified, at most `limit`. */
  byId(query: IdQuery, where: Where, limit: number): Promise<readonly SessionView[]>;
  list(filter: ListFilter, after: Place | undefined, limit: number): Promise<readonly SessionView[]>;
  reserve(call: ReserveCall): Promise<Reserved>;
  bind(
    call: SessionCall & { readonly binding: Binding; readonly callerScopes: readonly ScopePattern[] },
  ): Promise<SessionView | Refusal>;
  /** Gives the key a new session; the old one stays, found by its ids. */
  reset(
    call: SessionCall & { readonly newSessionId: string; readonly sessionsPerScope?: number },
  ): Promise<Reset | Refusal>;
  pin(call: SessionCall & { readonly pinned: boolean }): Promise<SessionView | Refusal>;
  /** Deletes the row with all that hangs on it. */
  remove(call: SessionCall): Promise<Removed | Refusal>;
  /** @param writeActivity called before each step, so that what was used until then counts in it */
  prune(call: PruneCall, writeActivity: () => Promise<void>): Promise<PruneReport>;
  /** Takes rows of another store, or of this one, under the rules of Reserve and Bind. */
  importRows(call: {
    readonly rows: readonly ImportRow[];
    readonly callerScopes: readonly ScopePattern[];
    readonly sessionsPerScope?: number;
  }): Promise<readonly ImportResult[]>;
  /** The revision of the latest change. */
  revision(): Promise<number>;
  /** Changes after a revision, in order; `gone` if some of them are no longer kept. */
  changes(after: number, limit: number): Promise<readonly Change[] | "gone">;
  /** Resolves at the next write, or when the signal aborts. */
  written(signal: AbortSignal): Promise<void>;
  /** Deletes what is no longer to be kept: answers to idempotency keys, and old changes. */
  expire(nowMs: number): Promise<void>;
  /** Moves last activity forward, written behind the answers. */
  touch(activities: readonly Activity[]): Promise<void>;
}
