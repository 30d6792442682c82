import type { SessionKey } from "./key.js";

/** When a session is too old to go on with. Neither member: never. */
export interface ResetPolicy {
  readonly idleMs?: number;
  readonly daily?: DailyReset;
}

export interface DailyReset {
  /** 0 to 23, local time. */
  readonly hour: number;
  /** IANA name. */
  readonly timeZone: string;
}

export type RotationReason = "IDLE" | "DAILY" | "EXPLICIT_RESET" | "NATIVE_LOST" | "PRUNED" | "PURGED";

/** `platform` is a caller's; the others are written by the broker alone. */
export type AliasKind = "platform" | "response" | "former-native";

export interface Alias {
  readonly id: string;
  readonly kind: AliasKind;
}

export interface UsageTotal {
  readonly inputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  readonly outputTokens: number;
  readonly reasoningTokens: number;
  readonly costUsd?: number;
}

/**
 * What is known of the agent's own conversation.
 *
 *     unbound → provisional → bound → lost → bound
 *
 * `provisional`: an id was given to the agent and no turn with it has succeeded.
 * `lost`: the agent no longer knew the id; every turn is given the kept history
 * until one succeeds.
 */
export type NativeState = "unbound" | "provisional" | "bound" | "lost";

/** One session. A key points to at most one; older ones are archived beside it. */
export interface SessionRow {
  /** Names the row for as long as it lives, unique in the store. */
  readonly recordNo: number;
  readonly key: SessionKey;
  readonly sessionId: string;
  readonly nativeId?: string;
  readonly nativeState: NativeState;
  /** 1 when the key was created, one more each time its session id changes. */
  readonly generation: number;
  /** Absent: live. `rotated`: replaced. `pruned`: out of sight until the key is asked for again. */
  readonly archived?: "rotated" | "pruned";
  readonly createdAtMs: number;
  /** When this generation began. */
  readonly startedAtMs: number;
  readonly lastActivityMs: number;
  readonly turnCount: number;
  readonly usage: UsageTotal;
  /** What the agent itself last reported as the sum over its conversation. */
  readonly agentTotal: Partial<UsageTotal>;
  /** The link after its last answer, of a session that is found by what was said (src/turns/chain.ts). */
  readonly chainHead?: Uint8Array;
  /** SHA-256 of the system prompt that the agent was told last. */
  readonly systemDigest?: Uint8Array;
  /** Absent: that of the scope. */
  readonly resetPolicy?: ResetPolicy | undefined;
  /** Name of a configured workspace; empty: a directory of the session's own. */
  readonly workspace: string;
  readonly pinned: boolean;
  readonly previousSessionId?: string;
  /** Why this generation replaced another: said until its first turn is admitted. */
  readonly owedRotation?: RotationReason;
  readonly importedKey?: string | undefined;
  readonly aliases: readonly Alias[];
  readonly labels: Readonly<Record<string, string>>;
  /** Turns run or wait in the lane of its key, or did when it was last written. Default: none does. */
  readonly laneUsed?: true;
  /** Store-wide count of changes at this row's last change. */
  readonly revision: number;
}

export const noUsage: UsageTotal = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
};

export function addUsage(sum: UsageTotal, more: UsageTotal): UsageTotal {
  const cost =
    sum.costUsd === undefined && more.costUsd === undefined
      ? {}
      : { costUsd: (sum.costUsd ?? 0) + (more.costUsd ?? 0) };
  return {
    inputTokens: sum.inputTokens + more.inputTokens,
    cacheReadTokens: sum.cacheReadTokens + more.cacheReadTokens,
    cacheWriteTokens: sum.cacheWriteTokens + more.cacheWriteTokens,
    outputTokens: sum.outputTokens + more.outputTokens,
    reasoningTokens: sum.reasoningTokens + more.reasoningTokens,
    ...cost,
  };
}
