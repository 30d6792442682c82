/**
 * The error table: every way in which the broker refuses a request, and what
 * that is in Connect and in HTTP. docs/errors.md is made from it.
 */
import { Code } from "@connectrpc/connect";

interface ErrorKind {
  readonly code: Code;
  /** HTTP status of the OpenAI-compatible adapters. */
  readonly http: number;
  /** `error.type` of the OpenAI-compatible adapters. */
  readonly openaiType: string;
  /** The same request may succeed later without a change. */
  readonly retryable: boolean;
  readonly when: string;
}

const invalid = {
  code: Code.InvalidArgument,
  http: 400,
  openaiType: "invalid_request_error",
  retryable: false,
} as const;
const precondition = {
  code: Code.FailedPrecondition,
  http: 400,
  openaiType: "invalid_request_error",
  retryable: false,
} as const;
const missing = { code: Code.NotFound, http: 404, openaiType: "not_found_error", retryable: false } as const;
const exhausted = {
  code: Code.ResourceExhausted,
  http: 429,
  openaiType: "rate_limit_error",
  retryable: true,
} as const;
const unavailable = {
  code: Code.Unavailable,
  http: 503,
  openaiType: "server_error",
  retryable: true,
} as const;

export const errorTable = {
  INVALID_FIELD: { ...invalid, when: "A field breaks its rule; the message names it." },
  MALFORMED_KEY: { ...invalid, when: "The external id breaks the key scheme of its scope." },
  UNKNOWN_PROVIDER: { ...invalid, when: "No provider of this name is configured." },
  UNKNOWN_WORKSPACE: { ...invalid, when: "No workspace of this name is configured for the scope." },
  UNKNOWN_MODEL: { ...invalid, when: "The provider has no model of this name." },
  UNAUTHENTICATED: {
    code: Code.Unauthenticated,
    http: 401,
    openaiType: "authentication_error",
    retryable: false,
    when: "No bearer token and no certificate, or one that no credential has.",
  },
  ROLE_TOO_LOW: {
    code: Code.PermissionDenied,
    http: 403,
    openaiType: "permission_error",
    retryable: false,
    when: "The credential's role does not include this method.",
  },
  FOREIGN_SCOPE: {
    code: Code.PermissionDenied,
    http: 403,
    openaiType: "permission_error",
    retryable: false,
    when: "The named scope is not one of the credential's.",
  },
  FORBIDDEN_HOST: {
    code: Code.PermissionDenied,
    http: 403,
    openaiType: "permission_error",
    retryable: false,
    when: "The Host or Origin header is not one this server accepts.",
  },
  SESSION_NOT_FOUND: { ...missing, when: "No session of yours has this key or id." },
  TURN_NOT_FOUND: { ...missing, when: "No turn of yours has this id." },
  AMBIGUOUS_ID: { ...precondition, when: "The id names several sessions; name one by its key." },
  PERMISSION_NOT_FOUND: {
    ...missing,
    when: "The turn has no permission request with this id, or it is void.",
  },
  PERMISSION_DECIDED: {
    ...precondition,
    when: "The permission request has been answered, or its time is over.",
  },
  PERMISSION_MISMATCH: { ...precondition, when: "The permission request is about another input." },
  ARCHIVED: { ...precondition, when: "The session is archived and takes no turns." },
  STALE_GENERATION: {
    ...precondition,
    when: "The session's generation is another one; the detail holds it.",
  },
  TURN_ENDED: {
    ...precondition,
    when: "The turn has ended: it is not granted again, and nothing is recorded of it.",
  },
  LANE_REVOKED: { ...precondition, when: "The lane was to be let go of, and the time for it is over." },
  LANE_LOST: { ...precondition, when: "The lane was not renewed in time and is another's now." },
  LANE_NOT_GRANTED: {
    ...precondition,
    when: "The turn was cancelled, or waited too long, before it had the lane; the detail holds its state.",
  },
  HOLDER_KEEPS_LANE: {
    ...precondition,
    when: "The turn in the session is run by its caller, who was asked to let go and did not.",
  },
  STALE_FENCE: { ...precondition, when: "The lane has been granted anew since; the detail holds its fence." },
  NATIVE_ID_MISMATCH: {
    ...precondition,
    when: "The session's native id is not the expected one; the detail holds it.",
  },
  NATIVE_ID_IN_USE: { ...precondition, when: "Another live session of the provider has this native id." },
  WORKSPACE_MISMATCH: { ...precondition, when: "The session already has another workspace." },
  UNSUPPORTED_BY_PROVIDER: { ...precondition, when: "The provider cannot do what the request asks for." },
  MERGE_MISMATCH: {
    ...precondition,
    when: "The running turn has another credential, model, system prompt or on_disconnect than the one to steer it with.",
  },
  SESSION_BUSY: {
    code: Code.Aborted,
    http: 409,
    openaiType: "conflict_error",
    retryable: true,
    when: "A turn runs or waits in the session; the detail holds its id.",
  },
  CONVERSATION_MOVED_ON: {
    code: Code.Aborted,
    http: 409,
    openaiType: "conflict_error",
    retryable: true,
    when: "Another turn took up the conversation that by_history or after_turn leads to, and again while a new one was made.",
  },
  LANE_TAKEN_OVER: {
    code: Code.Aborted,
    http: 409,
    openaiType: "conflict_error",
    retryable: false,
    when: "The same turn was asked for again by the same credential, and that stream has the lane.",
  },
  REPLAY_OUTDATED: {
    code: Code.Aborted,
    http: 409,
    openaiType: "conflict_error",
    retryable: false,
    when: "The idempotency key was used, and the session has another generation since.",
  },
  ALIAS_TAKEN: {
    code: Code.AlreadyExists,
    http: 409,
    openaiType: "conflict_error",
    retryable: false,
    when: "Another session of the scope and provider has this alias.",
  },
  BACKUP_EXISTS: {
    code: Code.AlreadyExists,
    http: 409,
    openaiType: "conflict_error",
    retryable: false,
    when: "A backup of this name is there, or was begun.",
  },
  TURN_ID_REUSED: {
    code: Code.AlreadyExists,
    http: 409,
    openaiType: "conflict_error",
    retryable: false,
    when: "A turn with this id and another payload exists.",
  },
  TURN_DELETED: {
    ...precondition,
    http: 410,
    when: "A turn with this id ran in the last week and was deleted with its session; it is not run again.",
  },
  IDEMPOTENCY_KEY_REUSED: {
    code: Code.AlreadyExists,
    http: 409,
    openaiType: "conflict_error",
    retryable: false,
    when: "The idempotency key was used with another request.",
  },
  TOO_MANY_READERS: { ...exhausted, when: "As many read the turn as may at once." },
  SCOPE_FULL: {
    ...exhausted,
    when: "The scope keeps as many sessions as it may, archived ones included; delete or prune some.",
  },
  QUEUE_FULL: { ...exhausted, when: "Too many turns wait, in the session or in all." },
  DISK_LOW: {
    ...exhausted,
    http: 503,
    openaiType: "server_error",
    when: "The disk is full, or has less room than the reserve.",
  },
  MESSAGE_TOO_LARGE: {
    ...exhausted,
    http: 413,
    openaiType: "invalid_request_error",
    retryable: false,
    when: "The request is larger than a message may be.",
  },
  EVENTS_EXPIRED: {
    code: Code.OutOfRange,
    http: 410,
    openaiType: "invalid_request_error",
    retryable: false,
    when: "Events after this sequence are no longer kept; the detail holds the oldest that is.",
  },
  REVISION_EXPIRED: {
    code: Code.OutOfRange,
    http: 410,
    openaiType: "invalid_request_error",
    retryable: false,
    when: "Changes since this revision are no longer kept; list the sessions and watch from now.",
  },
  CURSOR_AHEAD: {
    code: Code.OutOfRange,
    http: 400,
    openaiType: "invalid_request_error",
    retryable: false,
    when: "No such sequence was ever given out.",
  },
  DRAINING: { ...unavailable, when: "The broker is stopping." },
  STORE_BUSY: { ...unavailable, when: "The store cannot be written at the moment." },
  STORE_DAMAGED: {
    code: Code.DataLoss,
    http: 500,
    openaiType: "server_error",
    retryable: false,
    when: "A record of the store fails its checksum.",
  },
  INTERNAL: {
    code: Code.Internal,
    http: 500,
    openaiType: "server_error",
    retryable: false,
    when: "A defect of the broker; its log has the details.",
  },
} as const satisfies Record<string, ErrorKind>;

/** `reason` of the `google.rpc.ErrorInfo` that goes with an error. */
export type ErrorReason = keyof typeof errorTable;

/** A request that cannot be taken, or a failure with a place in the table. */
export class BrokerError extends Error {
  override readonly name = "BrokerError";

  constructor(
    readonly reason: ErrorReason,
    message: string,
    /** For programs: goes into `ErrorInfo.metadata`. */
    readonly metadata: Readonly<Record<string, string>> = {},
    /** When to try again; only where waiting helps. */
    readonly retryAfterMs?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
