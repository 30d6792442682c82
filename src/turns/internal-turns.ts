/**
 * Turns with visibility INTERNAL, such as a hand-off between agents: each runs
 * in a session of its own that no other turn joins. They live in memory, are
 * found by their turn id until ten minutes after their end, and leave nothing
 * in the store. Every other turn is the store's.
 */
import type { Clock } from "../clock.js";
import { noUsage, type SessionRow } from "../sessions/session.js";
import { type SessionView, scopeMatches, type Where } from "../sessions/session-store.js";
import { acceptedEvent } from "./accepted.js";
import type { KeptHistory } from "./history.js";
import type { Exchange } from "./provider.js";
import { meetKnown } from "./repeats.js";
import { hasEnded, type TurnRow } from "./turn.js";
import { admittedTurn, endedTurn } from "./turn-rows.js";
import type {
  Admission,
  AdmitCall,
  Grant,
  JournalEntry,
  Linked,
  TurnEndCall,
  TurnStore,
} from "./turn-store.js";

interface InternalTurn {
  row: TurnRow;
  session: SessionRow;
  readonly request: Uint8Array;
  readonly events: JournalEntry[];
  bytes: number;
  /** Monotonic; set at the end. */
  forgetAtMs: number;
}

const keptMs = 10 * 60_000;
/** Turns that have ended and hold more than this together are forgotten sooner, the oldest first. */
const keptBytes = 64 * 1024 * 1024;

export class InternalTurns implements TurnStore {
  readonly #turns = new Map<number, InternalTurn>();
  /** Two scopes may use the same id. */
  readonly #byTurnId = new Map<string, InternalTurn[]>();
  /** In order of their ends. */
  readonly #ended: InternalTurn[] = [];
  #endedBytes = 0;
  #lastNo = 0;

  constructor(
    private readonly store: TurnStore,
    private readonly clock: Pick<Clock, "monotonic">,
  ) {}

  async byTurnId(turnId: string, where: Where): Promise<TurnRow | undefined> {
    return this.#byId(turnId, where)?.row ?? (await this.store.byTurnId(turnId, where));
  }

  async byTurnNo(turnNo: number): Promise<TurnRow | undefined> {
    return isInternal(turnNo) ? this.#turns.get(turnNo)?.row : this.store.byTurnNo(turnNo);
  }

  async session(turn: TurnRow): Promise<SessionView | undefined> {
    if (!isInternal(turn.turnNo)) return this.store.session(turn);
    const found = this.#turns.get(turn.turnNo);
    return found === undefined ? undefined : { row: found.session, lane: { queuedTurns: 0 } };
  }

  async requests(turnNo: number): Promise<readonly Uint8Array[]> {
    if (!isInternal(turnNo)) return this.store.requests(turnNo);
    const turn = this.#turns.get(turnNo);
    return turn === undefined ? [] : [turn.request];
  }

  async events(
    turnNo: number,
    afterSequence: number,
    limit: number,
  ): Promise<readonly JournalEntry[] | "gone"> {
    if (!isInternal(turnNo)) return this.store.events(turnNo, afterSequence, limit);
    const events = this.#turns.get(turnNo)?.events ?? [];
    const from = events.findIndex(({ sequence }) => sequence > afterSequence);
    return from < 0 ? [] : events.slice(from, from + limit);
  }

  active(): Promise<readonly TurnRow[]> {
    return this.store.active();
  }

  async history(recordNo: number, maxBytes: number): Promise<KeptHistory> {
    return isInternal(recordNo)
      ? { exchanges: [], truncated: false }
      : this.store.history(recordNo, maxBytes);
  }

  async exchange(turn: Pick<TurnRow, "recordNo" | "turnNo">): Promise<Exchange | undefined> {
    return isInternal(turn.turnNo) ? undefined : this.store.exchange(turn);
  }

  async lastAnswer(recordNo: number): Promise<string | undefined> {
    return isInternal(recordNo) ? undefined : this.store.lastAnswer(recordNo);
  }

  followLink(...call: Parameters<TurnStore["followLink"]>): Promise<Linked | undefined> {
    return this.store.followLink(...call);
  }

  newestTurns(recordNo: number, limit: number): Promise<readonly TurnRow[]> {
    return this.store.newestTurns(recordNo, limit);
  }

  async admit(call: AdmitCall): Promise<Admission> {
    const { key, internal } = call.reserve.reservation;
    const where = { scopes: [key.scope] };
    const durable = internal ? await this.store.byTurnId(call.turnId, where) : undefined;
    const known = this.#byId(call.turnId, where)?.row ?? durable;
    if (known !== undefined) return meetKnown(known, call);
    if (!internal) return this.store.admit(call);
    const turn = admitted(call, --this.#lastNo);
    this.#turns.set(turn.row.turnNo, turn);
    this.#byTurnId.set(call.turnId, [...(this.#byTurnId.get(call.turnId) ?? []), turn]);
    return { kind: "admitted", turn: turn.row, outcome: "EPHEMERAL" };
  }

  unmerge(call: Parameters<TurnStore["unmerge"]>[0]): Promise<TurnRow | undefined> {
    return this.store.unmerge(call);
  }

  cancelMerged(call: TurnEndCall): Promise<boolean> {
    return this.store.cancelMerged(call);
  }

  async grant(call: Parameters<TurnStore["grant"]>[0]): Promise<Grant | undefined> {
    if (!isInternal(call.turnNo)) return this.store.grant(call);
    const turn = this.#turns.get(call.turnNo);
    if (turn === undefined || turn.row.state !== "QUEUED") return undefined;
    const native = call.newNativeId === undefined ? {} : { nativeId: call.newNativeId };
    turn.session = { ...turn.session, ...native, nativeState: "provisional", turnCount: 1 };
    turn.row = {
      ...turn.row,
      ...native,
      state: "RUNNING",
      startedAtMs: call.nowMs,
      fence: 0,
      attempt: 1,
      reservedThrough: call.reserveThrough,
    };
    return { turn: turn.row, session: turn.session, nativeStateBefore: "unbound", previousHolderLost: false };
  }

  regrant(call: Parameters<TurnStore["regrant"]>[0]): Promise<Grant | undefined> {
    return this.store.regrant(call);
  }

  async retry(call: Parameters<TurnStore["retry"]>[0]): Promise<boolean> {
    if (!isInternal(call.turnNo)) return this.store.retry(call);
    return this.#change(call.turnNo, ({ nativeId: _lost, ...row }) => ({
      ...row,
      attempt: call.attempt,
      ...(call.newNativeId === undefined ? {} : { nativeId: call.newNativeId }),
    }));
  }

  async bindNative(call: Parameters<TurnStore["bindNative"]>[0]): Promise<boolean> {
    if (!isInternal(call.turnNo)) return this.store.bindNative(call);
    return this.#change(call.turnNo, (row) => ({ ...row, nativeId: call.nativeId }));
  }

  async append(call: Parameters<TurnStore["append"]>[0]): Promise<boolean> {
    if (!isInternal(call.turnNo)) return this.store.append(call);
    return this.#change(call.turnNo, (row, turn) => {
      keep(turn, call.entries);
      return {
        ...row,
        lastSequence: call.entries.at(-1)?.sequence ?? row.lastSequence,
        reservedThrough: Math.max(row.reservedThrough, call.reserveThrough),
      };
    });
  }

  async end(call: TurnEndCall): Promise<boolean> {
    if (!isInternal(call.turnNo)) return this.store.end(call);
    const turn = this.#turns.get(call.turnNo);
    const terminal = call.entries.at(-1);
    if (turn === undefined || hasEnded(turn.row.state) || terminal === undefined) return false;
    keep(turn, call.entries.slice(0, -1));
    turn.row = endedTurn(turn.row, call, terminal);
    turn.forgetAtMs = this.clock.monotonic() + keptMs;
    this.#ended.push(turn);
    this.#endedBytes += turn.bytes;
    this.#forget();
    return true;
  }

  #byId(turnId: string, { scopes, provider }: Where): InternalTurn | undefined {
    this.#forget();
    return this.#byTurnId.get(turnId)?.find(({ row: { key } }) => {
      if (provider !== undefined && key.provider !== provider) return false;
      return scopes.some((pattern) => scopeMatches(pattern, key.scope));
    });
  }

  #change(turnNo: number, change: (row: TurnRow, turn: InternalTurn) => TurnRow): boolean {
    const turn = this.#turns.get(turnNo);
    if (turn?.row.state !== "RUNNING") return false;
    turn.row = change(turn.row, turn);
    return true;
  }

  #forget(): void {
    const nowMs = this.clock.monotonic();
    for (;;) {
      const [oldest] = this.#ended;
      if (oldest === undefined) return;
      if (nowMs < oldest.forgetAtMs && this.#endedBytes <= keptBytes) return;
      this.#ended.shift();
      this.#endedBytes -= oldest.bytes;
      const { turnNo, turnId } = oldest.row;
      this.#turns.delete(turnNo);
      const others = this.#byTurnId.get(turnId)?.filter((turn) => turn !== oldest) ?? [];
      if (others.length > 0) this.#byTurnId.set(turnId, others);
      else this.#byTurnId.delete(turnId);
    }
  }
}

/** Whether a turn, or the session of one, lives here. */
export function isInternal(turnOrRecordNo: number): boolean {
  return turnOrRecordNo < 0;
}

function admitted(call: AdmitCall, turnNo: number): InternalTurn {
  const { reservation, nowMs, newSessionId } = call.reserve;
  const session: SessionRow = {
    recordNo: turnNo,
    key: reservation.key,
    sessionId: newSessionId,
    nativeState: "unbound",
    generation: 1,
    createdAtMs: nowMs,
    startedAtMs: nowMs,
    lastActivityMs: nowMs,
    turnCount: 0,
    usage: noUsage,
    agentTotal: {},
    workspace: reservation.workspace,
    pinned: false,
    aliases: [],
    labels: reservation.labels,
    revision: 0,
  };
  const view: SessionView = { row: session, lane: { queuedTurns: 0 } };
  const reserved = { outcome: "EPHEMERAL" } as const;
  const accepted = acceptedEvent({ ...call, view, reserved, queuePosition: 0, nowMs });
  const row = admittedTurn(call, session, { turnNo, accepted });
  return { row, session, request: call.request, events: [], bytes: call.request.length, forgetAtMs: 0 };
}

function keep(turn: InternalTurn, entries: readonly JournalEntry[]): void {
  turn.events.push(...entries);
  for (const { event } of entries) turn.bytes += event.length;
}
