/** Sessions beside that of a key, for requests that do not go on from its last answer. */
import { fromBinary } from "@bufbuild/protobuf";
import { TurnEventSchema } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { noUsage, type SessionRow } from "../../sessions/session.js";
import { decideBranch } from "../../turns/branch.js";
import { hasEnded } from "../../turns/turn.js";
import type { AdmitCall } from "../../turns/turn-store.js";
import { sideOf } from "./chains.js";
import { readLastAnswer } from "./history.js";
import type { Tables } from "./tables.js";
import type { Transaction } from "./transaction.js";

export type Branch =
  | { readonly kind: "current" }
  /** To be the key's, in the place of a session of this generation. */
  | { readonly kind: "side"; readonly row: SessionRow; readonly generation: number }
  | { readonly kind: "new"; readonly beside: SessionRow };

/** Where a turn belongs whose client replays its history. */
export function branchOf(tables: Tables, { reserve, replayed }: AdmitCall): Branch {
  const { key } = reserve.reservation;
  const current = tables.current(key);
  if (replayed === undefined || current === undefined || current.archived !== undefined)
    return { kind: "current" };
  const { told, anchor } = replayed;
  const side = anchor === undefined ? undefined : sideOf(tables, key, anchor);
  const { turnCount, recordNo } = current;
  const lastAnswer = readLastAnswer(tables, recordNo);
  const partial = partialAnswer(tables, recordNo);
  const kind = decideBranch(told, {
    turnCount,
    ...(lastAnswer === undefined ? {} : { lastAnswer }),
    ...(partial === undefined ? {} : { partial }),
    isSide: side !== undefined,
  });
  if (kind === "side" && side !== undefined) return { kind, row: side, generation: current.generation };
  return kind === "new" ? { kind, beside: current } : { kind: "current" };
}

/** A new one, which the key does not point to. */
export function createSide(tx: Transaction, { reserve }: AdmitCall, beside: SessionRow): SessionRow {
  const { nowMs, newSessionId } = reserve;
  const { key, generation, workspace, labels } = beside;
  return tx.putSession(
    {
      recordNo: tx.next("recordNo"),
      key,
      sessionId: newSessionId,
      nativeState: "unbound",
      generation,
      archived: "rotated",
      createdAtMs: nowMs,
      startedAtMs: nowMs,
      lastActivityMs: nowMs,
      turnCount: 0,
      usage: noUsage,
      agentTotal: {},
      workspace,
      pinned: false,
      aliases: [],
      labels,
      revision: 0,
    },
    undefined,
  );
}

/** What the session's newest turn delivered of its answer, if that turn has ended without one. */
function partialAnswer(tables: Tables, recordNo: number): string | undefined {
  for (const [, turnNo] of tables.keysDown("sessionTurns", [recordNo, Number.MAX_SAFE_INTEGER], [recordNo])) {
    const turn = tables.turn(Number(turnNo));
    if (turn === undefined || !hasEnded(turn.state)) continue;
    if (turn.state === "COMPLETED" || turn.ending === undefined) return undefined;
    const { event } = fromBinary(TurnEventSchema, turn.ending);
    return event.case === "failed" || event.case === "cancelled" ? event.value.partialText : undefined;
  }
  return undefined;
}
