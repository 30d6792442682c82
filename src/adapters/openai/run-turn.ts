/** Runs a turn for a client, or follows one, for as long as the client is there. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Outcome } from "../../../gen/sessionbroker/v1/session_pb.js";
import type { Accepted, DispatchRequestSchema, TurnEvent } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Call } from "./call.js";
import { toApiError } from "./errors.js";
import { followedId, followTurn, isEnding } from "./follow-turn.js";
import { headerValue } from "./headers.js";

export interface PlannedTurn {
  readonly request: MessageInitShape<typeof DispatchRequestSchema> & { readonly turnId: string };
  readonly scope: string;
  /** The turn is ended when its client leaves. */
  readonly cancelOnLeave: boolean;
}

/** `letGo`: the client needs no more of the turn, which goes on. */
export type OnEvent = (event: TurnEvent, letGo: () => void) => Promise<void>;

/**
 * Passes the turn's events on until it ends or the client leaves. A client that
 * leaves before the turn is accepted is dealt with when it is, since a turn
 * cannot be cancelled, nor is it sure to run, before that.
 */
export async function runTurn(call: Call, turn: PlannedTurn, onEvent: OnEvent): Promise<void> {
  const { broker, res, callHeaders: headers, limits, timers } = call;
  const { request, scope, cancelOnLeave } = turn;
  let { turnId } = request;
  const stop = new AbortController();
  let accepted = false;
  let ended = false;
  let left = false;
  let enough = false;

  function abandon(): void {
    if (stop.signal.aborted) return;
    stop.abort();
    if (!cancelOnLeave || ended) return;
    broker.cancelTurn({ turnId, scope }, { headers }).catch((error) => {
      call.logFailure(toApiError(error, call.brokerAddress));
    });
  }
  function letGo(): void {
    enough = true;
  }
  function onClose(): void {
    if (res.writableFinished) return;
    left = true;
    if (accepted) abandon();
  }

  res.once("close", onClose);
  try {
    const { reattachAttempts, reattachDelayMs } = limits;
    const { signal } = stop;
    const events = followTurn({
      ...{ broker, request, scope, headers, signal, timers, reattachAttempts, reattachDelayMs },
    });
    for await (const event of events) {
      accepted ||= event.event.case === "accepted";
      turnId = followedId(request, event);
      ended = isEnding(event);
      if (!left) await onEvent(event, letGo);
      else if (accepted) abandon();
      if (enough) return;
    }
  } catch (error) {
    if (!left) throw error;
  } finally {
    res.off("close", onClose);
    stop.abort();
  }
}

/** The events of a turn that is known, after a sequence, until it ends or the signal is aborted. */
export function attachTo(
  call: Call,
  turnId: string,
  scope: string,
  afterSequence: number,
  signal: AbortSignal,
): AsyncGenerator<TurnEvent, void> {
  const { broker, callHeaders: headers, timers } = call;
  const { reattachAttempts, reattachDelayMs } = call.limits;
  return followTurn({
    ...{ broker, request: { turnId }, scope, headers, signal, timers, reattachAttempts, reattachDelayMs },
    attachAfter: afterSequence,
  });
}

/** Aborted when the client leaves before it has its answer. */
export function leaving({ res }: Pick<Call, "res">): AbortSignal {
  const left = new AbortController();
  res.once("close", () => {
    if (!res.writableFinished) left.abort();
  });
  if (res.destroyed) left.abort();
  return left.signal;
}

export function turnHeaders(turnId: string, { session, outcome }: Accepted): Record<string, string> {
  return {
    "x-session-broker-session-id": headerValue(session?.sessionId ?? ""),
    "x-session-broker-outcome": (Outcome[outcome] ?? "").toLowerCase(),
    "x-session-broker-turn-id": turnId,
  };
}
