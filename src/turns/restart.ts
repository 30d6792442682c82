/**
 * What becomes of the turns that a former process left.
 *
 *     RUNNING ──▶ INTERRUPTED: nobody knows what the agent did
 *             ──▶ still held, if its caller runs the agent: it has a lease to renew
 *     QUEUED  ──▶ waits again, if its caller can still ask for it and it is not too late
 *             ──▶ FAILED (UNAVAILABLE), if its provider is no longer configured
 *             ──▶ CANCELLED (RESTARTED) otherwise
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Interrupted_Reason, TurnErrorCode, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import { noUsage } from "../sessions/session.js";
import { type Ending, failed, interrupted, restarted } from "./endings.js";
import type { TurnRow } from "./turn.js";
import type { TurnEndCall } from "./turn-store.js";

export type RestartDecision =
  | { readonly kind: "wait-again" }
  | { readonly kind: "still-held" }
  | { readonly kind: "end"; readonly ending: Ending };

export function decideRestart(turn: TurnRow, providerExists: boolean, nowMs: number): RestartDecision {
  if (turn.state === "RUNNING" && turn.external) return { kind: "still-held" };
  if (turn.state === "RUNNING") {
    return { kind: "end", ending: interrupted(Interrupted_Reason.BROKER_CRASHED, turn.lastSequence) };
  }
  if (!providerExists && !turn.external) {
    const message = `the provider ${turn.key.provider} is no longer configured`;
    return {
      kind: "end",
      ending: failed({ code: TurnErrorCode.UNAVAILABLE, message, retryable: false }, ""),
    };
  }
  const wanted =
    !turn.external && turn.clientChoseId && !turn.cancelOnDisconnect && nowMs < turn.queueDeadlineMs;
  return wanted ? { kind: "wait-again" } : { kind: "end", ending: restarted() };
}

/** The write of an ending that no agent gave, with a sequence that no reader can have seen. */
export function endWithoutRun(turn: TurnRow, ending: Ending, nowMs: number): TurnEndCall {
  const sequence = turn.reservedThrough + 1;
  const event = create(TurnEventSchema, {
    turnId: turn.turnId,
    sequence,
    time: timestampFromMs(nowMs),
    event: ending.payload,
  });
  return {
    turnNo: turn.turnNo,
    ...(turn.fence === undefined ? {} : { fence: turn.fence }),
    state: ending.state,
    entries: [{ sequence, event: toBinary(TurnEventSchema, event) }],
    endedAtMs: nowMs,
    usage: noUsage,
  };
}
