/** The plain data of the model: keys, sessions, turns, and what the broker may answer. */

export interface KeyShape {
  readonly scope: string;
  /** As a caller writes it. */
  readonly spelling: string;
  readonly storeKey: string;
  readonly requestKey: string;
  readonly agent: string;
  readonly provider: string;
}

export interface Policy {
  readonly idleMs?: number;
  /** UTC hour and minutes by which the zone is ahead of UTC. */
  readonly daily?: { readonly hour: number; readonly timeZone: string; readonly aheadMs: number };
}

export type State = "live" | "rotated" | "pruned";
export type Reason = "IDLE" | "DAILY" | "EXPLICIT_RESET" | "PRUNED" | "PURGED";

export interface Row {
  readonly key: KeyShape;
  sessionId: string;
  generation: number;
  state: State;
  /** Empty: unbound. */
  nativeId: string;
  native: "UNBOUND" | "PROVISIONAL" | "BOUND";
  platform: string[];
  former: string[];
  labels: Record<string, string>;
  /** Name of it; empty: the session's own. */
  workspace: string;
  policy?: Policy;
  startedAtMs: number;
  /** Latest activity, and how much of it is certainly written. */
  activeAtMs: number;
  writtenAtMs: number;
  turns: number;
  pinned: boolean;
  previous: string;
  /** Owed to the first turn. */
  owed?: Reason;
  imported: boolean;
  /** Order of the last change that was not activity alone. */
  changed: number;
}

export interface Turn {
  readonly turnId: string;
  readonly row: Row;
  /** Its caller runs the agent. */
  readonly external: boolean;
  /** What a retry has to send again. */
  readonly request: string;
  state: "waiting" | "running" | "ended";
  /** The events of a turn that has ended. */
  events?: unknown;
  fence: bigint;
  /** Monotonic time of the last renewal. */
  renewedAtMs: number;
  /** Wall time, and the monotonic time at which the broker will see it. */
  readonly deadlineMs: number;
  expiresAtMs: number;
}

/** The turns of a key that have not ended, in order; at most the first one runs. */
export type Lane = readonly Turn[];

export interface Refused {
  readonly kind: "refused";
  readonly reason: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** An answer that names a row; its session id is empty if the broker mints it. */
export interface Planned {
  readonly kind: "row";
  readonly outcome?: "CREATED" | "EXISTING" | "ROTATED" | "EXPLICIT";
  readonly reason?: Reason;
  readonly row: Row;
  /** The design only says that the row's generation does not fall. */
  readonly anyGeneration?: boolean;
  readonly commit: () => void;
}

export interface Ephemeral {
  readonly kind: "ephemeral";
}

/** The answer that was given before to the same idempotency key. */
export interface Replayed {
  readonly kind: "replayed";
  readonly answer: unknown;
}

export interface ReserveOptions {
  readonly sessionId?: string;
  readonly expectedGeneration?: number;
  readonly internal?: boolean;
  readonly aliases?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly policy?: Policy;
  readonly workspace?: string;
  /** The reservation of a turn, which is no use of the session until it runs. */
  readonly forTurn?: boolean;
}

export type Target =
  | { readonly kind: "key"; readonly key: KeyShape }
  | { readonly kind: "session-id"; readonly sessionId: string };

/** Which scopes a caller has. */
export type Sees = (scope: string) => boolean;

export type ChangeKind = "CREATED" | "UPDATED" | "ROTATED" | "ARCHIVED" | "DELETED";

/** What a watcher is told. */
export interface Change {
  readonly kind: ChangeKind;
  readonly key: KeyShape;
  readonly sessionId: string;
}

export function sameKey(a: KeyShape, b: KeyShape): boolean {
  return a.scope === b.scope && a.storeKey === b.storeKey && a.provider === b.provider;
}

export function keyText(key: KeyShape): string {
  return `${key.scope}\n${key.storeKey}\n${key.provider}`;
}

export function isRefused(answer: object): answer is Refused {
  return "kind" in answer && answer.kind === "refused";
}

export function refused(reason: string, metadata?: Readonly<Record<string, string>>): Refused {
  return { kind: "refused", reason, ...(metadata === undefined ? {} : { metadata }) };
}

export function staleGeneration(row: Row): Refused {
  return refused("STALE_GENERATION", { generation: String(row.generation) });
}
