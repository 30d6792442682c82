/** What ends a turn, as the event that says so and the state it leaves. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  Cancelled_Reason,
  Interrupted_Reason,
  type TurnError,
  TurnErrorCode,
  TurnErrorSchema,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import type { TurnOutcome, TurnUsage } from "./provider.js";
import { usageMessage } from "./session-message.js";
import type { TurnEnding } from "./turn.js";
import type { EventPayload } from "./turn-log.js";

/** Why a turn is being stopped before its own end. */
export type StopReason =
  | "REQUESTED"
  | "SUPERSEDED"
  | "DISCONNECTED"
  | "SESSION_ENDED"
  | "BROKER_STOPPED"
  | "STORE_FAILED";

export interface Stop {
  readonly reason: StopReason;
  /** The turn in whose favour it is stopped. */
  readonly byTurnId?: string;
}

export interface Ending {
  readonly state: TurnEnding;
  readonly payload: EventPayload;
}

/** The ending of a turn whose agent has been asked. */
export function endingOf(
  outcome: TurnOutcome,
  partialText: string,
  stop: Stop | undefined,
  journaledThrough: number,
): Ending {
  if (stop?.reason === "STORE_FAILED") {
    return failed(
      { code: TurnErrorCode.STORE, message: "the store could not take the turn's events", retryable: true },
      partialText,
      outcome.usage,
    );
  }
  switch (outcome.status) {
    case "completed":
      return completed(outcome, partialText);
    case "failed":
      if (stop !== undefined) return stopped(stop, partialText, journaledThrough);
      return failed(outcome, partialText, outcome.usage);
    case "cancelled":
      return stopped(stop ?? { reason: "REQUESTED" }, partialText, journaledThrough);
  }
}

/** The ending of a turn that is stopped, before or while it ran. */
export function stopped({ reason, byTurnId }: Stop, partialText: string, journaledThrough: number): Ending {
  if (reason === "BROKER_STOPPED") return interrupted(Interrupted_Reason.BROKER_STOPPED, journaledThrough);
  const reasons = {
    REQUESTED: Cancelled_Reason.REQUESTED,
    SUPERSEDED: Cancelled_Reason.SUPERSEDED,
    DISCONNECTED: Cancelled_Reason.DISCONNECTED,
    SESSION_ENDED: Cancelled_Reason.SESSION_ENDED,
    STORE_FAILED: Cancelled_Reason.UNSPECIFIED,
  } as const;
  return {
    state: "CANCELLED",
    payload: { case: "cancelled", value: { reason: reasons[reason], byTurnId: byTurnId ?? "", partialText } },
  };
}

export function restarted(): Ending {
  return {
    state: "CANCELLED",
    payload: { case: "cancelled", value: { reason: Cancelled_Reason.RESTARTED, retryable: true } },
  };
}

export function interrupted(reason: Interrupted_Reason, journaledThrough: number): Ending {
  return { state: "INTERRUPTED", payload: { case: "interrupted", value: { reason, journaledThrough } } };
}

export function queueTimeout(): Ending {
  return failed(
    {
      code: TurnErrorCode.QUEUE_TIMEOUT,
      message: "the turn waited longer than its queue_timeout",
      retryable: true,
    },
    "",
  );
}

export function failed(
  error: {
    readonly code: TurnErrorCode;
    readonly message: string;
    readonly retryable: boolean;
    readonly retryAfterMs?: number;
  },
  partialText: string,
  usage?: TurnUsage,
): Ending {
  return {
    state: "FAILED",
    payload: {
      case: "failed",
      value: {
        error: errorMessage(error),
        partialText,
        ...(usage === undefined ? {} : { usage: usageMessage(usage) }),
      },
    },
  };
}

function completed(outcome: Extract<TurnOutcome, { status: "completed" }>, text: string): Ending {
  return {
    state: "COMPLETED",
    payload: {
      case: "completed",
      value: {
        text,
        finishReason: outcome.finishReason,
        nativeId: outcome.nativeId ?? "",
        model: outcome.model ?? "",
        ...(outcome.usage === undefined ? {} : { usage: usageMessage(outcome.usage) }),
      },
    },
  };
}

function errorMessage(error: {
  readonly code: TurnErrorCode;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
}): TurnError {
  return create(TurnErrorSchema, {
    code: error.code,
    message: error.message,
    retryable: error.retryable,
    ...(error.retryAfterMs === undefined ? {} : { retryAfter: durationFromMs(error.retryAfterMs) }),
  });
}
