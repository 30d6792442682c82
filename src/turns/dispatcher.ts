/**
 * Takes turns, runs each when its session's lane and a slot of its provider are
 * free, and lets readers follow.
 *
 *     admit (on disk) ──▶ waiting ──lane and slot──▶ grant (on disk) ──▶ running ──▶ ended (on disk)
 *                            └── cancelled, or too late ──────────────────────────────┘
 *
 * The lane is let go only after the ending is on disk and the agent's processes
 * are gone.
 */
import type { PermissionDecision, PermissionRequest, TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type Clock, pause } from "../clock.js";
import { BrokerError } from "../errors.js";
import { keyText, type SessionKey } from "../sessions/key.js";
import type { Refusal } from "../sessions/refusal.js";
import { ActiveTurn } from "./active-turn.js";
import { restoredNotice } from "./briefing.js";
import { type Ending, queueTimeout, type StopReason, stopped } from "./endings.js";
import { ExternalTurns } from "./external-turns.js";
import { followTurn, type IfExpired } from "./follow.js";
import { turnEnded } from "./held-lane.js";
import { Lanes } from "./lanes.js";
import { Merging } from "./merging.js";
import { type PermissionAnswer, Permissions } from "./permissions.js";
import type { Provider } from "./provider.js";
import { Readers } from "./readers.js";
import { decideRestart, endWithoutRun } from "./restart.js";
import { type RunTurnDeps, runTurn, startedOutside, type TurnRequest } from "./run-turn.js";
import { StuckLanes } from "./stuck-lanes.js";
import { hasEnded, type TurnRow } from "./turn.js";
import { reserveBlock, TurnLog } from "./turn-log.js";
import type { Admission, AdmitCall, Grant, GrantCall, TurnStore } from "./turn-store.js";
import type { TraceCarrier, TurnTrace } from "./turn-trace.js";

export interface DispatcherLimits {
  /** Turns that run at once, over all providers. */
  readonly running: number;
  /** Turns that wait, over all sessions. */
  readonly waiting: number;
  /** Turns that wait of one grant, so that none of them shuts out the others. */
  readonly waitingOfGrant: number;
  /** Turns that wait in one session. */
  readonly waitingInSession: number;
  /** How long a turn that collects waits for more text after the last, at most `longestCollectMs`. */
  readonly collectDebounceMs: number;
  /** Readers of one turn at once. */
  readonly readersPerTurn: number;
  /** Events of a running turn that are held in memory for its readers, in bytes. */
  readonly readerBufferBytes: number;
}

export interface DispatcherDeps extends Omit<RunTurnDeps, "now" | "pause" | "stuck"> {
  /** Which of these processes still run. */
  readonly stillRunning: (pids: readonly number[]) => Promise<readonly number[]>;
  readonly store: TurnStore;
  readonly clock: Clock;
  readonly providers: ReadonlyMap<string, Provider>;
  readonly limits: DispatcherLimits;
  /** Reads what a caller asked for from the request that was kept. */
  readonly readRequest: (encoded: Uint8Array) => TurnRequest;
  /** Told of each turn that has been given its lane. */
  readonly onStarted?: (turn: TurnRow) => void;
  /** Default: turns are not traced. */
  readonly traceTurn?: (turn: TurnRow, parent: TraceCarrier) => TurnTrace;
  /** Told of each turn that has ended, for the log line and the metrics. */
  readonly onEnded: (turn: TurnRow) => void;
}

/** An admission, less what the dispatcher knows itself. */
export type AdmitRequest = Omit<AdmitCall, "maxWaitingInSession" | "canSteer">;

export type CancelAction = "REMOVED_FROM_QUEUE" | "INTERRUPTING" | "ALREADY_ENDED" | "DETACHED";

/** A turn that has its lane; without an agent, its caller runs it. */
interface Begun {
  readonly grant: Grant;
  readonly agent?: { readonly provider: Provider; readonly request: TurnRequest };
}

const retryAfterMs = 1_000;
/** Between attempts of a write that failed. */
const storeRetryMs = 1_000;

export class Dispatcher {
  readonly #active = new Map<number, ActiveTurn>();
  readonly #readers: Readers;
  readonly #admitting = new Set<Promise<unknown>>();
  /** By turn number; each resolves once the lane is free again. */
  readonly #runs = new Map<number, Promise<void>>();
  readonly #lanes: Lanes<ActiveTurn>;
  readonly #merging: Merging;
  /** Turns whose callers run the agent. */
  readonly external: ExternalTurns;
  readonly stuck: StuckLanes;
  #draining = false;

  constructor(private readonly deps: DispatcherDeps) {
    this.#lanes = new Lanes({
      running: deps.limits.running,
      runningOf: (provider) => deps.providers.get(provider)?.maxRunning ?? 0,
    });
    this.stuck = new StuckLanes({ ...deps, pause: (ms) => pause(deps.clock, ms) });
    this.#merging = new Merging({
      ...deps,
      collectDebounceMs: deps.limits.collectDebounceMs,
      inputOf: (encoded) => deps.readRequest(encoded).input,
      active: (turnNo) => this.#active.get(turnNo),
      wait: (row) => {
        this.#wait(row, false);
        this.#runWhatCan();
      },
      release: (turn) => {
        this.#lanes.unhold(turn);
        this.#runWhatCan();
      },
      draining: () => this.#draining,
    });
    this.#readers = new Readers({
      clock: deps.clock,
      mostPerTurn: deps.limits.readersPerTurn,
      cancel: (turn) => {
        this.cancel(turn.row, "DISCONNECTED").catch((error: unknown) => {
          deps.log("a turn without readers could not be cancelled", error);
        });
      },
    });
    this.external = new ExternalTurns({
      ...deps,
      find: (turnNo) => this.#find(turnNo),
      leave: (turn) => this.#readers.leave(turn),
      over: (turnNo) => this.#runs.get(turnNo),
      draining: () => this.#draining,
    });
  }

  get running(): number {
    return this.#lanes.running;
  }

  get waiting(): number {
    return this.#lanes.waiting;
  }

  get draining(): boolean {
    return this.#draining;
  }

  runningOf(provider: string): number {
    return this.#lanes.runningOf(provider);
  }

  waitingOf(provider: string): number {
    return this.#lanes.waitingOf(provider);
  }

  /** Turns that have readers, ended or not. */
  reading(): readonly number[] {
    return this.#readers.turns();
  }

  /** Settles what a former process left, and lets what still waits run. */
  async restart(): Promise<void> {
    const nowMs = this.deps.clock.now();
    for (const row of await this.deps.store.active()) {
      const decision = decideRestart(row, this.deps.providers.has(row.key.provider), nowMs);
      if (decision.kind === "wait-again") this.#wait(row, false);
      else if (decision.kind === "still-held") this.#holdAgain(row);
      else if (await this.deps.store.end(endWithoutRun(row, decision.ending, nowMs))) {
        await this.#tellEnded(row.turnNo);
      }
    }
    this.#runWhatCan();
  }

  /**
   * @param trace that the turn is part of, if this call admits it
   * @throws BrokerError DRAINING, QUEUE_FULL
   */
  async admit(
    request: AdmitRequest,
    trace: TraceCarrier = {},
  ): Promise<Exclude<Admission, { kind: "queue-full" }>> {
    if (this.#draining) throw new BrokerError("DRAINING", "the broker is stopping", {}, retryAfterMs);
    const { limits } = this.deps;
    const { key } = request.reserve.reservation;
    const canSteer = this.deps.providers.get(key.provider)?.capabilities.steer ?? false;
    const full = this.#fullQueue(request.grant);
    if (full !== undefined || request.onConflict === "INTERRUPT") {
      // A retry of a turn that is known meets it, however many wait, and asks nobody to let go.
      const known = await this.deps.store.byTurnId(request.turnId, { scopes: [key.scope] });
      if (known === undefined && full !== undefined) throw queueFull(full);
      if (known === undefined && request.onConflict === "INTERRUPT") {
        await this.external.askToLetGo(this.#lanes.runningIn(keyText(key)));
      }
    }
    const call = { ...request, canSteer, maxWaitingInSession: limits.waitingInSession };
    const admission = await this.#track(this.#admit(call, trace));
    if (admission.kind === "queue-full") {
      throw queueFull(
        `${admission.waiting} turns wait in the session already, and limits.waiting_turns_per_session allows no more`,
      );
    }
    return admission.kind === "merged" ? this.#merging.steer(admission, call.request) : admission;
  }

  /** Why no more turns of a grant may wait. */
  #fullQueue(grant: string): string | undefined {
    const { limits } = this.deps;
    if (this.#lanes.waiting >= limits.waiting)
      return `${limits.waiting} turns wait already, and limits.waiting_turns allows no more`;
    if (this.#lanes.waitingOfGrant(grant) < limits.waitingOfGrant) return undefined;
    return `${limits.waitingOfGrant} turns of your grant wait already, and limits.waiting_turns_per_grant allows no more`;
  }

  /** The events of a turn after a sequence, to its end. */
  async *follow(
    row: TurnRow,
    afterSequence: number,
    signal: AbortSignal,
    ifExpired?: IfExpired,
  ): AsyncGenerator<TurnEvent> {
    const followed = row.state === "MERGED" ? await this.#merging.target(row) : row;
    const { turnNo } = followed;
    const reading = this.#readers.begin(row, turnNo);
    try {
      const active = hasEnded(followed.state) ? undefined : await this.#find(turnNo);
      if (active !== undefined) this.#readers.attach(reading, active);
      const deps = { store: this.deps.store, now: this.deps.clock.now };
      yield* followTurn(deps, active?.row ?? followed, active, afterSequence, signal, ifExpired);
    } finally {
      this.#readers.end(reading);
    }
  }

  async cancel(row: TurnRow, reason: StopReason = "REQUESTED"): Promise<CancelAction> {
    if (hasEnded(row.state)) return "ALREADY_ENDED";
    if (row.state === "MERGED") {
      const answer = await this.#merging.cancel(row, reason);
      return typeof answer === "string" ? answer : this.cancel(answer, reason);
    }
    const active = await this.#find(row.turnNo);
    if (active === undefined) return "ALREADY_ENDED";
    if (this.#lanes.remove(active)) {
      await this.#endWaiting(active, stopped({ reason }, "", 1));
      return "REMOVED_FROM_QUEUE";
    }
    active.stop(reason);
    return "INTERRUPTING";
  }

  /** Questions of the turn's agent that nobody has answered yet. */
  async pendingPermissions(row: TurnRow): Promise<readonly PermissionRequest[]> {
    const turn = hasEnded(row.state) ? undefined : await this.#find(row.turnNo);
    return turn?.permissions.pending ?? [];
  }

  /** @throws BrokerError TURN_ENDED, PERMISSION_NOT_FOUND, PERMISSION_DECIDED, PERMISSION_MISMATCH */
  async respondPermission(row: TurnRow, answer: PermissionAnswer): Promise<PermissionDecision> {
    const turn = hasEnded(row.state) ? undefined : await this.#find(row.turnNo);
    if (turn === undefined) throw turnEnded(row.turnId);
    return turn.permissions.respond(answer);
  }

  /** Cancels every turn of a session, and waits until its lane is free. */
  async cancelAll(key: SessionKey): Promise<void> {
    const lane = keyText(key);
    for (const turn of [...this.#lanes.waitingIn(lane)]) {
      if (this.#lanes.remove(turn)) await this.#endWaiting(turn, stopped({ reason: "SESSION_ENDED" }, "", 1));
    }
    const running = this.#lanes.runningIn(lane);
    if (running === undefined) return;
    running.stop("SESSION_ENDED");
    await this.#runs.get(running.turnNo);
  }

  /** Takes no more turns; lets the running ones end by the deadline, then stops them. */
  async drain(deadlineMs: number): Promise<void> {
    this.#draining = true;
    // They go on: their callers come back to the next life of the broker.
    for (const turn of this.#active.values()) if (turn.row.external) turn.heldLane?.leave();
    const cancel = this.deps.clock.after(deadlineMs, () => this.stopNow());
    await Promise.allSettled(this.#admitting);
    while (this.#runs.size > 0) await Promise.allSettled(this.#runs.values());
    cancel();
    // What waits still waits in the next life.
    for (const turn of this.#active.values()) turn.setDeadline(undefined);
    await this.#readers.lastWords();
  }

  /**
   * Ends the process that is kept of a session, if there is one: somebody else is
   * to have its conversation, or nobody (ruling 27).
   */
  async releaseAgent({ key, recordNo }: Pick<TurnRow, "key" | "recordNo">): Promise<void> {
    const { provider } = key;
    const left = (await this.deps.providers.get(provider)?.release(recordNo)) ?? [];
    if (left.length === 0) return;
    this.deps.log("a process of a session cannot be ended", new Error(`pids ${left.join(", ")}`));
  }

  /** Ends the running turns as INTERRUPTED. */
  stopNow(): void {
    this.#draining = true;
    this.stuck.giveUp();
    for (const turn of this.#active.values()) turn.stop("BROKER_STOPPED");
  }

  /** An external turn of an earlier life: its caller may still be running it. */
  #holdAgain(row: TurnRow): void {
    const turn = this.#activate(row);
    turn.granted = row;
    this.#lanes.resume(turn);
    this.#start(turn, this.external.hold(turn));
  }

  /** With the lane at once, in one write, if it is idle and a slot is free. */
  async #admit(call: AdmitCall, trace: TraceCarrier): Promise<Admission> {
    const { key, internal } = call.reserve.reservation;
    const provider = this.deps.providers.get(key.provider);
    const mayRun = provider !== undefined && !internal && !call.external && call.onConflict !== "COLLECT";
    const reservation = mayRun ? this.#lanes.reserve(keyText(key), key) : undefined;
    if (provider === undefined || reservation === undefined) {
      return this.#register(await this.deps.store.admit(call), trace);
    }
    let admission: Admission;
    try {
      admission = await this.deps.store.admit({ ...call, grantIfFree: this.#grantCall(provider, false) });
    } catch (error) {
      reservation.cancel();
      this.#runWhatCan();
      throw error;
    }
    if (admission.kind !== "admitted" || admission.grant === undefined) {
      const registered = this.#register(admission, trace);
      reservation.cancel();
      this.#runWhatCan();
      return registered;
    }
    const turn = this.#activate(admission.turn, trace);
    reservation.take(turn);
    this.#tellPositions(turn.lane);
    const request = this.deps.readRequest(call.request);
    this.#start(turn, this.#runGranted(turn, { grant: admission.grant, agent: { provider, request } }));
    return admission;
  }

  #grantCall(provider: Provider | undefined, external: boolean): Omit<GrantCall, "turnNo"> {
    const brokerAssigns = provider?.capabilities.assignsNativeId === "broker";
    return {
      nowMs: this.deps.clock.now(),
      reserveThrough: 1 + blockOf({ external }),
      ...(brokerAssigns ? { newNativeId: this.deps.newNativeId() } : {}),
    };
  }

  #register(admission: Admission, trace: TraceCarrier): Admission {
    if (admission.kind === "merged") this.#merging.collectOn(this.#active.get(admission.into.turnNo));
    if (admission.kind !== "admitted") return admission;
    this.#wait(admission.turn, admission.turn.onConflict === "COLLECT", trace);
    this.#runWhatCan();
    return admission;
  }

  /** Stops the turn that runs, and one that waits to interrupt it, and goes before all that wait. */
  #interrupt(turn: ActiveTurn): void {
    const { turnId } = turn.row;
    for (const other of [...this.#lanes.waitingIn(turn.lane)]) {
      if (other === turn || other.row.onConflict !== "INTERRUPT" || !this.#lanes.remove(other)) continue;
      this.#endWaiting(other, stopped({ reason: "SUPERSEDED", byTurnId: turnId }, "", 1)).catch(
        (error: unknown) => this.deps.log("a superseded turn could not be ended", error),
      );
    }
    this.#lanes.toHead(turn);
    this.#lanes.runningIn(turn.lane)?.stop("SUPERSEDED", turnId);
  }

  /** Puts an admitted turn into its lane. */
  #wait(row: TurnRow, collecting: boolean, trace: TraceCarrier = {}): void {
    const { clock } = this.deps;
    const turn = this.#activate(row, trace);
    turn.held = collecting;
    this.#lanes.enqueue(turn);
    turn.setDeadline(clock.after(row.queueDeadlineMs - clock.now(), () => this.#expire(turn)));
    this.#merging.collectOn(turn);
    if (row.onConflict === "INTERRUPT") this.#interrupt(turn);
    this.#tellPositions(turn.lane);
  }

  #activate(row: TurnRow, trace: TraceCarrier = {}): ActiveTurn {
    const { clock, store } = this.deps;
    const fence = () => turn.granted?.fence ?? 0;
    const log = new TurnLog(
      row.turnId,
      clock,
      (entries, reserveThrough) =>
        store.append({ turnNo: row.turnNo, fence: fence(), entries, reserveThrough }),
      (error) => {
        this.deps.log("the journal of a turn cannot be written; the turn is stopped", error);
        turn.stop("STORE_FAILED");
      },
      row.reservedThrough,
      blockOf(row),
      this.deps.limits.readerBufferBytes,
    );
    const turn = new ActiveTurn(row, log, new Permissions(log, clock), this.deps.traceTurn?.(row, trace));
    this.#active.set(row.turnNo, turn);
    return turn;
  }

  #runWhatCan(): void {
    for (;;) {
      const turn = this.#draining ? undefined : this.#lanes.take();
      if (turn === undefined) return;
      this.#start(turn, this.#run(turn));
    }
  }

  /** The turn has its lane until `run` resolves. */
  #start(turn: ActiveTurn, run: Promise<void>): void {
    const done = run
      .then(() => this.#tellEnded(turn.turnNo, turn.trace))
      .finally(() => {
        this.#runs.delete(turn.turnNo);
        this.#lanes.release(turn);
        this.#active.delete(turn.turnNo);
        this.#runWhatCan();
      });
    this.#runs.set(turn.turnNo, done);
  }

  async #tellEnded(turnNo: number, trace?: TurnTrace): Promise<void> {
    try {
      const row = await this.deps.store.byTurnNo(turnNo);
      trace?.ended(row?.state ?? "");
      if (row !== undefined && hasEnded(row.state)) this.deps.onEnded(row);
    } catch (error) {
      this.deps.log("a turn that has ended could not be read", error);
    }
  }

  /** Never rejects: what it cannot do it tries again, until the process ends. */
  async #run(turn: ActiveTurn): Promise<void> {
    turn.setDeadline(undefined);
    this.#tellPositions(turn.lane);
    const begun = await this.#begin(turn);
    if (begun === undefined) turn.overtaken();
    else await this.#runGranted(turn, begun);
  }

  async #runGranted(turn: ActiveTurn, { grant, agent }: Begun): Promise<void> {
    turn.granted = grant.turn;
    turn.previousHolderLost = grant.previousHolderLost;
    turn.log.reserved(1 + blockOf(turn.row));
    turn.trace?.started();
    this.deps.onStarted?.(turn.granted);
    if (agent === undefined) {
      const { key, recordNo } = grant.turn;
      const left = (await this.deps.providers.get(key.provider)?.release(recordNo)) ?? [];
      await this.stuck.gone({ recordNo, provider: key.provider }, left);
      turn.log.add(startedOutside(grant));
      if (grant.restoredFromMs !== undefined) turn.log.add(restoredNotice(grant.restoredFromMs));
      await this.external.hold(turn);
      return;
    }
    await runTurn(this.#runDeps(), agent.provider, turn, grant, agent.request);
  }

  /** Grants the lane on disk. Undefined if the turn has ended, or the process is. */
  async #begin(turn: ActiveTurn): Promise<Begun | undefined> {
    const provider = turn.row.external ? undefined : this.deps.providers.get(turn.key.provider);
    if (provider === undefined && !turn.row.external) return undefined;
    let grant: Grant | undefined;
    while (!this.#draining || grant !== undefined) {
      try {
        const { turnNo, external } = turn.row;
        grant ??= await this.deps.store.grant({ turnNo, ...this.#grantCall(provider, external) });
        if (grant === undefined) return undefined;
        if (provider === undefined) return { grant };
        // Read since it has the lane: until then other turns' text could go into it.
        const [own, ...merged] = await this.deps.store.requests(turn.turnNo);
        if (own === undefined) return undefined;
        const request = this.deps.readRequest(own);
        const more = merged.flatMap((encoded) => this.deps.readRequest(encoded).input);
        return { grant, agent: { provider, request: { ...request, input: [...request.input, ...more] } } };
      } catch (error) {
        this.deps.log("a lane could not be granted; trying again", error);
        await pause(this.deps.clock, storeRetryMs);
      }
    }
    return undefined;
  }

  #runDeps(): RunTurnDeps {
    const { clock } = this.deps;
    return {
      ...this.deps,
      now: clock.now,
      stuck: this.stuck,
      pause: (ms) => pause(clock, ms),
    };
  }

  #expire(turn: ActiveTurn): void {
    if (!this.#lanes.remove(turn)) return;
    this.#endWaiting(turn, queueTimeout()).catch((error: unknown) => {
      this.deps.log("a turn that waited too long could not be ended", error);
    });
  }

  /** Ends a turn that has left its lane. What cannot be written is told, and tried again until it is. */
  async #endWaiting(turn: ActiveTurn, ending: Ending): Promise<void> {
    turn.setDeadline(undefined);
    this.#tellPositions(turn.lane);
    try {
      const { event, entries } = await turn.log.conclude(ending.payload);
      const end = endWithoutRun(turn.row, ending, this.deps.clock.now());
      const first = await this.deps.store.end({ ...end, entries });
      this.#active.delete(turn.turnNo);
      if (first) turn.log.finish(event);
      else turn.overtaken();
    } catch (error) {
      this.#endLater(turn, ending);
      throw error;
    }
    await this.#tellEnded(turn.turnNo, turn.trace);
  }

  #endLater(turn: ActiveTurn, ending: Ending): void {
    this.deps.clock.after(storeRetryMs, () => {
      // After a restart the turn waits again, or is ended then.
      if (this.#draining) return;
      this.#endWaiting(turn, ending).catch((error: unknown) => {
        this.deps.log("the ending of a turn that waited could not be written; trying again", error);
      });
    });
  }

  #tellPositions(lane: string): void {
    const ahead = this.#lanes.isTaken(lane) ? 1 : 0;
    for (const [index, turn] of this.#lanes.waitingIn(lane).entries()) turn.log.position = ahead + index;
  }

  /** The turn in this process; waits for admissions that are being registered. */
  async #find(turnNo: number): Promise<ActiveTurn | undefined> {
    const found = this.#active.get(turnNo);
    if (found !== undefined) return found;
    await Promise.allSettled(this.#admitting);
    return this.#active.get(turnNo);
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#admitting.add(work);
    try {
      return await work;
    } finally {
      this.#admitting.delete(work);
    }
  }
}

/** An external turn may outlive this process and must go on without a gap in its sequences. */
function blockOf({ external }: Pick<TurnRow, "external">): number {
  return external ? 0 : reserveBlock;
}

function queueFull(message: string): BrokerError {
  return new BrokerError("QUEUE_FULL", message, {}, retryAfterMs);
}

/** A refusal as the error that the caller is told. */
export function refusalError(refusal: Refusal): BrokerError {
  return new BrokerError(refusal.reason, refusal.message, refusal.metadata);
}
