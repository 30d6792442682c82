/** A turn's row as the contract's message. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Turn, TurnEventSchema, TurnSchema, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { usageMessage } from "../turns/session-message.js";
import { firstSequenceOf, type TurnRow } from "../turns/turn.js";

export function turnMessage(turn: TurnRow): Turn {
  return create(TurnSchema, {
    turnId: turn.turnId,
    key: { ...turn.key },
    sessionId: turn.sessionId,
    generation: turn.generation,
    state: TurnState[turn.state],
    createdAt: timestampFromMs(turn.createdAtMs),
    ...(turn.startedAtMs === undefined ? {} : { startedAt: timestampFromMs(turn.startedAtMs) }),
    ...(turn.endedAtMs === undefined ? {} : { endedAt: timestampFromMs(turn.endedAtMs) }),
    fence: BigInt(turn.fence ?? 0),
    attempt: turn.attempt,
    lastSequence: turn.lastSequence,
    firstSequence: firstSequenceOf(turn),
    usage: usageMessage(turn.usage),
    labels: { ...turn.labels },
    nativeId: turn.nativeId ?? "",
    mergedIntoTurnId: turn.mergedInto?.turnId ?? "",
    ...(turn.ending === undefined ? {} : { ending: fromBinary(TurnEventSchema, turn.ending) }),
  });
}
