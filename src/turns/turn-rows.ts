/** What admitting and ending make of a turn's row. */
import { noUsage, type SessionRow } from "../sessions/session.js";
import type { TurnRow } from "./turn.js";
import type { AdmitCall, JournalEntry, TurnEndCall } from "./turn-store.js";

/** The row of a turn that has just ended. */
export function endedTurn(turn: TurnRow, call: TurnEndCall, terminal: JournalEntry): TurnRow {
  return {
    ...turn,
    state: call.state,
    endedAtMs: call.endedAtMs,
    ending: terminal.event,
    lastSequence: terminal.sequence,
    reservedThrough: terminal.sequence,
    usage: call.usage,
    ...(call.native === undefined ? {} : { nativeId: call.native.id }),
  };
}

function chainLinkOf({ chain, replayed }: AdmitCall): Pick<TurnRow, "chainLink"> {
  const link = chain?.link ?? replayed?.link;
  return link === undefined ? {} : { chainLink: link };
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
    ...chainLinkOf(call),
  };
}
