/** The writes of the turn port, each inside one transaction. */
import { withNativeId } from "../../sessions/binding.js";
import { type Refusal, refuse } from "../../sessions/refusal.js";
import { type Alias, addUsage, type SessionRow } from "../../sessions/session.js";
import type { Reserved, SessionView } from "../../sessions/session-store.js";
import { acceptedEvent } from "../../turns/accepted.js";
import { idReused, meetKnown } from "../../turns/repeats.js";
import { hasEnded, type TurnRow } from "../../turns/turn.js";
import { admittedTurn, endedTurn } from "../../turns/turn-rows.js";
import type {
  Admission,
  AdmitCall,
  Grant,
  GrantCall,
  JournalEntry,
  TurnEndCall,
} from "../../turns/turn-store.js";
import { type Branch, branchOf, createSide } from "./branches.js";
import { giveLink, isAt } from "./chains.js";
import { encodeBatch, seal } from "./codec.js";
import { standsAt, unfinishedTurn } from "./forks.js";
import { copyHistory, keepExchange } from "./history.js";
import { findMergeTarget, putMerge, settleMerges } from "./merge-commands.js";
import { applyReservation } from "./reserve-commands.js";
import { owesRestoreNotice, readRestored } from "./restored.js";
import { scopeFull } from "./scope-bound.js";
import { encodeNumber } from "./tables.js";
import type { Transaction } from "./transaction.js";
import { buriedTurn } from "./turn-tombstones.js";
import { countUsage } from "./usage.js";

/** Events of one record on disk; what fills it up may be longer. */
const batchBytes = 64 * 1024;
/** Ids of answers that a session is found by. */
const mostResponseIds = 16;

export function admit(tx: Transaction, call: AdmitCall): Admission {
  const { key } = call.reserve.reservation;
  // The id is looked up before anything else is judged: a retry meets its own effects.
  const known = tx.tables.turnById(call.turnId, { scopes: [key.scope] });
  if (known !== undefined) return meetKnown(known, call);
  const buried = buriedTurn(tx, key.scope, call.turnId, call.reserve.nowMs);
  if (buried !== undefined) {
    return Buffer.compare(buried, call.payloadHash) === 0 ? deleted(call.turnId) : idReused(call.turnId);
  }
  const current = tx.tables.current(key);
  if (call.onlySessionId !== undefined && current?.sessionId !== call.onlySessionId) {
    return refuse("SESSION_NOT_FOUND", `no live session has the id ${call.onlySessionId}`);
  }
  const lane = tx.tables.lane(key);
  if (call.chain?.anchor !== undefined && !isAt(current, lane, call.chain.anchor)) {
    return refuse("CONVERSATION_MOVED_ON", "the conversation has gone on meanwhile");
  }
  if (call.after !== undefined && !standsAt(tx.tables, current, call.after)) {
    return refuse("CONVERSATION_MOVED_ON", "the session has gone on since the turn");
  }
  const unfinished = call.forkOf && unfinishedTurn(tx.tables, call.forkOf);
  if (unfinished !== undefined) return unfinished;
  const before = lane.queuedTurns + (lane.runningTurnId === undefined ? 0 : 1);
  if (call.onConflict === "REJECT" && before > 0) {
    const turnId = lane.runningTurnId ?? tx.tables.busyTurnId(key) ?? "";
    return refuse("SESSION_BUSY", `turn ${turnId} runs or waits in the session`, { turn_id: turnId });
  }
  const branch = branchOf(tx.tables, call);
  const into = branch.kind === "current" ? findMergeTarget(tx, call) : undefined;
  if (into !== undefined && "kind" in into) return into;
  if (into === undefined && lane.queuedTurns >= call.maxWaitingInSession)
    return { kind: "queue-full", waiting: lane.queuedTurns };
  const reserved = reserveBranch(tx, call, branch, before > 0);
  if (reserved.kind === "refused") return reserved;
  if (reserved.kind === "ephemeral") throw new TypeError("an internal reservation has no turn");
  if (call.forkOf !== undefined) copyHistory(tx, call.forkOf, reserved.view.row.recordNo);
  const admission = writeAdmission(tx, call, reserved, before, into);
  if (admission.kind !== "admitted" || call.grantIfFree === undefined || before > 0) return admission;
  const granted = grant(tx, { ...call.grantIfFree, turnNo: admission.turn.turnNo });
  return granted === undefined ? admission : { ...admission, grant: granted };
}

/** A side session whose answer is gone on from becomes the key's, as soon as no turn is in its way. */
function reserveBranch(tx: Transaction, call: AdmitCall, branch: Branch, isBusy: boolean): Reserved {
  const { reserve } = call;
  if (branch.kind === "current") return applyReservation(tx, reserve);
  if (branch.kind === "side" && !isBusy) {
    const { row, generation } = branch;
    const reservation = { ...reserve.reservation, sessionId: row.sessionId, expectedGeneration: generation };
    return applyReservation(tx, { ...reserve, reservation });
  }
  const full =
    branch.kind === "new"
      ? scopeFull(tx, reserve.reservation.key.scope, reserve.sessionsPerScope)
      : undefined;
  if (full !== undefined) return full;
  const row = branch.kind === "side" ? branch.row : createSide(tx, call, branch.beside);
  return {
    kind: "reserved",
    outcome: branch.kind === "side" ? "EXISTING" : "CREATED",
    view: tx.tables.view(row),
  };
}

export function grant(tx: Transaction, call: GrantCall): Grant | undefined {
  const turn = tx.tables.turn(call.turnNo);
  if (turn === undefined || turn.state !== "QUEUED") return undefined;
  const session = tx.tables.row(turn.key, turn.recordNo);
  if (session === undefined) return undefined;
  const fence = tx.next("fence");
  const nativeStateBefore = session.nativeState;
  const mint =
    call.newNativeId !== undefined && (nativeStateBefore === "unbound" || nativeStateBefore === "lost");
  const bound = mint ? assignNativeId(session, call.newNativeId) : session;
  // Activity alone is no change: the first turn is, and a new native id.
  const changed = mint || session.turnCount === 0;
  const running = tx.putSession(
    {
      ...bound,
      turnCount: session.turnCount + 1,
      lastActivityMs: Math.max(session.lastActivityMs, call.nowMs),
      revision: changed ? 0 : session.revision,
    },
    session,
  );
  const granted: TurnRow = {
    ...turn,
    state: "RUNNING",
    startedAtMs: call.nowMs,
    fence,
    attempt: 1,
    reservedThrough: call.reserveThrough,
    ...(running.nativeId === undefined ? {} : { nativeId: running.nativeId }),
  };
  const last = lastHolder(tx, turn);
  const previousHolderLost = last?.external === true && last.state === "INTERRUPTED";
  const restoredFromMs = owesRestoreNotice(readRestored(tx.tables), turn.recordNo, last?.fence ?? 0);
  tx.putTurn(granted, turn);
  tx.enterLane(turn, fence);
  return {
    turn: granted,
    session: running,
    nativeStateBefore,
    previousHolderLost,
    ...(restoredFromMs === undefined ? {} : { restoredFromMs }),
  };
}

/** The same turn, with a fence that shuts out whoever held it before. */
export function regrant(tx: Transaction, call: { turnNo: number; nowMs: number }): Grant | undefined {
  const turn = tx.tables.turn(call.turnNo);
  const session = turn && tx.tables.row(turn.key, turn.recordNo);
  if (turn?.state !== "RUNNING" || !turn.external || session === undefined) return undefined;
  const granted: TurnRow = { ...turn, fence: tx.next("fence"), attempt: turn.attempt + 1 };
  tx.putTurn(granted, turn);
  tx.enterLane(turn, granted.fence ?? 0);
  return { turn: granted, session, nativeStateBefore: session.nativeState, previousHolderLost: true };
}

export function retry(
  tx: Transaction,
  call: { turnNo: number; fence: number; attempt: number; newNativeId?: string },
): boolean {
  const turn = holder(tx, call);
  if (turn === undefined) return false;
  const session = tx.tables.row(turn.key, turn.recordNo);
  if (session === undefined) return false;
  const { nativeId: lostId, systemDigest: _system, ...unbound } = session;
  const former = lostId === undefined ? [] : [{ id: lostId, kind: "former-native" as const }];
  tx.putSession(
    {
      ...unbound,
      ...(call.newNativeId === undefined ? {} : { nativeId: call.newNativeId }),
      nativeState: "lost",
      agentTotal: {},
      aliases: [...session.aliases, ...former],
      revision: 0,
    },
    session,
  );
  const { nativeId: _old, ...rest } = turn;
  tx.putTurn(
    {
      ...rest,
      attempt: call.attempt,
      ...(call.newNativeId === undefined ? {} : { nativeId: call.newNativeId }),
    },
    turn,
  );
  return true;
}

export function bindNative(
  tx: Transaction,
  call: { turnNo: number; fence: number; nativeId: string },
): boolean {
  const turn = holder(tx, call);
  if (turn === undefined) return false;
  const session = tx.tables.row(turn.key, turn.recordNo);
  if (session === undefined) return false;
  if (session.nativeId !== call.nativeId) tx.putSession(assignNativeId(session, call.nativeId), session);
  tx.putTurn({ ...turn, nativeId: call.nativeId }, turn);
  return true;
}

export function append(
  tx: Transaction,
  call: { turnNo: number; fence: number; entries: readonly JournalEntry[]; reserveThrough: number },
): boolean {
  const turn = holder(tx, call);
  if (turn === undefined) return false;
  const reservedThrough = Math.max(turn.reservedThrough, call.reserveThrough);
  tx.putTurn({ ...turn, ...writeEntries(tx, turn, call.entries), reservedThrough }, turn);
  return true;
}

export function end(tx: Transaction, call: TurnEndCall): boolean {
  const turn = tx.tables.turn(call.turnNo);
  if (turn === undefined || hasEnded(turn.state) || turn.fence !== call.fence) return false;
  const terminal = call.entries.at(-1);
  if (terminal === undefined) throw new TypeError("an ending has a terminal event");
  const journaled = { ...turn, ...writeEntries(tx, turn, call.entries.slice(0, -1)) };
  tx.putTurn(endedTurn(journaled, call, terminal), turn);
  tx.tables.delete("requests", turn.turnNo);
  settleMerges(tx, turn.turnNo, call.taken);
  if (call.exchange !== undefined) keepExchange(tx, turn, call.exchange);
  if (call.chainHead !== undefined) giveLink(tx.tables, turn, call.chainHead);
  if (call.fence !== undefined) {
    settleSession(tx, turn, call);
    countUsage(tx.tables, { key: turn.key, endedAtMs: call.endedAtMs, usage: call.usage });
  }
  tx.leaveLane(turn);
  return true;
}

function deleted(turnId: string): Refusal {
  return refuse("TURN_DELETED", `turn_id: ${turnId} ran before, and was deleted with its session`, {
    turn_id: turnId,
  });
}

/** The session after one of its turns ran. */
function settleSession(tx: Transaction, turn: TurnRow, call: TurnEndCall): void {
  const session = tx.tables.row(turn.key, turn.recordNo);
  if (session === undefined) return;
  const { native } = call;
  const bound =
    native === undefined
      ? session
      : native.state === "bound"
        ? withNativeId(session, native.id)
        : { ...session, nativeId: native.id, nativeState: native.state, revision: 0 };
  const { chainHead: headBefore, ...settled } = bound;
  // An answer that has no link leads nowhere, and neither does the one before it any more.
  const chainHead = call.state === "COMPLETED" ? call.chainHead : headBefore;
  tx.putSession(
    {
      ...settled,
      ...(chainHead === undefined ? {} : { chainHead }),
      lastActivityMs: Math.max(session.lastActivityMs, call.endedAtMs),
      usage: addUsage(session.usage, call.usage),
      agentTotal: call.agentTotal ?? session.agentTotal,
      ...(call.systemDigest === undefined ? {} : { systemDigest: call.systemDigest }),
      revision: bound === session ? session.revision : 0,
    },
    session,
  );
}

function writeAdmission(
  tx: Transaction,
  call: AdmitCall,
  reserved: Extract<Reserved, { kind: "reserved" }>,
  before: number,
  into: TurnRow | undefined,
): Admission {
  const { nowMs } = call.reserve;
  const session = admittedSession(tx, call, reserved.view.row);
  const turnNo = tx.next("turnNo");
  const view: SessionView = { row: session, lane: reserved.view.lane };
  const accepted = acceptedEvent({ ...call, view, reserved, queuePosition: before, nowMs });
  const turn = admittedTurn(call, session, { turnNo, accepted, ...(into === undefined ? {} : { into }) });
  tx.putTurn(turn, undefined);
  tx.tables.put("turnIds", [turn.key.scope, turn.turnId], encodeNumber(turnNo));
  tx.tables.put("sessionTurns", [turn.recordNo, turnNo], encodeNumber(turnNo));
  if (!call.external) tx.tables.put("requests", turnNo, seal(call.request));
  if (into !== undefined) {
    putMerge(tx, into, turnNo);
    return { kind: "merged", turn, into };
  }
  tx.enterLane(turn, 0);
  return {
    kind: "admitted",
    turn,
    outcome: reserved.outcome,
    ...(reserved.reason === undefined ? {} : { reason: reserved.reason }),
  };
}

/** The last turn of the session that had the lane. */
function lastHolder(tx: Transaction, turn: TurnRow): TurnRow | undefined {
  for (const key of tx.tables.keysDown("sessionTurns", [turn.recordNo, turn.turnNo - 1], [turn.recordNo])) {
    const before = tx.tables.turn(Number(key[1]));
    if (before?.fence !== undefined) return before;
  }
  return undefined;
}

/** The announcement of a rotation is paid with the first turn's Accepted. */
function admittedSession(tx: Transaction, call: AdmitCall, row: SessionRow): SessionRow {
  const { owedRotation, ...paid } = row;
  const { responseId } = call;
  if (owedRotation === undefined && responseId === undefined) return row;
  const aliases = responseId === undefined ? row.aliases : withResponseId(row.aliases, responseId);
  return tx.putSession({ ...paid, aliases, revision: 0 }, row);
}

/** The row is written and shown with each turn, so it must not grow with each. */
function withResponseId(aliases: readonly Alias[], responseId: string): readonly Alias[] {
  const responses = aliases.filter(({ kind }) => kind === "response");
  const outdated = new Set(responses.slice(0, Math.max(0, responses.length - mostResponseIds + 1)));
  return [...aliases.filter((alias) => !outdated.has(alias)), { id: responseId, kind: "response" }];
}

/** A native id that no turn has succeeded with. A lost conversation stays lost until one does. */
function assignNativeId(session: SessionRow, nativeId: string | undefined): SessionRow {
  if (nativeId === undefined) return session;
  const nativeState = session.nativeState === "lost" ? "lost" : "provisional";
  return { ...session, nativeId, nativeState, revision: 0 };
}

function holder(tx: Transaction, call: { turnNo: number; fence: number }): TurnRow | undefined {
  const turn = tx.tables.turn(call.turnNo);
  return turn?.state === "RUNNING" && turn.fence === call.fence ? turn : undefined;
}

/** In batches that a reader can take one at a time. */
function writeEntries(
  tx: Transaction,
  turn: TurnRow,
  entries: readonly JournalEntry[],
): Pick<TurnRow, "lastSequence" | "eventBytes"> {
  let { lastSequence, eventBytes } = turn;
  let batch: JournalEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    batch.push(entry);
    bytes += entry.event.length;
    if (bytes < batchBytes && entry !== entries.at(-1)) continue;
    const sealed = encodeBatch(batch.map(({ event }) => event));
    tx.tables.put("events", [turn.turnNo, batch[0]?.sequence ?? 0], sealed);
    eventBytes += sealed.length;
    lastSequence = entry.sequence;
    batch = [];
    bytes = 0;
  }
  return { lastSequence, eventBytes };
}
