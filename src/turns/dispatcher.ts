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
import type { TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { Clock } from "../clock.js";
import { BrokerError } from "../errors.js";
import type { SessionKey } from "../sessions/key.js";
import type { Refusal } from "../sessions/refusal.js";
import { ActiveTurn } from "./active-turn.js";
import { type Ending, queueTimeout, type StopReason, stopped } from "./endings.js";
import { followTurn, type IfExpired } from "./follow.js";
import { Lanes } from "./lanes.js";
import type { Provider } from "./provider.js";
import { Readers } from "./readers.js";
import { decideRestart, endWithoutRun } from "./restart.js";
import { type RunTurnDeps, runTurn, type TurnRequest } from "./run-turn.js";
import { hasEnded, type TurnRow } from "./turn.js";
import { reserveBlock, TurnLog } from "./turn-log.js";
import type { Admission, AdmitCall, Grant, TurnStore } from "./turn-store.js";

export interface DispatcherLimits {
  /** Turns that run at once, over all providers. */
  readonly running: number;
  /** Turns that wait, over all sessions. */
  readonly waiting: number;
  /** Turns that wait in one session. */
  readonly waitingInSession: number;
}

export interface DispatcherDeps extends Omit<RunTurnDeps, "now" | "pause"> {
  readonly store: TurnStore;
  readonly clock: Clock;
  readonly providers: ReadonlyMap<string, Provider>;
  readonly limits: DispatcherLimits;
  /** Reads what a caller asked for from the request that was kept. */
  readonly readRequest: (encoded: Uint8Array) => TurnRequest;
  /** Told of each turn that has ended, for the log line and the metrics. */
  readonly onEnded: (turn: TurnRow) => void;
}

/** An admission, less what the dispatcher knows itself. */
export type AdmitRequest = Omit<AdmitCall, "maxWaitingInSession">;

export type CancelAction = "REMOVED_FROM_QUEUE" | "INTERRUPTING" | "ALREADY_ENDED";

/** How long a turn that says CANCEL goes on without a reader. */
const disconnectGraceMs = 30_000;
const retryAfterMs = 1_000;
const lastWordsMs = 5_000;
const lastWordsStepMs = 10;
/** Between attempts of a write that failed. */
const storeRetryMs = 1_000;

export class Dispatcher {
  readonly #active = new Map<number, ActiveTurn>();
  /** Readers of turns that had not ended when they came. */
  readonly #reading = new Set<{ readonly active: ActiveTurn }>();
  readonly #readers = new Readers();
  readonly #admitting = new Set<Promise<unknown>>();
  /** By turn number; each resolves once the lane is free again. */
  readonly #runs = new Map<number, Promise<void>>();
  readonly #lanes: Lanes<ActiveTurn>;
  #draining = false;

  constructor(private readonly deps: DispatcherDeps) {
    this.#lanes = new Lanes({
      running: deps.limits.running,
      runningOf: (provider) => deps.providers.get(provider)?.maxRunning ?? 0,
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

  /** Turns that have readers, ended or not. */
  reading(): readonly number[] {
    return this.#readers.turns();
  }

  /** Settles what a former process left, and lets what still waits run. */
  async restart(): Promise<void> {
    const nowMs = this.deps.clock.now();
    for (const row of await this.deps.store.active()) {
      const decision = decideRestart(row, this.deps.providers.has(row.key.provider), nowMs);
      if (decision.kind === "wait-again") this.#wait(row);
      else await this.deps.store.end(endWithoutRun(row, decision.ending, nowMs));
    }
    this.#runWhatCan();
  }

  /** @throws BrokerError DRAINING, QUEUE_FULL */
  async admit(request: AdmitRequest): Promise<Exclude<Admission, { kind: "queue-full" }>> {
    if (this.#draining) throw new BrokerError("DRAINING", "the broker is stopping", {}, retryAfterMs);
    const { limits } = this.deps;
    const call = { ...request, maxWaitingInSession: limits.waitingInSession };
    if (this.#lanes.waiting >= limits.waiting) {
      // A retry of a turn that is known meets it, however many wait.
      const known = await this.deps.store.byTurnId(request.turnId, {
        scopes: [request.reserve.reservation.key.scope],
      });
      if (known === undefined) throw queueFull(`${limits.waiting} turns wait already`);
    }
    const admission = await this.#track(this.deps.store.admit(call).then((result) => this.#register(result)));
    if (admission.kind === "queue-full") {
      throw queueFull(`${admission.waiting} turns wait in the session already`);
    }
    return admission;
  }

  /** The events of a turn after a sequence, to its end. */
  async *follow(
    row: TurnRow,
    afterSequence: number,
    signal: AbortSignal,
    ifExpired?: IfExpired,
  ): AsyncGenerator<TurnEvent> {
    const leave = this.#readers.enter(row.turnNo);
    const active = hasEnded(row.state) ? undefined : await this.#find(row.turnNo);
    if (active !== undefined) active.readers += 1;
    const reading = active === undefined ? undefined : { active };
    if (reading !== undefined) this.#reading.add(reading);
    try {
      const deps = { store: this.deps.store, now: this.deps.clock.now };
      yield* followTurn(deps, active?.row ?? row, active, afterSequence, signal, ifExpired);
    } finally {
      leave();
      if (reading !== undefined) this.#reading.delete(reading);
      if (active !== undefined) this.#leave(active);
    }
  }

  async cancel(row: TurnRow, reason: StopReason = "REQUESTED"): Promise<CancelAction> {
    if (hasEnded(row.state)) return "ALREADY_ENDED";
    const active = await this.#find(row.turnNo);
    if (active === undefined) return "ALREADY_ENDED";
    if (this.#lanes.remove(active)) {
      await this.#endWaiting(active, stopped(reason, "", 1));
      return "REMOVED_FROM_QUEUE";
    }
    active.stop(reason);
    return "INTERRUPTING";
  }

  /** Cancels every turn of a session, and waits until its lane is free. */
  async cancelAll(key: SessionKey): Promise<void> {
    for (const turn of [...this.#lanes.waitingIn(key)]) {
      if (this.#lanes.remove(turn)) await this.#endWaiting(turn, stopped("SESSION_ENDED", "", 1));
    }
    const running = this.#lanes.runningIn(key);
    if (running === undefined) return;
    running.stop("SESSION_ENDED");
    await this.#runs.get(running.turnNo);
  }

  /** Takes no more turns; lets the running ones end by the deadline, then stops them. */
  async drain(deadlineMs: number): Promise<void> {
    this.#draining = true;
    const cancel = this.deps.clock.after(deadlineMs, () => this.stopNow());
    while (this.#runs.size > 0) await Promise.allSettled(this.#runs.values());
    cancel();
    await this.#lastWords();
  }

  /** Lets readers of turns that have ended read the ending, for a while. */
  async #lastWords(): Promise<void> {
    const { clock } = this.deps;
    const untilMs = clock.monotonic() + lastWordsMs;
    const anyLeft = () => [...this.#reading].some(({ active }) => active.log.ended);
    while (anyLeft() && clock.monotonic() < untilMs) {
      await new Promise<void>((resolve) => clock.after(lastWordsStepMs, resolve));
    }
  }

  /** Ends the running turns as INTERRUPTED. */
  stopNow(): void {
    this.#draining = true;
    for (const turn of this.#active.values()) turn.stop("BROKER_STOPPED");
  }

  #register(admission: Admission): Admission {
    if (admission.kind !== "admitted") return admission;
    this.#wait(admission.turn);
    this.#runWhatCan();
    return admission;
  }

  /** Puts an admitted turn into its lane. */
  #wait(row: TurnRow): void {
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
    );
    const turn = new ActiveTurn(row, log);
    this.#active.set(row.turnNo, turn);
    this.#lanes.enqueue(turn);
    turn.setDeadline(clock.after(row.queueDeadlineMs - clock.now(), () => this.#expire(turn)));
    this.#tellPositions(row.key);
  }

  #runWhatCan(): void {
    for (;;) {
      const turn = this.#draining ? undefined : this.#lanes.take();
      if (turn === undefined) return;
      const run = this.#run(turn).finally(() => {
        this.#runs.delete(turn.turnNo);
        this.#lanes.release(turn);
        this.#active.delete(turn.turnNo);
        this.#runWhatCan();
      });
      this.#runs.set(turn.turnNo, run);
    }
  }

  /** Never rejects: what it cannot do it tries again, until the process ends. */
  async #run(turn: ActiveTurn): Promise<void> {
    turn.setDeadline(undefined);
    this.#tellPositions(turn.key);
    const deps = this.#runDeps();
    const begun = await this.#begin(turn, deps);
    if (begun === undefined) {
      turn.overtaken();
      return;
    }
    turn.granted = begun.grant.turn;
    turn.log.reserved(reserveBlock);
    await runTurn(deps, begun.provider, turn, begun.grant, begun.request);
    const ended = await this.deps.store.byTurnNo(turn.turnNo);
    if (ended !== undefined) this.deps.onEnded(ended);
  }

  /** Grants the lane on disk. Undefined if the turn has ended, or the process is. */
  async #begin(
    turn: ActiveTurn,
    deps: RunTurnDeps,
  ): Promise<{ provider: Provider; grant: Grant; request: TurnRequest } | undefined> {
    const provider = this.deps.providers.get(turn.key.provider);
    if (provider === undefined) return undefined;
    const brokerAssigns = provider.capabilities.assignsNativeId === "broker";
    while (!this.#draining) {
      try {
        const encoded = await this.deps.store.request(turn.turnNo);
        const grant = await this.deps.store.grant({
          turnNo: turn.turnNo,
          nowMs: this.deps.clock.now(),
          reserveThrough: reserveBlock,
          ...(brokerAssigns ? { newNativeId: this.deps.newNativeId() } : {}),
        });
        if (encoded === undefined || grant === undefined) return undefined;
        return { provider, grant, request: this.deps.readRequest(encoded) };
      } catch (error) {
        this.deps.log("a lane could not be granted; trying again", error);
        await deps.pause(storeRetryMs);
      }
    }
    return undefined;
  }

  #runDeps(): RunTurnDeps {
    const { clock } = this.deps;
    return {
      ...this.deps,
      now: clock.now,
      pause: (ms) => new Promise((resolve) => clock.after(ms, () => resolve())),
    };
  }

  #expire(turn: ActiveTurn): void {
    if (!this.#lanes.remove(turn)) return;
    this.#endWaiting(turn, queueTimeout()).catch((error: unknown) => {
      this.deps.log("a turn that waited too long could not be ended", error);
    });
  }

  async #endWaiting(turn: ActiveTurn, ending: Ending): Promise<void> {
    turn.setDeadline(undefined);
    try {
      const { event, entries } = await turn.log.conclude(ending.payload);
      const first = await this.deps.store.end({
        ...endWithoutRun(turn.row, ending, this.deps.clock.now()),
        entries,
      });
      if (first) turn.log.finish(event);
      else turn.overtaken();
    } finally {
      this.#active.delete(turn.turnNo);
      this.#tellPositions(turn.key);
    }
  }

  #tellPositions(key: SessionKey): void {
    const ahead = this.#lanes.runningIn(key) === undefined ? 0 : 1;
    for (const [index, turn] of this.#lanes.waitingIn(key).entries()) turn.log.position = ahead + index;
  }

  #leave(turn: ActiveTurn): void {
    turn.readers -= 1;
    if (!turn.row.cancelOnDisconnect || turn.readers > 0 || turn.log.ended) return;
    const cancelIfAlone = () => {
      if (turn.readers > 0 || turn.log.ended) return;
      this.cancel(turn.row, "DISCONNECTED").catch((error: unknown) => {
        this.deps.log("a turn without readers could not be cancelled", error);
      });
    };
    this.deps.clock.after(disconnectGraceMs, cancelIfAlone);
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

function queueFull(message: string): BrokerError {
  return new BrokerError("QUEUE_FULL", message, {}, retryAfterMs);
}

/** A refusal as the error that the caller is told. */
export function refusalError(refusal: Refusal): BrokerError {
  return new BrokerError(refusal.reason, refusal.message, refusal.metadata);
}
