/** The RPCs of callers that run the agent themselves. */
import { createHash } from "node:crypto";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type AcquireLaneRequest,
  AcquireLaneResponseSchema,
  type RecordTurnRequest,
} from "../../gen/sessionbroker/v1/lane_pb.js";
import type { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import { TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { Usage } from "../../gen/sessionbroker/v1/usage_pb.js";
import { BrokerError } from "../errors.js";
import { noUsage, type UsageTotal } from "../sessions/session.js";
import { type AdmitRequest, type Dispatcher, refusalError } from "../turns/dispatcher.js";
import type { LaneEvent } from "../turns/follow-lane.js";
import type { RecordedTurn } from "../turns/held-lane.js";
import { sessionMessage } from "../turns/session-message.js";
import type { TurnRow } from "../turns/turn.js";
import type { TraceCarrier } from "../turns/turn-trace.js";
import { type Caller, callerOf } from "./caller.js";
import { reservationOf } from "./reservations.js";
import { traceKey } from "./tracing.js";
import { turnMessage } from "./turn-message.js";
import { findTurn } from "./turn-target.js";
import { queueTimeoutMs, type TurnRpcDeps } from "./turns.js";

type Methods = Pick<ServiceImpl<typeof SessionBroker>, "acquireLane" | "renewLane" | "recordTurn">;

export function laneMethods(deps: TurnRpcDeps): Methods {
  return {
    async *acquireLane(request, context) {
      const caller = callerOf(context);
      const admission = await admit(deps, caller, request, context.values.get(traceKey));
      const events = deps.dispatcher.external.follow(admission, caller.name, context.signal);
      for await (const event of events) yield laneMessage(deps, event);
      context.signal.throwIfAborted();
    },

    async renewLane(request, context) {
      const turn = await findTurn(deps, callerOf(context), request);
      const renewBeforeMs = await deps.dispatcher.external.renew(turn, Number(request.fence));
      return { renewBefore: timestampFromMs(renewBeforeMs) };
    },

    async recordTurn(request, context) {
      const turn = await findTurn(deps, callerOf(context), request);
      const recorded = recordedTurn(request);
      if (!isRepeat(turn, request, recorded)) {
        const native = await boundNative(deps, turn, request);
        await deps.dispatcher.external.record(turn, Number(request.fence), { ...recorded, ...native });
      }
      return { turn: turnMessage((await deps.turns.byTurnNo(turn.turnNo)) ?? turn) };
    },
  };
}

async function admit(
  deps: TurnRpcDeps,
  caller: Caller,
  request: AcquireLaneRequest,
  trace: TraceCarrier,
): Promise<Parameters<Dispatcher["external"]["follow"]>[0]> {
  if (request.key === undefined) throw new BrokerError("INVALID_FIELD", "key: it is required");
  if (request.reserve?.visibility === Visibility.INTERNAL) {
    throw new BrokerError(
      "INVALID_FIELD",
      "reserve.visibility: a lane belongs to a session that can be seen",
    );
  }
  const canonical = deps.keys.canonical(caller, request.key);
  deps.checkDisk();
  const reserve = deps.reservations.callOf(reservationOf(canonical, request.reserve));
  const { scope, externalId, provider } = canonical.key;
  const admit: AdmitRequest = {
    reserve,
    identity: canonical.identity,
    turnId: request.turnId,
    clientChoseId: true,
    payloadHash: createHash("sha256").update(`lane\n${scope}\n${provider}\n${externalId}`).digest(),
    credential: caller.name,
    grant: caller.baseScope,
    cancelOnDisconnect: true,
    onConflict: "ENQUEUE",
    mergeKey: "",
    external: true,
    queueDeadlineMs: reserve.nowMs + queueTimeoutMs(request),
    labels: {},
    request: new Uint8Array(),
  };
  const admission = await deps.dispatcher.admit(admit, trace);
  if (admission.kind === "refused") throw refusalError(admission);
  if (admission.kind === "merged") throw new TypeError("an external turn is merged with none");
  if (admission.kind === "admitted") await deps.reservations.tellAdmission(admission, reserve);
  return admission;
}

function laneMessage(
  deps: TurnRpcDeps,
  event: LaneEvent,
): MessageInitShape<typeof AcquireLaneResponseSchema> {
  switch (event.kind) {
    case "reserved": {
      const accepted = fromBinary(TurnEventSchema, event.accepted).event;
      if (accepted.case !== "accepted") throw new TypeError("a turn begins with Accepted");
      return create(AcquireLaneResponseSchema, { event: { case: "reserved", value: accepted.value } });
    }
    case "waiting":
      return { event: { case: "waiting", value: { position: event.position } } };
    case "granted":
      return {
        event: {
          case: "granted",
          value: {
            fence: BigInt(event.turn.fence ?? 0),
            session: sessionMessage(event.view, deps.keys.identityOf(event.view.row)),
            renewBefore: timestampFromMs(event.renewBeforeMs),
            previousHolderLost: event.previousHolderLost,
          },
        },
      };
    case "revoked":
      return { event: { case: "revoked", value: { deadline: timestampFromMs(event.deadlineMs) } } };
    case "heartbeat":
      return { event: { case: "heartbeat", value: {} } };
  }
}

function recordedTurn({ ending, usage, inputText }: RecordTurnRequest): RecordedTurn {
  switch (ending.case) {
    case "completed":
      return {
        ending: { state: "COMPLETED", payload: ending },
        usage: usageTotal(usage ?? ending.value.usage),
        exchange: { user: inputText, assistant: ending.value.text },
      };
    case "failed":
      return { ending: { state: "FAILED", payload: ending }, usage: usageTotal(usage ?? ending.value.usage) };
    case "cancelled":
      return { ending: { state: "CANCELLED", payload: ending }, usage: usageTotal(usage) };
    default:
      throw new BrokerError("INVALID_FIELD", "ending: completed, failed or cancelled is needed");
  }
}

/** A retry of what has been recorded. */
function isRepeat(turn: TurnRow, { fence }: RecordTurnRequest, { ending }: RecordedTurn): boolean {
  return turn.external && turn.state === ending.state && turn.fence === Number(fence);
}

/** The native id that the turn ran in. Bind is the one way to it, since it knows who else has it. */
async function boundNative(
  deps: TurnRpcDeps,
  turn: TurnRow,
  { ending }: RecordTurnRequest,
): Promise<Pick<RecordedTurn, "native">> {
  const named = ending.case === "completed" ? ending.value.nativeId : "";
  const { nativeId: bound = "", nativeState } = (await deps.turns.session(turn))?.row ?? {};
  if (named !== "" && named !== bound) {
    throw new BrokerError(
      "NATIVE_ID_MISMATCH",
      "completed.native_id: the session has another; Bind it with the fence",
      { native_id: bound },
    );
  }
  // A turn that did not succeed proves nothing of an id that no other turn has succeeded with.
  const isProven = ending.case === "completed" || nativeState === "bound";
  return bound === "" || !isProven ? {} : { native: { id: bound, state: "bound" } };
}

function usageTotal(usage: Usage | undefined): UsageTotal {
  if (usage === undefined) return noUsage;
  return {
    inputTokens: Number(usage.inputTokens),
    cacheReadTokens: Number(usage.cacheReadTokens),
    cacheWriteTokens: Number(usage.cacheWriteTokens),
    outputTokens: Number(usage.outputTokens),
    reasoningTokens: Number(usage.reasoningTokens),
    ...(usage.costUsd === undefined ? {} : { costUsd: usage.costUsd }),
  };
}
