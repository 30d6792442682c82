/**
 * Rows as the contract's messages. What every answer holds is written out, which
 * costs a fraction of what `create` takes to find out the same.
 */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import {
  type Alias,
  AliasKind,
  NativeState,
  type ResetPolicy,
  ResetPolicySchema,
  RotationReason,
  type Session,
  SessionState,
} from "../../gen/sessionbroker/v1/session_pb.js";
import type { Usage } from "../../gen/sessionbroker/v1/usage_pb.js";
import type { KeyIdentity } from "../sessions/key-scheme.js";
import * as domain from "../sessions/session.js";
import type { SessionView } from "../sessions/session-store.js";

/** @param stuck whether a process of the session cannot be ended */
export function sessionMessage({ row, lane }: SessionView, identity: KeyIdentity, stuck = false): Session {
  return {
    $typeName: "sessionbroker.v1.Session",
    key: {
      $typeName: "sessionbroker.v1.SessionKey",
      scope: row.key.scope,
      externalId: row.key.externalId,
      provider: row.key.provider,
    },
    sessionId: row.sessionId,
    nativeId: row.nativeId ?? "",
    nativeState: nativeStates[row.nativeState],
    generation: row.generation,
    state: sessionState(row),
    aliases: row.aliases.map(aliasMessage),
    labels: { ...row.labels },
    createdAt: timestampMessage(row.createdAtMs),
    startedAt: timestampMessage(row.startedAtMs),
    lastActivityAt: timestampMessage(row.lastActivityMs),
    turnCount: row.turnCount,
    usage: row.usage === domain.noUsage ? noUsage : usageMessage(row.usage),
    resetPolicy: row.resetPolicy === undefined ? undefined : resetPolicyMessage(row.resetPolicy),
    workspace: row.workspace,
    pinned: row.pinned,
    previousSessionId: row.previousSessionId ?? "",
    requestKey: identity.requestKey,
    agent: identity.agent,
    runningTurnId: lane.runningTurnId ?? "",
    queuedTurns: lane.queuedTurns,
    stuck,
    importedKey: row.importedKey === row.key.externalId ? "" : (row.importedKey ?? ""),
  };
}

export function usageMessage(usage: domain.UsageTotal): Usage {
  return {
    $typeName: "sessionbroker.v1.Usage",
    inputTokens: BigInt(usage.inputTokens),
    cacheReadTokens: BigInt(usage.cacheReadTokens),
    cacheWriteTokens: BigInt(usage.cacheWriteTokens),
    outputTokens: BigInt(usage.outputTokens),
    reasoningTokens: BigInt(usage.reasoningTokens),
    ...(usage.costUsd === undefined ? {} : { costUsd: usage.costUsd }),
  };
}

/** Of most sessions. */
const noUsage = usageMessage(domain.noUsage);

function timestampMessage(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  return {
    $typeName: "google.protobuf.Timestamp",
    seconds: BigInt(seconds),
    nanos: Math.round((ms - seconds * 1000) * 1e6),
  };
}

export const rotationReasons: Record<domain.RotationReason, RotationReason> = {
  IDLE: RotationReason.IDLE,
  DAILY: RotationReason.DAILY,
  EXPLICIT_RESET: RotationReason.EXPLICIT_RESET,
  NATIVE_LOST: RotationReason.NATIVE_LOST,
  PRUNED: RotationReason.PRUNED,
  PURGED: RotationReason.PURGED,
};

const nativeStates: Record<domain.NativeState, NativeState> = {
  unbound: NativeState.UNBOUND,
  provisional: NativeState.PROVISIONAL,
  bound: NativeState.BOUND,
  lost: NativeState.LOST,
};

const aliasKinds: Record<domain.AliasKind, AliasKind> = {
  platform: AliasKind.PLATFORM,
  response: AliasKind.RESPONSE,
  "former-native": AliasKind.NATIVE,
};

export function sessionState(row: domain.SessionRow): SessionState {
  if (row.archived !== undefined) return SessionState.ARCHIVED;
  return row.turnCount > 0 ? SessionState.ACTIVE : SessionState.RESERVED;
}

function aliasMessage(alias: domain.Alias): Alias {
  return { $typeName: "sessionbroker.v1.Alias", id: alias.id, kind: aliasKinds[alias.kind] };
}

function resetPolicyMessage(policy: domain.ResetPolicy): ResetPolicy {
  return create(ResetPolicySchema, {
    ...(policy.idleMs === undefined ? {} : { idle: durationFromMs(policy.idleMs) }),
    ...(policy.daily === undefined
      ? {}
      : { daily: { hour: policy.daily.hour, timeZone: policy.daily.timeZone } }),
  });
}
