import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { KeyIdentity } from "../sessions/key-scheme.js";
import type { RotationReason } from "../sessions/session.js";
import type { SessionView } from "../sessions/session-store.js";
import { rotationReasons, sessionMessage } from "./session-message.js";

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
  readonly reserved: {
    readonly outcome: keyof typeof outcomes;
    readonly reason?: RotationReason | undefined;
  };
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
