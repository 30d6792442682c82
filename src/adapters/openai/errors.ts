/** What goes wrong, as OpenAI clients are told it. The status tables are data, so that the docs can show them. */
import type { ServerResponse } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import {
  type Cancelled,
  Cancelled_Reason as CancelReason,
  type TurnError,
  TurnErrorCode,
  type TurnEvent,
} from "../../../gen/sessionbroker/v1/turn_pb.js";
import { type ErrorReason, errorTable } from "../../errors.js";
import { sendJson } from "./json.js";
import { durationMs } from "./time.js";

export interface ApiErrorInit {
  readonly status: number;
  readonly type: string;
  /** The field or header at fault. */
  readonly param?: string;
  readonly code: string;
  /** The same request may succeed later without a change. */
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
}

export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    message: string,
    readonly init: ApiErrorInit,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  toBody(): { error: { message: string; type: string; param: string | null; code: string } } {
    const { type, param = null, code } = this.init;
    return { error: { message: this.message, type, param, code } };
  }
}

/** 400, naming the field or header at fault. */
export function invalid(param: string, message: string, code = "invalid_value"): ApiError {
  return new ApiError(message, { status: 400, type: "invalid_request_error", param, code, retryable: false });
}

interface StatusRow {
  readonly http: number;
  readonly openaiType: string;
}

const upstreamFailed: StatusRow = { http: 502, openaiType: "server_error" };
const timedOut: StatusRow = { http: 504, openaiType: "server_error" };
const badRequest: StatusRow = { http: 400, openaiType: "invalid_request_error" };
const conflict: StatusRow = { http: 409, openaiType: "conflict_error" };
const tryLater: StatusRow = { http: 503, openaiType: "server_error" };

/** A turn that ended as FAILED. `error.code` is the code's name in lower case. */
export const turnErrorTable: Readonly<Record<TurnErrorCode, StatusRow>> = {
  [TurnErrorCode.UNSPECIFIED]: upstreamFailed,
  [TurnErrorCode.NATIVE_SESSION_LOST]: upstreamFailed,
  [TurnErrorCode.ID_IN_USE]: upstreamFailed,
  // Not 401: the caller's own token was good.
  [TurnErrorCode.AUTH]: upstreamFailed,
  [TurnErrorCode.RATE_LIMITED]: { http: 429, openaiType: "rate_limit_error" },
  [TurnErrorCode.OVERLOADED]: tryLater,
  [TurnErrorCode.CONTEXT_OVERFLOW]: badRequest,
  [TurnErrorCode.INVALID_REQUEST]: badRequest,
  [TurnErrorCode.TIMEOUT]: timedOut,
  [TurnErrorCode.NO_OUTPUT_TIMEOUT]: timedOut,
  [TurnErrorCode.CRASHED]: upstreamFailed,
  [TurnErrorCode.UNAVAILABLE]: upstreamFailed,
  [TurnErrorCode.QUEUE_TIMEOUT]: timedOut,
  [TurnErrorCode.OUTPUT_LIMIT]: upstreamFailed,
  [TurnErrorCode.PROVIDER_ERROR]: upstreamFailed,
  [TurnErrorCode.STORE]: tryLater,
  [TurnErrorCode.INTERNAL]: { http: 500, openaiType: "server_error" },
};

/** A turn that ended as CANCELLED: somebody else ended it, so it conflicts with what they did. */
export const cancelledTable: Readonly<Record<CancelReason, StatusRow & { readonly message: string }>> = {
  [CancelReason.UNSPECIFIED]: { ...conflict, message: "the turn was cancelled" },
  [CancelReason.REQUESTED]: { ...conflict, message: "the turn was cancelled" },
  [CancelReason.SUPERSEDED]: {
    ...conflict,
    message: "a later turn of the session took the place of this one",
  },
  [CancelReason.DISCONNECTED]: { ...conflict, message: "the turn was cancelled when its client left" },
  [CancelReason.RESTARTED]: { ...tryLater, message: "the broker was restarted while the turn waited" },
  [CancelReason.SESSION_ENDED]: { ...conflict, message: "the turn's session was reset or deleted" },
};

/** A broker's error that carries no known reason, by its code. */
export const connectCodeTable: Readonly<Record<Code, StatusRow>> = {
  [Code.Canceled]: tryLater,
  [Code.Unknown]: { http: 500, openaiType: "server_error" },
  [Code.InvalidArgument]: badRequest,
  [Code.DeadlineExceeded]: timedOut,
  [Code.NotFound]: { http: 404, openaiType: "not_found_error" },
  [Code.AlreadyExists]: conflict,
  [Code.PermissionDenied]: { http: 403, openaiType: "permission_error" },
  [Code.ResourceExhausted]: { http: 429, openaiType: "rate_limit_error" },
  [Code.FailedPrecondition]: badRequest,
  [Code.Aborted]: tryLater,
  [Code.OutOfRange]: badRequest,
  [Code.Unimplemented]: { http: 501, openaiType: "invalid_request_error" },
  [Code.Internal]: { http: 500, openaiType: "server_error" },
  [Code.Unavailable]: tryLater,
  [Code.DataLoss]: { http: 500, openaiType: "server_error" },
  [Code.Unauthenticated]: { http: 401, openaiType: "authentication_error" },
};

export function fromTurnError(error: TurnError | undefined): ApiError {
  const code = error?.code ?? TurnErrorCode.UNSPECIFIED;
  const row = turnErrorTable[code] ?? upstreamFailed;
  const retryAfterMs = durationMs(error?.retryAfter);
  return new ApiError(error?.message || "the turn failed", {
    status: row.http,
    type: row.openaiType,
    code: (TurnErrorCode[code] ?? "unspecified").toLowerCase(),
    retryable: error?.retryable ?? false,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

export function fromCancelled({ reason, retryable }: Cancelled): ApiError {
  const row = cancelledTable[reason] ?? cancelledTable[CancelReason.UNSPECIFIED];
  return new ApiError(row.message, {
    status: row.http,
    type: row.openaiType,
    code: "turn_cancelled",
    retryable,
  });
}

/** Nobody knows how far the agent came, so a client must not repeat the turn by itself. */
export function fromInterrupted(): ApiError {
  return new ApiError("the broker stopped while the turn ran", {
    status: upstreamFailed.http,
    type: upstreamFailed.openaiType,
    code: "turn_interrupted",
    retryable: false,
  });
}

/** How a turn went wrong; undefined for one that was answered. */
export function failureOf({ event }: TurnEvent): ApiError | undefined {
  switch (event.case) {
    case "failed":
      return fromTurnError(event.value.error);
    case "cancelled":
      return fromCancelled(event.value);
    case "interrupted":
      return fromInterrupted();
    default:
      return undefined;
  }
}

/** Any error that was thrown while a request was answered. */
export function toApiError(reason: unknown, brokerAddress: string): ApiError {
  if (reason instanceof ApiError) return reason;
  if (reason instanceof ConnectError) return fromConnectError(reason, brokerAddress);
  const { http: status, openaiType: type, retryable } = errorTable.INTERNAL;
  return new ApiError(
    "internal error of the adapter",
    { status, type, code: "internal", retryable },
    { cause: reason },
  );
}

function fromConnectError(error: ConnectError, brokerAddress: string): ApiError {
  const reason = reasonOf(error);
  const retryAfterMs = durationMs(error.findDetails(RetryInfoSchema)[0]?.retryDelay);
  const retryAfter = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (reason !== undefined) {
    const { http: status, openaiType: type, retryable } = errorTable[reason];
    return new ApiError(
      error.rawMessage,
      { status, type, code: reason.toLowerCase(), retryable, ...retryAfter },
      { cause: error },
    );
  }
  const unreachable = isTransportFailure(error);
  const row = connectCodeTable[error.code];
  return new ApiError(
    unreachable ? `the session broker at ${brokerAddress} cannot be reached` : error.rawMessage,
    {
      status: row.http,
      type: row.openaiType,
      code: unreachable ? "broker_unreachable" : Code[error.code].toLowerCase(),
      retryable: unreachable,
      ...retryAfter,
    },
    { cause: error },
  );
}

/**
 * There was no connection to the broker, or it broke: a reset one arrives as
 * Aborted, a closed one of HTTP/2 as Canceled. An error of the broker itself
 * names its reason.
 */
export function isTransportFailure(error: ConnectError): boolean {
  return transportCodes.has(error.code) && reasonOf(error) === undefined;
}

const transportCodes: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Aborted, Code.Canceled]);

export function reasonOf(error: ConnectError): ErrorReason | undefined {
  const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
  return reason !== undefined && Object.hasOwn(errorTable, reason) ? (reason as ErrorReason) : undefined;
}

/** Answers with an error. */
export function sendError(
  res: ServerResponse,
  error: ApiError,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendJson(res, error.init.status, error.toBody(), { ...headers, ...errorHeaders(error) });
}

/** OpenAI's and Anthropic's clients obey `x-should-retry`; without it they repeat every 409 and 5xx. */
export function errorHeaders({ init }: ApiError): Record<string, string> {
  const { status, retryable, retryAfterMs = status === 429 || status === 503 ? 1000 : undefined } = init;
  return {
    "x-should-retry": String(retryable),
    ...(retryAfterMs === undefined
      ? {}
      : { "retry-after": String(Math.max(1, Math.ceil(retryAfterMs / 1000))) }),
    ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
  };
}
