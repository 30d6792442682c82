/** POST /v1/messages and POST /v1/messages/count_tokens */
import type { TurnEvent } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { readJsonObject } from "../openai/body.js";
import type { Call } from "../openai/call.js";
import { type ApiError, failureOf, toApiError } from "../openai/errors.js";
import { followedId, isEnding } from "../openai/follow-turn.js";
import { sendJson } from "../openai/json.js";
import { planTurn } from "../openai/plan-turn.js";
import { runTurn, turnHeaders } from "../openai/run-turn.js";
import { type EventStream, openEventStream } from "../openai/sse.js";
import { anthropicError, sendAnthropicError } from "./errors.js";
import { estimateTokens } from "./estimate.js";
import { MessageEvents } from "./events.js";
import { toMessageRequest } from "./request.js";

const ping = 'event: ping\ndata: {"type":"ping"}\n\n';

export async function handleMessages(call: Call): Promise<void> {
  const { req, res, limits, timers } = call;
  const body = await readJsonObject(req, limits.bodyBytes);
  const request = toMessageRequest(body);
  const turn = await planTurn(call, { ...request, body });
  // The client may have left while its request was looked at.
  if (res.destroyed) return;

  const { model, thinking } = request;
  let events = new MessageEvents({ turnId: turn.request.turnId, model, thinking });
  let headers: Readonly<Record<string, string>> = {};
  let stream: EventStream | undefined;

  async function fail(error: ApiError): Promise<void> {
    if (stream === undefined) return sendAnthropicError(res, error, headers);
    await stream.send(anthropicError(error), "error");
    await stream.end();
  }

  async function onEvent(event: TurnEvent): Promise<void> {
    if (event.event.case === "accepted") {
      headers = turnHeaders(event.turnId, event.event.value);
      events = new MessageEvents({ turnId: followedId(turn.request, event), model, thinking });
      if (request.stream) {
        const every = (callback: () => void) => timers.every(limits.keepAliveMs, callback);
        stream = openEventStream(res, headers, every, ping);
      }
    }
    const told = events.apply(event);
    for (const each of told) await stream?.send(each, each.type);
    // Anthropic sends one after message_start, and clients may wait for it.
    if (event.sequence === 0 || event.event.case === "accepted") stream?.keepAlive();
    if (!isEnding(event)) return;
    const failure = failureOf(event);
    if (failure !== undefined) await fail(failure);
    else if (stream !== undefined) await stream.end();
    else sendJson(res, 200, events.message, headers);
  }

  await runTurn(call, turn, onEvent).catch(async (reason) => {
    const error = toApiError(reason, call.brokerAddress);
    call.logFailure(error);
    if (!res.destroyed) await fail(error);
  });
}

export async function handleCountTokens(call: Call): Promise<void> {
  const { conversation } = toMessageRequest(await readJsonObject(call.req, call.limits.bodyBytes));
  // Nobody is let in without a token that is good.
  await call.serverInfo();
  call.sendJson({ input_tokens: estimateTokens(conversation) });
}
