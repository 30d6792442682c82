/**
 * What turns need of a store. Every write is one transaction, on disk when its
 * promise resolves; one that names a turn carries its fence and changes nothing
 * once the fence is stale or the turn has ended.
 */
import type { KeyIdentity } from "../sessions/key-scheme.js";
import type { Refusal } from "../sessions/refusal.js";
import type { NativeState, RotationReason, SessionRow, UsageTotal } from "../sessions/session.js";
import type { ReserveCall, ScopePattern, SessionView, Where } from "../sessions/session-store.js";
import type { ChainEnd } from "./chain.js";
import type { KeptHistory } from "./history.js";
import type { Exchange } from "./provider.js";
import type { RetentionSettings } from "./retention.js";
import type { ConflictPolicy, TurnEnding, TurnRow, TurnState } from "./turn.js";
import type { UsageCall, UsagePage } from "./usage.js";

export interface AdmitCall {
  readonly reserve: ReserveCall;
  /** Identity of the reservation's key, for the Accepted event. */
  readonly identity: KeyIdentity;
  /** Only a live session with this id will do; nothing is created. */
  readonly onlySessionId?: string;
  /** Only in this turn's session, while nothing was said in it since. */
  readonly after?: AfterTurn;
  /** The key is new: its session is given what was said up to this turn. */
  readonly forkOf?: AfterTurn;
  readonly turnId: string;
  readonly clientChoseId: boolean;
  readonly payloadHash: Uint8Array;
  readonly credential: string;
  readonly grant: string;
  readonly cancelOnDisconnect: boolean;
  readonly onConflict: ConflictPolicy;
  readonly mergeKey: string;
  /** The agent takes text while it answers. */
  readonly canSteer: boolean;
  /** The caller runs the agent itself. */
  readonly external: boolean;
  readonly queueDeadlineMs: number;
  readonly maxWaitingInSession: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Encoded DispatchRequest, kept until the turn ends. */
  readonly request: Uint8Array;
  /** Names the session from now on. */
  readonly responseId?: string;
  /** Of a turn whose session is found by what was said; with an anchor, only in an idle session at it. */
  readonly chain?: ChainEnd;
  /** Of a turn whose client names its chat and sends the whole of it: what it tells as the last answer. */
  readonly replayed?: ChainEnd & { readonly told?: string };
  /** Gives the turn the lane with its admission, if no other turn runs or waits in it. */
  readonly grantIfFree?: Omit<GrantCall, "turnNo">;
}

/** A turn by its place in the store. */
export type AfterTurn = Pick<TurnRow, "turnNo" | "recordNo">;

export type Admission =
  | {
      readonly kind: "admitted";
      readonly turn: TurnRow;
      readonly outcome: "CREATED" | "EXISTING" | "ROTATED" | "EXPLICIT" | "EPHEMERAL";
      readonly reason?: RotationReason;
      /** It has the lane. */
      readonly grant?: Grant;
    }
  /** The turn id is known, with the same payload. */
  | { readonly kind: "repeated"; readonly turn: TurnRow }
  /** The text goes into a turn that waits or runs. */
  | { readonly kind: "merged"; readonly turn: TurnRow; readonly into: TurnRow }
  | { readonly kind: "queue-full"; readonly waiting: number }
  | Refusal;

export interface GrantCall {
  readonly turnNo: number;
  readonly nowMs: number;
  /** Bound provisionally if the session has no native id, or lost it. */
  readonly newNativeId?: string;
  readonly reserveThrough: number;
}

export interface Grant {
  readonly turn: TurnRow;
  readonly session: SessionRow;
  /** State of the native id before this grant. */
  readonly nativeStateBefore: NativeState;
  /** The session's turn before this one was lost with the caller that ran it. */
  readonly previousHolderLost: boolean;
  /** When the backup was taken that the store was restored from, in the session's first turn since. */
  readonly restoredFromMs?: number;
}

/** An event that is given a place on disk. */
export interface JournalEntry {
  readonly sequence: number;
  readonly event: Uint8Array;
}

export interface TurnEndCall {
  readonly turnNo: number;
  /** Absent for a turn that never had the lane. */
  readonly fence?: number;
  readonly state: TurnEnding;
  /** Events not journaled before, and last the terminal one. */
  readonly entries: readonly JournalEntry[];
  readonly endedAtMs: number;
  readonly usage: UsageTotal;
  /** What the agent reported as the sum over its conversation. */
  readonly agentTotal?: Partial<UsageTotal>;
  /** The link after the answer, which leads to the session from now on. */
  readonly chainHead?: Uint8Array;
  /** Of the system prompt that the agent has been told now. */
  readonly systemDigest?: Uint8Array;
  /** What the agent's conversation is now. */
  readonly native?: { readonly id: string; readonly state: NativeState };
  /** Kept as the session's history, which loses its oldest exchanges over 1 MiB. */
  readonly exchange?: Exchange;
  /**
   * Turns whose text the agent took while it ran; others that were to steer it
   * wait on their own. Absent: nobody knows.
   */
  readonly taken?: readonly number[];
}

/** Where a turn stands in the order of turns. */
export interface TurnPlace {
  readonly createdAtMs: number;
  readonly turnNo: number;
}

export interface TurnListCall {
  /** Only turns of these scopes. */
  readonly scopes: readonly ScopePattern[];
  /** Only turns of this session row. */
  readonly recordNo?: number;
  readonly states: readonly TurnState[];
  /** Created then or later. */
  readonly sinceMs?: number;
  /** Created before then. */
  readonly untilMs?: number;
  /** Where the page before ended. */
  readonly after?: TurnPlace;
  readonly limit: number;
}

/** Turns, newest first, and where to go on; the work of one page is bounded, so it may be short. */
export interface TurnPage {
  readonly turns: readonly TurnRow[];
  readonly next?: TurnPlace;
}

export interface EvictCall extends RetentionSettings {
  readonly nowMs: number;
  /** Turns that have readers at the moment. */
  readonly reading: () => readonly number[];
  /** Aborted: what is left goes at the next call. */
  readonly stopping: AbortSignal;
}

export interface Linked {
  readonly row: SessionRow;
  /** It is idle, and nothing was answered in it since. */
  readonly isNewest: boolean;
}

export interface TurnStore {
  /** By turn id, within some scopes. */
  byTurnId(turnId: string, where: Where): Promise<TurnRow | undefined>;
  byTurnNo(turnNo: number): Promise<TurnRow | undefined>;
  session(turn: TurnRow): Promise<SessionView | undefined>;
  /** What the turn was asked with, and after it the turns whose text it collected. */
  requests(turnNo: number): Promise<readonly Uint8Array[]>;
  /**
   * Journaled events between Accepted and the ending, after a sequence from 1
   * on, in order and without a gap: about as many as `limit`, fewer if they are
   * large, none if there are none. `gone` if the next one has been deleted.
   */
  events(turnNo: number, afterSequence: number, limit: number): Promise<readonly JournalEntry[] | "gone">;
  /** Turns that wait or run, in order of admission. */
  active(): Promise<readonly TurnRow[]>;
  /** Newest exchanges of a session up to a budget in bytes. */
  history(recordNo: number, maxBytes: number): Promise<KeptHistory>;
  /** What the turn was asked and answered, if it completed and that is still kept. */
  exchange(turn: Pick<TurnRow, "recordNo" | "turnNo">): Promise<Exchange | undefined>;
  /** The session's newest answer that is kept. */
  lastAnswer(recordNo: number): Promise<string | undefined>;
  /** The live session of this scope and provider that was given the link; undefined if none or several were. */
  followLink(
    place: Pick<SessionRow["key"], "scope" | "provider">,
    link: Uint8Array,
  ): Promise<Linked | undefined>;
  /** Turns of a session, newest first. */
  newestTurns(recordNo: number, limit: number): Promise<readonly TurnRow[]>;

  admit(call: AdmitCall): Promise<Admission>;
  /** Lets a merged turn wait on its own, since the other took no more text. Undefined if it has ended. */
  unmerge(call: { readonly turnNo: number; readonly request: Uint8Array }): Promise<TurnRow | undefined>;
  /** Takes a merged turn's text back; false if the other no longer waits. */
  cancelMerged(call: TurnEndCall): Promise<boolean>;
  /** Gives a waiting turn the lane. Undefined if it has ended meanwhile. */
  grant(call: GrantCall): Promise<Grant | undefined>;
  /** Gives the lane of a running external turn to its caller anew. Undefined if it has ended. */
  regrant(call: { readonly turnNo: number; readonly nowMs: number }): Promise<Grant | undefined>;
  /** Starts another attempt after the agent lost its conversation. False if the fence is stale. */
  retry(call: {
    readonly turnNo: number;
    readonly fence: number;
    readonly attempt: number;
    readonly newNativeId?: string;
  }): Promise<boolean>;
  /** Binds an id that the agent assigned, before its first event is sent. */
  bindNative(call: {
    readonly turnNo: number;
    readonly fence: number;
    readonly nativeId: string;
  }): Promise<boolean>;
  append(call: {
    readonly turnNo: number;
    readonly fence: number;
    readonly entries: readonly JournalEntry[];
    readonly reserveThrough: number;
  }): Promise<boolean>;
  /** False if the turn has ended before, or the fence is stale. */
  end(call: TurnEndCall): Promise<boolean>;
}

/** What is kept of turns, over all sessions. */
export interface TurnArchive {
  listTurns(call: TurnListCall): Promise<TurnPage>;
  /** What turns took, by day, scope and provider, whether they are kept or not. */
  listUsage(call: UsageCall): Promise<UsagePage>;
  /** Deletes events of ended turns that are no longer to be kept, in steps. */
  evictEvents(call: EvictCall): Promise<void>;
}
