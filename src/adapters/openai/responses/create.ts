/** POST /v1/responses */
import type { TurnEvent } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import { readJsonObject } from "../body.js";
import type { Call } from "../call.js";
import { failureOf, invalid, sendError, toApiError } from "../errors.js";
import { followedId, isEnding } from "../follow-turn.js";
import { sendJson } from "../json.js";
import { planTurn } from "../plan-turn.js";
import { runTurn, turnHeaders } from "../run-turn.js";
import { ResponseEvents } from "./events.js";
import { placeAfter } from "./find.js";
import { withReferencedItems } from "./references.js";
import { ResponseStream } from "./reply.js";
import { type ResponseRequest, toResponseRequest } from "./request.js";
import { responseIdOf, responseLabels } from "./resource.js";

export async function handleCreateResponse(call: Call): Promise<void> {
  const { req, res, limits, timers } = call;
  const body = await readJsonObject(req, limits.bodyBytes);
  const request = toResponseRequest(await withReferencedItems(call, body));
  await refuseForeign(call, request);
  const labels = responseLabels(request);
  const { previousResponseId: previous } = request;
  const turn = await planTurn(call, {
    ...request,
    labels,
    responseId: responseIdOf,
    body,
    placeOf: async (choice, origin) =>
      previous === undefined ? undefined : placeAfter(call, previous, choice, origin),
  });
  // The client may have left while its request was looked at.
  if (res.destroyed) return;

  const stream = request.stream
    ? new ResponseStream(res, (callback) => timers.every(limits.keepAliveMs, callback))
    : undefined;
  let events = new ResponseEvents({ turnId: turn.request.turnId, createdAt: 0, labels });
  let headers: Readonly<Record<string, string>> = {};

  async function onEvent(event: TurnEvent, letGo: () => void): Promise<void> {
    const { event: payload, time } = event;
    if (payload.case === "accepted") {
      const turnId = followedId(turn.request, event);
      events = new ResponseEvents({ turnId, createdAt: Number(time?.seconds ?? 0n), labels });
      headers = turnHeaders(event.turnId, payload.value);
      stream?.open(headers);
    }
    const numbered = events.apply(event);
    if (stream !== undefined) {
      for (const { event: sent } of numbered) await stream.send(sent);
      if (event.sequence === 0) stream.alive();
      if (events.ended) await stream.end();
    } else if (request.background) {
      sendJson(res, 200, events.response, headers);
      letGo();
    } else if (isEnding(event)) {
      // A turn that failed is an error of the request.
      const failure = failureOf(event);
      if (failure === undefined) sendJson(res, 200, events.response, headers);
      else sendError(res, failure, headers);
    }
  }

  await runTurn(call, turn, onEvent).catch(async (reason) => {
    const error = toApiError(reason, call.brokerAddress);
    call.logFailure(error);
    if (res.destroyed) return;
    if (res.headersSent) await stream?.failed(error, events.nextNumber);
    else sendError(res, error, headers);
  });
}

/** A credential whose conversations are named elsewhere must not think that it goes on with one. */
async function refuseForeign(call: Call, request: ResponseRequest): Promise<void> {
  const { acceptedOrigins: accepted } = await call.serverInfo();
  const given = { conversation: request.conversationId, previous_response_id: request.previousResponseId };
  for (const [field, id] of Object.entries(given)) {
    if (id === undefined || accepted.length === 0 || accepted.includes(field)) continue;
    throw invalid(field, `${field} is not accepted from this credential; it accepts ${accepted.join(", ")}`);
  }
}
