/** POST /v1/chat/completions */
import type { TurnEvent } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { readJsonObject } from "./body.js";
import type { Call } from "./call.js";
import { type ChatReply, createJsonReply, createStreamReply } from "./chat-reply.js";
import { toChatRequest } from "./chat-request.js";
import { fromCancelled, fromInterrupted, fromTurnError, toApiError } from "./errors.js";
import { planTurn } from "./plan-turn.js";
import { runTurn, turnHeaders } from "./run-turn.js";

export async function handleChat(call: Call): Promise<void> {
  const { req, res, limits, timers } = call;
  const body = await readJsonObject(req, limits.bodyBytes);
  const chat = toChatRequest(body);
  const turn = await planTurn(call, { ...chat, body });
  // The client may have left while its request was looked at.
  if (res.destroyed) return;

  const reply = chat.stream
    ? createStreamReply(res, chat.includeUsage, (callback) => timers.every(limits.keepAliveMs, callback))
    : createJsonReply(res);
  await runTurn(call, turn, (event) => answer(reply, event, chat.model, timers.now())).catch(
    async (error) => {
      const failure = toApiError(error, call.brokerAddress);
      call.logFailure(failure);
      if (!res.destroyed) await reply.failed(failure);
    },
  );
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
