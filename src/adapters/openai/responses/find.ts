/** Responses that exist: each is a turn, and its id says which. */
import { type Turn, TurnState } from "../../../../gen/sessionbroker/v1/turn_pb.js";
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
 * The session that a response belongs to, for the turn after it. 404 if the
 * broker knows no such response: a new session is never made in its place. 400
 * if it contradicts the request's model or key.
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
    target: { case: "sessionId", value: sessionId },
    sameTarget: [key.scope, provider, sessionId],
    neverStale: true,
    session: { sessionId },
    checkNew: () => mustBeNewest(call, previous),
  };
}

/** Turns that failed or were cancelled since may be passed over: their clients try again from where they were. */
async function mustBeNewest(call: Call, { turnId, mergedIntoTurnId, sessionId, key }: Turn): Promise<void> {
  const wanted = mergedIntoTurnId || turnId;
  const scope = key?.scope ?? "";
  let pageToken = "";
  do {
    const page = await call.broker.listTurns(
      { sessionId, scope, pageSize: 20, pageToken },
      { headers: call.callHeaders },
    );
    const deciding = page.turns.find((turn) => turn.turnId === wanted || isContinuation(turn.state));
    if (deciding?.turnId === wanted) return;
    if (deciding !== undefined) break;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  throw invalid(
    "previous_response_id",
    "previous_response_id is not the newest response of its session, and going on from an earlier one is not available",
    "unsupported_value",
  );
}

function isContinuation(state: TurnState): boolean {
  return state === TurnState.COMPLETED || state === TurnState.RUNNING || state === TurnState.QUEUED;
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
