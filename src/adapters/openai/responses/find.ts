/** Responses that exist: each is a turn, and its id says which. */
import type { Turn } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import type { Call } from "../call.js";
import { ApiError, invalid } from "../errors.js";
import { headerValue } from "../headers.js";
import type { ModelChoice } from "../model.js";
import type { Origin } from "../origin.js";
import { ifFound, type Place } from "../plan-turn.js";
import { isResponse, type ResponseHead, turnIdOfResponse } from "./resource.js";

export interface FoundResponse {
  readonly turn: Turn;
  readonly head: ResponseHead;
  readonly scope: string;
}

/** 404 if there is none, or it is not the caller's. */
export async function findResponse(call: Call, responseId: string): Promise<FoundResponse> {
  const turn = await turnOf(call, responseId);
  if (turn === undefined) throw notFound("response_id", `no response ${responseId}`, "response_not_found");
  const createdAt = Number(turn.createdAt?.seconds ?? 0n);
  return {
    turn,
    head: { turnId: turn.turnId, createdAt, labels: turn.labels },
    scope: turn.key?.scope ?? "",
  };
}

/** Headers of answers about a turn that exists. */
export function foundHeaders({ turn }: FoundResponse): Record<string, string> {
  return {
    "x-session-broker-session-id": headerValue(turn.sessionId),
    "x-session-broker-turn-id": turn.turnId,
  };
}

/**
 * After a response: in its session, or in one that forks off there if that has
 * gone on since. 404 if the broker knows no such response: what nobody said is
 * never gone on from. 400 if it contradicts the request's model or key.
 */
export async function placeAfter(
  call: Call,
  responseId: string,
  { provider }: ModelChoice,
  origin: Origin,
): Promise<Place> {
  const param = "previous_response_id";
  const previous = await turnOf(call, responseId);
  if (previous?.key === undefined) {
    throw notFound(param, `no response ${responseId}`, "previous_response_not_found");
  }
  const { key, sessionId } = previous;
  if (key.provider !== provider) {
    throw invalid("model", `model is one of ${provider}, and ${param} names a response of ${key.provider}`);
  }
  const { scope, externalId } = origin;
  if (externalId !== undefined) {
    const selector = { case: "key" as const, value: { scope, externalId, provider } };
    const named = await ifFound(call.broker.getSession({ selector }, { headers: call.callHeaders }));
    if (named?.session?.sessionId !== sessionId) {
      throw invalid(param, `${param} names another session than the request's key`);
    }
  }
  return {
    scope: key.scope,
    target: { case: "afterTurn", value: { turnId: previous.turnId, scope: key.scope } },
    sameTarget: [key.scope, provider, previous.turnId],
    neverStale: true,
  };
}

/** Undefined if the broker knows no such response, or does not show it to the caller. */
export async function turnOf(call: Call, responseId: string): Promise<Turn | undefined> {
  const turnId = turnIdOfResponse(responseId);
  if (turnId === undefined) return undefined;
  const found = await ifFound(call.broker.getTurn({ turnId }, { headers: call.callHeaders }));
  return found?.turn !== undefined && isResponse(found.turn) ? found.turn : undefined;
}

export function notFound(param: string, message: string, code: string): ApiError {
  return new ApiError(message, { status: 404, type: "not_found_error", param, code, retryable: false });
}
