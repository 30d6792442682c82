import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import {
  CancelledSchema,
  Cancelled_Reason as CancelReason,
  TurnErrorCode,
  TurnErrorSchema,
} from "../../../gen/sessionbroker/v1/turn_pb.js";
import { errorTable } from "../../errors.js";
import { ApiError, fromCancelled, fromInterrupted, fromTurnError, invalid, toApiError } from "./errors.js";

function brokerError(reason: string, code: Code, retryAfterMs?: number): ConnectError {
  const retry =
    retryAfterMs === undefined
      ? []
      : [{ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(retryAfterMs) } }];
  return new ConnectError("as it is", code, undefined, [
    { desc: ErrorInfoSchema, value: { reason } },
    ...retry,
  ]);
}

describe("toApiError", () => {
  it.each(Object.entries(errorTable))("%s as the error table says", (reason, row) => {
    const error = toApiError(brokerError(reason, row.code), "there");
    expect(error.message).toBe("as it is");
    expect(error.init).toEqual({
      status: row.http,
      type: row.openaiType,
      code: reason.toLowerCase(),
      retryable: row.retryable,
    });
  });

  it("passes on how long to wait", () => {
    expect(
      toApiError(brokerError("QUEUE_FULL", Code.ResourceExhausted, 2500), "there").init.retryAfterMs,
    ).toBe(2500);
  });

  it.each([
    [Code.InvalidArgument, 400],
    [Code.Unauthenticated, 401],
    [Code.PermissionDenied, 403],
    [Code.NotFound, 404],
    [Code.AlreadyExists, 409],
    [Code.ResourceExhausted, 429],
    [Code.Internal, 500],
    [Code.Unimplemented, 501],
    [Code.DeadlineExceeded, 504],
  ])("code %s without a known reason is %s", (code, status) => {
    for (const error of [new ConnectError("x", code), brokerError("toString", code)]) {
      expect(toApiError(error, "there").init).toMatchObject({ status, retryable: false });
    }
  });

  it.each([[Code.Unavailable], [Code.Aborted], [Code.Canceled]])(
    "code %s without a reason is a broker out of reach",
    (code) => {
      const error = toApiError(new ConnectError("connect ECONNREFUSED", code), "127.0.0.1:8080");
      expect(error.message).toBe("the session broker at 127.0.0.1:8080 cannot be reached");
      expect(error.init).toEqual({
        status: 503,
        type: "server_error",
        code: "broker_unreachable",
        retryable: true,
      });
    },
  );

  it("says nothing of a defect", () => {
    const error = toApiError(new TypeError("secret"), "there");
    expect(error.init.status).toBe(500);
    expect(JSON.stringify(error.toBody())).not.toContain("secret");
  });

  it("keeps what is one already", () => {
    const error = invalid("n", "no");
    expect(toApiError(error, "there")).toBe(error);
    expect(error.toBody()).toEqual({
      error: { message: "no", type: "invalid_request_error", param: "n", code: "invalid_value" },
    });
  });
});

describe("turn endings", () => {
  it.each([
    [TurnErrorCode.AUTH, 502, "auth"],
    [TurnErrorCode.UNAVAILABLE, 502, "unavailable"],
    [TurnErrorCode.CRASHED, 502, "crashed"],
    [TurnErrorCode.PROVIDER_ERROR, 502, "provider_error"],
    [TurnErrorCode.NATIVE_SESSION_LOST, 502, "native_session_lost"],
    [TurnErrorCode.RATE_LIMITED, 429, "rate_limited"],
    [TurnErrorCode.TIMEOUT, 504, "timeout"],
    [TurnErrorCode.NO_OUTPUT_TIMEOUT, 504, "no_output_timeout"],
    [TurnErrorCode.QUEUE_TIMEOUT, 504, "queue_timeout"],
    [TurnErrorCode.INVALID_REQUEST, 400, "invalid_request"],
    [TurnErrorCode.CONTEXT_OVERFLOW, 400, "context_overflow"],
    [TurnErrorCode.OVERLOADED, 503, "overloaded"],
    [99 as TurnErrorCode, 502, "unspecified"],
  ])("failed with %s is %s", (code, status, name) => {
    const error = fromTurnError(create(TurnErrorSchema, { code, message: "why", retryable: true }));
    expect(error.message).toBe("why");
    expect(error.init).toMatchObject({ status, code: name, retryable: true });
  });

  it("passes on how long to wait", () => {
    const error = create(TurnErrorSchema, {
      code: TurnErrorCode.RATE_LIMITED,
      retryAfter: durationFromMs(1500),
    });
    expect(fromTurnError(error).init.retryAfterMs).toBe(1500);
    expect(fromTurnError(undefined)).toBeInstanceOf(ApiError);
  });

  it.each([
    [CancelReason.REQUESTED, 409],
    [CancelReason.SUPERSEDED, 409],
    [CancelReason.DISCONNECTED, 409],
    [CancelReason.SESSION_ENDED, 409],
    [CancelReason.RESTARTED, 503],
    [99 as CancelReason, 409],
  ])("cancelled with %s is %s", (reason, status) => {
    expect(fromCancelled(create(CancelledSchema, { reason })).init).toMatchObject({
      status,
      code: "turn_cancelled",
      retryable: false,
    });
  });

  it("interrupted is never repeated by itself", () => {
    expect(fromInterrupted().init).toMatchObject({ status: 502, retryable: false });
  });
});
