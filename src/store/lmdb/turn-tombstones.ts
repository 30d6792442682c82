/**
 * Turn ids that outlive their turns: for a week after a turn was deleted with
 * its session, a retry of it is told so instead of running again. They lie
 * among the replays, and expire with them.
 */
import { create } from "@bufbuild/protobuf";
import { ReplayRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import type { TurnRow } from "../../turns/turn.js";
import { unsealMessage } from "./codec.js";
import { putReplay } from "./replays.js";
import type { Transaction } from "./transaction.js";

const lifeMs = 7 * 24 * 3_600_000;

export function buryTurn(tx: Transaction, turn: TurnRow, nowMs: number): void {
  const record = create(ReplayRecordSchema, { requestHash: turn.payloadHash, expiresAtMs: nowMs + lifeMs });
  putReplay(tx, placeOf(turn.key.scope, turn.turnId), record);
}

/** Payload hash of a deleted turn. */
export function buriedTurn(
  tx: Transaction,
  scope: string,
  turnId: string,
  nowMs: number,
): Uint8Array | undefined {
  const sealed = tx.tables.get("replays", placeOf(scope, turnId));
  if (sealed === undefined) return undefined;
  const record = unsealMessage(ReplayRecordSchema, sealed, "replays");
  return record.expiresAtMs < nowMs ? undefined : record.requestHash;
}

/** No scope and no credential has a colon in its name. */
function placeOf(scope: string, turnId: string): readonly [string, string] {
  return [`turn:${scope}`, turnId];
}
