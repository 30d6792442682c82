/**
 * One turn as the store keeps it.
 *
 *     QUEUED ──grant──▶ RUNNING ──▶ COMPLETED | FAILED | CANCELLED | INTERRUPTED
 *        └───────────────────────▶ FAILED (waited too long) | CANCELLED
 *     MERGED (its text goes into another turn) ──▶ CANCELLED, while the other waits
 *        └──the other took no more text──▶ QUEUED
 *
 * An ending is a compare-and-set: the first one to be committed stays. A turn
 * that was RUNNING when the broker died ends INTERRUPTED; it is never run again,
 * because nobody knows what the agent did.
 */
import type { SessionKey } from "../sessions/key.js";
import type { UsageTotal } from "../sessions/session.js";

const turnEndings = ["COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED"] as const;

export type TurnEnding = (typeof turnEndings)[number];

export const turnStates = ["QUEUED", "RUNNING", ...turnEndings, "MERGED"] as const;

export type TurnState = (typeof turnStates)[number];

export function hasEnded(state: TurnState): state is TurnEnding {
  return state !== "QUEUED" && state !== "RUNNING" && state !== "MERGED";
}

/** What a turn does that finds its session busy. */
export type ConflictPolicy = "ENQUEUE" | "REJECT" | "INTERRUPT" | "STEER" | "COLLECT";

/** The oldest sequence that a reader can begin with. Eviction leaves the ending alone. */
export function firstSequenceOf(turn: Pick<TurnRow, "evictedThrough" | "lastSequence">): number {
  return turn.evictedThrough === 0 ? 1 : turn.lastSequence;
}

export interface TurnRow {
  /** Store-wide, in order of admission. Negative: in memory alone, see internal-turns.ts. */
  readonly turnNo: number;
  readonly turnId: string;
  readonly key: SessionKey;
  /** The session row, which outlives a change of its key. */
  readonly recordNo: number;
  readonly sessionId: string;
  readonly generation: number;
  readonly state: TurnState;
  /** Digest of what makes a repeat the same. */
  readonly payloadHash: Uint8Array;
  readonly credential: string;
  /** Base scope of the credential, the unit of fairness. */
  readonly grant: string;
  /** False if the broker minted the id: then nobody can ask for the turn again. */
  readonly clientChoseId: boolean;
  readonly cancelOnDisconnect: boolean;
  readonly onConflict: ConflictPolicy;
  /** What turns have in common that may be merged: credential, model, system prompt and on_disconnect. */
  readonly mergeKey: string;
  /** Its caller runs the agent itself. */
  readonly external: boolean;
  /** The turn that took this one's text, if its state is MERGED. */
  readonly mergedInto?: { readonly turnNo: number; readonly turnId: string };
  readonly createdAtMs: number;
  readonly startedAtMs?: number;
  readonly endedAtMs?: number;
  readonly queueDeadlineMs: number;
  readonly fence?: number;
  readonly attempt: number;
  /** The last sequence on disk. */
  readonly lastSequence: number;
  /** Sequences up to this one may have been seen by a reader. */
  readonly reservedThrough: number;
  /** What its journal takes on disk. */
  readonly eventBytes: number;
  /** Events from 2 to this sequence have been evicted; 0: none. */
  readonly evictedThrough: number;
  /** Encoded TurnEvent with sequence 1. */
  readonly accepted: Uint8Array;
  /** Encoded terminal TurnEvent. */
  readonly ending?: Uint8Array;
  readonly usage: UsageTotal;
  readonly labels: Readonly<Record<string, string>>;
  readonly nativeId?: string;
  /** The link after its input, of a turn whose session is found by what was said. */
  readonly chainLink?: Uint8Array;
}
