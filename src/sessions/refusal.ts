/** Why a request on a session is refused: a value, so that decisions stay pure. */
export interface Refusal {
  readonly kind: "refused";
  readonly reason:
    | "STALE_GENERATION"
    | "STALE_FENCE"
    | "NATIVE_ID_MISMATCH"
    | "NATIVE_ID_IN_USE"
    | "WORKSPACE_MISMATCH"
    | "SESSION_BUSY"
    | "SESSION_NOT_FOUND"
    | "AMBIGUOUS_ID"
    | "ALIAS_TAKEN"
    | "ARCHIVED"
    | "IDEMPOTENCY_KEY_REUSED"
    | "REPLAY_OUTDATED"
    | "TURN_ID_REUSED"
    | "TURN_DELETED"
    | "UNSUPPORTED_BY_PROVIDER"
    | "MERGE_MISMATCH"
    | "CONVERSATION_MOVED_ON"
    | "SCOPE_FULL";
  readonly message: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

export function refuse(
  reason: Refusal["reason"],
  message: string,
  metadata?: Readonly<Record<string, string>>,
): Refusal {
  return { kind: "refused", reason, message, ...(metadata === undefined ? {} : { metadata }) };
}
