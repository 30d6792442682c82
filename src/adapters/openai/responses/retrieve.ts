/** GET and DELETE /v1/responses/{id}, and POST /v1/responses/{id}/cancel: from the broker's journal. */

import { ConnectError } from "@connectrpc/connect";
import {
  CancelTurnResponse_Action as Action,
  type CancelTurnResponse_Action,
  type Turn,
  TurnState,
} from "../../../../gen/sessionbroker/v1/turn_pb.js";
import { ClientGoneError } from "../body.js";
import type { Call } from "../call.js";
import { invalid, reasonOf, toApiError } from "../errors.js";
import { sendJson } from "../json.js";
import { attachTo, leaving } from "../run-turn.js";
import { ResponseEvents } from "./events.js";
import { type FoundResponse, findResponse, foundHeaders } from "./find.js";
import { ResponseStream } from "./reply.js";
import { type ResponseBody, runningResponse } from "./resource.js";
import { eventsAfter } from "./resume.js";

export async function handleRetrieveResponse(call: Call, id: string): Promise<void> {
  const query = new URL(call.req.url ?? "", "http://adapter").searchParams;
  const found = await findResponse(call, id);
  if (query.get("stream") === "true") return streamFrom(call, found, startingAfter(query));
  const state = (await shownTurn(call, found)).state;
  const running = state === TurnState.QUEUED ? "queued" : state === TurnState.RUNNING ? "in_progress" : "";
  const response =
    running === ""
      ? await endedResponse(call, found)
      : runningResponse(found.head, { status: running, output: [] });
  sendJson(call.res, 200, response, foundHeaders(found));
}

export async function handleCancelResponse(call: Call, id: string): Promise<void> {
  const found = await findResponse(call, id);
  const { turnId } = found.turn;
  const { action } = await call.broker.cancelTurn(
    { turnId, scope: found.scope },
    { headers: call.callHeaders },
  );
  if (goesOn(action)) {
    throw invalid("response_id", `${id} has become part of another response, which goes on`);
  }
  sendJson(call.res, 200, await endedResponse(call, found), foundHeaders(found));
}

/** The broker deletes sessions whole, so a response that is not all of its session stays. */
export async function handleDeleteResponse(call: Call, id: string): Promise<void> {
  const { turn, scope } = await findResponse(call, id);
  const { sessionId } = turn;
  const headers = call.callHeaders;
  const { turns } = await call.broker.listTurns({ sessionId, scope, pageSize: 2 }, { headers });
  if (turns.length > 1) {
    throw invalid(
      "response_id",
      "the response's session has other responses: a session is deleted whole, as by DELETE of its conversation",
      "unsupported_value",
    );
  }
  await call.broker.deleteSession(
    { selector: { case: "sessionId", value: sessionId }, scope, force: true },
    { headers },
  );
  call.sendJson({ id, object: "response", deleted: true });
}

function goesOn(action: CancelTurnResponse_Action): boolean {
  return action === Action.DETACHED;
}

/** A turn whose text went into another one shows that one. */
async function shownTurn(call: Call, { turn, scope }: FoundResponse): Promise<Turn> {
  const turnId = turn.mergedIntoTurnId;
  if (turnId === "") return turn;
  const into = await call.broker.getTurn({ turnId, scope }, { headers: call.callHeaders });
  return into.turn ?? turn;
}

/** Waits for the turn's ending. */
async function endedResponse(call: Call, found: FoundResponse): Promise<ResponseBody | undefined> {
  const signal = leaving(call);
  const events = new ResponseEvents(found.head);
  try {
    for await (const event of attachTo(call, found.turn.turnId, found.scope, 0, signal)) events.apply(event);
    return events.response;
  } catch (error) {
    if (signal.aborted) throw new ClientGoneError("the client left", { cause: error });
    if (!isExpired(error)) throw error;
  }
  // What is no longer kept of the turn is its answer piece by piece; the ending has it whole.
  const { ending } = await shownTurn(call, found);
  const whole = new ResponseEvents(found.head);
  if (ending !== undefined) whole.apply(ending);
  return whole.response;
}

async function streamFrom(call: Call, found: FoundResponse, after: number): Promise<void> {
  const { res, limits, timers } = call;
  const stream = new ResponseStream(res, (callback) => timers.every(limits.keepAliveMs, callback));
  const signal = leaving(call);
  const events = new ResponseEvents(found.head);
  async function* attach(sequence: number) {
    for await (const event of attachTo(call, found.turn.turnId, found.scope, sequence, signal)) {
      // The client is told at once that it is heard, though it may have all that there is.
      stream.open(foundHeaders(found));
      yield event;
    }
  }
  try {
    for await (const event of eventsAfter(after, events, attach)) {
      if (event === "alive") stream.alive();
      else await stream.send(event);
    }
    await stream.end();
  } catch (reason) {
    if (signal.aborted) return;
    if (!res.headersSent) throw reason;
    const error = toApiError(reason, call.brokerAddress);
    call.logFailure(error);
    await stream.failed(error, events.nextNumber);
  }
}

function startingAfter(query: URLSearchParams): number {
  const text = query.get("starting_after");
  if (text === null) return -1;
  if (!/^\d{1,9}$/.test(text)) throw invalid("starting_after", "starting_after is not a sequence number");
  return Number(text);
}

function isExpired(error: unknown): boolean {
  return error instanceof ConnectError && reasonOf(error) === "EVENTS_EXPIRED";
}
