import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { KeyIdentity } from "../sessions/key-scheme.js";
import { noUsage, type RotationReason, type SessionRow } from "../sessions/session.js";
import type { SessionView } from "../sessions/session-store.js";
import { rotationReasons, sessionMessage } from "./session-message.js";
import type { TurnRow } from "./turn.js";
import type { AdmitCall } from "./turn-store.js";

export const outcomes = {
  CREATED: Outcome.CREATED,
  EXISTING: Outcome.EXISTING,
  ROTATED: Outcome.ROTATED,
  EXPLICIT: Outcome.EXPLICIT,
  EPHEMERAL: Outcome.EPHEMERAL,
} as const;

/** The first event of a turn, encoded as it is kept with the turn's row. */
export function acceptedEvent(admission: {
  readonly turnId: string;
  readonly identity: KeyIdentity;
  readonly view: SessionView;
  readonly reserved: { readonly outcome: keyof typeof outcomes; readonly reason?: RotationReason };
  /** Turns before this one in the session. */
  readonly queuePosition: number;
  readonly nowMs: number;
}): Uint8Array {
  const { view, reserved, identity } = admission;
  return toBinary(
    TurnEventSchema,
    create(TurnEventSchema, {
      turnId: admission.turnId,
      sequence: 1,
      time: timestampFromMs(admission.nowMs),
      event: {
        case: "accepted",
        value: {
          session: sessionMessage(view, identity),
          outcome: outcomes[reserved.outcome],
          ...(reserved.reason === undefined ? {} : { rotationReason: rotationReasons[reserved.reason] }),
          previousSessionId: reserved.outcome === "ROTATED" ? (view.row.previousSessionId ?? "") : "",
          queuePosition: admission.queuePosition,
        },
      },
    }),
  );
}

/** The row of a turn that has just been admitted. */
export function admittedTurn(
  call: AdmitCall,
  session: SessionRow,
  made: { readonly turnNo: number; readonly accepted: Uint8Array; readonly into?: TurnRow },
): TurnRow {
  const { turnNo, accepted, into } = made;
  return {
    turnNo,
    turnId: call.turnId,
    key: session.key,
    recordNo: session.recordNo,
    sessionId: session.sessionId,
    generation: session.generation,
    state: into === undefined ? "QUEUED" : "MERGED",
    payloadHash: call.payloadHash,
    credential: call.credential,
    grant: call.grant,
    clientChoseId: call.clientChoseId,
    cancelOnDisconnect: call.cancelOnDisconnect,
    onConflict: call.onConflict,
    mergeKey: call.mergeKey,
    external: call.external,
    ...(into === undefined ? {} : { mergedInto: { turnNo: into.turnNo, turnId: into.turnId } }),
    createdAtMs: call.reserve.nowMs,
    queueDeadlineMs: call.queueDeadlineMs,
    attempt: 0,
    lastSequence: 1,
    reservedThrough: 1,
    eventBytes: 0,
    evictedThrough: 0,
    accepted,
    usage: noUsage,
    labels: call.labels,
  };
}
