/** POST /v1/chat/completions */

import { Outcome } from "../../../gen/sessionbroker/v1/session_pb.js";
import {
  type Accepted,
  OnConflict,
  OnDisconnect,
  type TurnEvent,
} from "../../../gen/sessionbroker/v1/turn_pb.js";
import { readJsonObject } from "./body.js";
import type { Call } from "./call.js";
import { type ChatReply, createJsonReply, createStreamReply } from "./chat-reply.js";
import { type ChatRequest, toChatRequest } from "./chat-request.js";
import { fromCancelled, fromInterrupted, fromTurnError, invalid, toApiError } from "./errors.js";
import { followTurn, isEnding } from "./follow-turn.js";
import { type HeaderReader, headerValue, presentHeader } from "./headers.js";
import { resolveModel } from "./model.js";
import { type Origin, resolveOrigin } from "./origin.js";
import { turnIdOf } from "./turn-id.js";

export async function handleChat(call: Call): Promise<void> {
  const { req, res, header, limits, timers } = call;
  const chat = toChatRequest(await readJsonObject(req, limits.bodyBytes));
  const { providers, baseScope } = await call.serverInfo();
  const ids = providers.map(({ id }) => id);
  const { provider, model, agent } = resolveModel(chat.model, {
    providers: ids,
    defaultProvider: call.defaults.provider ?? ids[0],
    provider: presentHeader(header, "x-session-broker-provider"),
  });
  const origin = resolveOrigin(header, {
    baseScope,
    modelAgent: agent,
    defaultAgent: call.defaults.agent,
    newId: call.newId,
  });
  const request = toDispatchRequest(call, chat, origin, provider, model);
  const cancelOnLeave = optionHeader(header, "x-session-broker-on-disconnect", leaving) ?? true;
  // The client may have left while its request was looked at.
  if (res.destroyed) return;

  const reply = chat.stream
    ? createStreamReply(res, chat.includeUsage, (callback) => timers.every(limits.keepAliveMs, callback))
    : createJsonReply(res);
  await runTurn(call, request, origin.scope, cancelOnLeave, async (event) => {
    await answer(reply, event, chat.model, timers.now());
  }).catch(async (error) => {
    const failure = toApiError(error, call.brokerAddress);
    call.logFailure(failure);
    if (!res.destroyed) await reply.failed(failure);
  });
}

type DispatchRequest = ReturnType<typeof toDispatchRequest>;

function toDispatchRequest(call: Call, chat: ChatRequest, origin: Origin, provider: string, model: string) {
  const { scope, externalId, anonymous } = origin;
  const idempotencyKey = presentHeader(call.header, "idempotency-key");
  return {
    target: { case: "key" as const, value: { scope, externalId, provider } },
    turnId: idempotencyKey === undefined ? call.newId() : turnIdOf(idempotencyKey, scope),
    ...chat.conversation,
    model,
    onConflict:
      optionHeader(call.header, "x-session-broker-on-conflict", conflicts) ?? OnConflict.UNSPECIFIED,
    // The death of an adapter is not the leaving of its client, which is told by CancelTurn.
    onDisconnect: OnDisconnect.DETACH,
    // A repeat of an anonymous request has another external id.
    payloadDigest: chat.digest(anonymous ? [scope, provider] : [scope, provider, externalId]),
  };
}

/**
 * Passes the turn's events on until it ends or the client leaves. A client that
 * leaves before the turn is accepted is dealt with when it is, since a turn
 * cannot be cancelled, nor is it sure to run, before that.
 */
async function runTurn(
  call: Call,
  request: DispatchRequest,
  scope: string,
  cancelOnLeave: boolean,
  onEvent: (event: TurnEvent) => Promise<void>,
): Promise<void> {
  const { broker, res, callHeaders: headers, limits, timers } = call;
  const { turnId } = request;
  const stop = new AbortController();
  let accepted = false;
  let ended = false;
  let left = false;

  function abandon(): void {
    if (stop.signal.aborted) return;
    stop.abort();
    if (!cancelOnLeave || ended) return;
    broker.cancelTurn({ turnId, scope }, { headers }).catch((error) => {
      call.logFailure(toApiError(error, call.brokerAddress));
    });
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
      ended = isEnding(event);
      if (!left) await onEvent(event);
      else if (accepted) abandon();
    }
  } catch (error) {
    if (!left) throw error;
  } finally {
    res.off("close", onClose);
    stop.abort();
  }
}

async function answer(
  reply: ChatReply,
  { turnId, event }: TurnEvent,
  model: string,
  nowMs: number,
): Promise<void> {
  switch (event.case) {
    case "accepted": {
      const head = { id: `chatcmpl-${turnId}`, created: Math.floor(nowMs / 1000), model };
      return reply.accepted(head, turnHeaders(turnId, event.value));
    }
    case "textDelta":
      return reply.text(event.value.text);
    case "reasoningDelta":
      return reply.reasoning(event.value.text);
    case "queued":
    case "heartbeat":
      return reply.alive();
    case "completed":
      return reply.completed(event.value);
    case "failed":
      return reply.failed(fromTurnError(event.value.error));
    case "cancelled":
      return reply.failed(fromCancelled(event.value));
    case "interrupted":
      return reply.failed(fromInterrupted());
    default:
  }
}

function turnHeaders(turnId: string, { session, outcome }: Accepted): Record<string, string> {
  return {
    "x-session-broker-session-id": headerValue(session?.sessionId ?? ""),
    "x-session-broker-outcome": (Outcome[outcome] ?? "").toLowerCase(),
    "x-session-broker-turn-id": turnId,
  };
}

const conflicts: Readonly<Record<string, OnConflict>> = {
  enqueue: OnConflict.ENQUEUE,
  reject: OnConflict.REJECT,
  interrupt: OnConflict.INTERRUPT,
  steer: OnConflict.STEER,
  collect: OnConflict.COLLECT,
};

const leaving: Readonly<Record<string, boolean>> = { cancel: true, detach: false };

function optionHeader<Value>(
  header: HeaderReader,
  name: string,
  values: Readonly<Record<string, Value>>,
): Value | undefined {
  const value = header(name);
  if (value === undefined) return undefined;
  if (!Object.hasOwn(values, value)) {
    throw invalid(name, `header ${name} is not one of ${Object.keys(values).join(", ")}`);
  }
  return values[value];
}
