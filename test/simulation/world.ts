/**
 * A dispatcher on the real store's tables, with simulated agents, clients, time
 * and crashes. What happens is decided by one seed.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "lmdb";
import { BrokerError } from "../../src/errors.js";
import type { Batch, BatchDone } from "../../src/store/lmdb/committer.js";
import { takeOwnership } from "../../src/store/lmdb/owner.js";
import { environmentOptions } from "../../src/store/lmdb/schema.js";
import { LmdbStore } from "../../src/store/lmdb/store.js";
import { Tables } from "../../src/store/lmdb/tables.js";
import { type BatchRunner, inlineRunner, Writer } from "../../src/store/lmdb/writer.js";
import { type AdmitRequest, Dispatcher } from "../../src/turns/dispatcher.js";
import type { LaneEvent } from "../../src/turns/follow-lane.js";
import { type ConflictPolicy, hasEnded, type TurnRow } from "../../src/turns/turn.js";
import { simulatedAgent } from "./agent.js";
import { Invariants, isTerminal, Violation } from "./invariants.js";
import { quiet, Random, Scheduler } from "./scheduler.js";

/** One store for all seeds: each has a scope of its own. */
export class SimulatedDisk {
  readonly #folder = mkdtempSync(join(tmpdir(), "simulation-"));
  readonly #root = open({ ...environmentOptions(this.#folder), noSync: true });
  readonly tables = new Tables(this.#root, this.#folder);
  readonly instance = "simulation";

  constructor() {
    this.#root.transactionSync(() => takeOwnership(this.tables, this.instance, this.#folder, Date.now()));
  }

  async close(): Promise<void> {
    await this.#root.close();
    rmSync(this.#folder, { recursive: true });
  }
}

interface KnownTurn {
  readonly turnId: string;
  readonly chat: string;
  readonly request: AdmitRequest;
  readonly external: boolean;
  admitted: boolean;
  /** The highest sequence that some reader has seen. */
  seen: number;
}

const policies: readonly ConflictPolicy[] = ["ENQUEUE", "ENQUEUE", "REJECT", "INTERRUPT", "STEER", "COLLECT"];
const mostSteps = 20_000;

export class World {
  readonly #random: Random;
  readonly #scheduler: Scheduler;
  readonly #invariants: Invariants;
  readonly #turns = new Map<string, KnownTurn>();
  #life = 0;
  #store!: LmdbStore;
  #dispatcher!: Dispatcher;
  #failure: unknown;
  #starting = false;
  /** Clients of this life that still wait for something. */
  #busy = 0;
  readonly log: string[] = [];

  constructor(
    private readonly disk: SimulatedDisk,
    private readonly seed: number,
  ) {
    this.#random = new Random(seed);
    this.#scheduler = new Scheduler(this.#random);
    this.#invariants = new Invariants((turnId) => this.#turns.get(turnId)?.chat ?? "");
  }

  async run(): Promise<void> {
    await this.#start();
    let actions = 6 + this.#random.below(14);
    for (let steps = 0; ; steps++) {
      if (this.#failure !== undefined) throw this.#failure;
      if (steps > mostSteps)
        throw new Violation(`still going on after ${mostSteps} steps: ${await this.#unfinished()}`);
      if (actions > 0 && this.#random.chance(0.15)) {
        actions -= 1;
        await this.#act();
      } else if (!(await this.#scheduler.step()) && actions === 0) break;
      if (actions === 0 && this.#busy === 0 && (await this.#allEnded())) break;
    }
    await this.#checkEndings();
  }

  async #act(): Promise<void> {
    const kind = this.#random.below(100);
    const known = [...this.#turns.values()];
    if (known.length === 0 || kind < 45) return this.#dispatch(this.#newTurn());
    if (kind < 53) return this.#holdLane(this.#newTurn(true));
    const turn = this.#random.pick(known);
    if (kind < 63) return turn.external ? this.#holdLane(turn) : this.#dispatch(turn);
    if (kind < 73) return this.#attach(turn, this.#random.below(turn.seen + 1));
    if (kind < 83) return this.#cancel(turn);
    if (kind < 87) return this.#cancelAll(turn);
    return kind < 96 ? this.#crash() : this.#restart();
  }

  #newTurn(external = false): KnownTurn {
    const turnId = `t${this.#turns.size}`;
    const chat = `chat-${this.#random.below(3)}`;
    const scope = `seed-${this.seed}`;
    const key = { scope, externalId: chat, provider: "agent" };
    const nowMs = this.#scheduler.clock(this.#life).now();
    const request: AdmitRequest = {
      reserve: {
        reservation: { key, aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} },
        nowMs,
        clockBelieved: true,
        newSessionId: `${scope}-${turnId}`,
      },
      identity: { storeKey: chat, requestKey: chat, agent: "" },
      turnId,
      clientChoseId: true,
      payloadHash: Buffer.from(turnId),
      credential: "client",
      grant: this.#random.pick(["a", "b"]),
      cancelOnDisconnect: external,
      onConflict: external ? "ENQUEUE" : this.#random.pick(policies),
      mergeKey: this.#random.pick(["same", "same", "other"]),
      external,
      queueDeadlineMs: nowMs + 600_000,
      labels: {},
      request: Buffer.from(`text of ${turnId}`),
    };
    const turn = { turnId, chat, request, external, admitted: false, seen: 0 };
    this.#turns.set(turnId, turn);
    return turn;
  }

  /** A client's call: it hangs when the broker dies, and refusals are answers. */
  #client(what: string, call: (dispatcher: Dispatcher, life: number) => Promise<void>): void {
    const life = this.#life;
    this.log.push(what);
    this.#busy += 1;
    call(this.#dispatcher, life)
      .catch((error: unknown) => {
        if (life !== this.#life || error instanceof BrokerError) return;
        this.#failure ??= error;
      })
      .finally(() => {
        if (life === this.#life) this.#busy -= 1;
      });
  }

  #dispatch(turn: KnownTurn): void {
    this.#client(
      `dispatch ${turn.turnId} in ${turn.chat} ${turn.request.onConflict}`,
      async (dispatcher, life) => {
        const admission = await dispatcher.admit(turn.request);
        if (life !== this.#life || admission.kind === "refused") return;
        turn.admitted = true;
        await this.#read(dispatcher, life, admission.turn, 0);
      },
    );
  }

  #attach(turn: KnownTurn, after: number): void {
    this.#client(`attach ${turn.turnId} after ${after}`, async (dispatcher, life) => {
      const row = await this.#row(turn);
      // A merged turn's events are the other's, with sequences of their own.
      if (row !== undefined)
        await this.#read(dispatcher, life, row, row.mergedInto === undefined ? after : 0);
    });
  }

  async #read(dispatcher: Dispatcher, life: number, row: TurnRow, after: number): Promise<void> {
    const stop = new AbortController();
    const mayLeave = this.#random.chance(0.2);
    const slow = this.#random.chance(0.3);
    let cursor = after;
    for await (const event of dispatcher.follow(row, after, stop.signal)) {
      if (life !== this.#life) return;
      this.#guard(() => this.#invariants.seen(event, cursor));
      if (event.sequence > 0) cursor = event.sequence;
      const turn = this.#turns.get(event.turnId);
      if (turn !== undefined) turn.seen = Math.max(turn.seen, event.sequence);
      if (isTerminal(event)) return;
      if (slow) await this.#scheduler.turn(life);
      if (mayLeave && this.#random.chance(0.2)) stop.abort();
    }
  }

  /** A caller that runs the agent itself, renews for a while, and records the turn or is gone. */
  #holdLane(turn: KnownTurn): void {
    this.#client(`hold lane ${turn.turnId} in ${turn.chat}`, async (dispatcher, life) => {
      const admission = await dispatcher.admit(turn.request);
      if (life !== this.#life || admission.kind === "refused" || admission.kind === "merged") return;
      turn.admitted = true;
      const stop = new AbortController();
      const giveUp = this.#random.chance(0.3);
      for await (const event of dispatcher.external.follow(admission, "client", stop.signal)) {
        if (life !== this.#life) return;
        if (event.kind !== "granted") continue;
        if (!giveUp) await this.#runOutside(dispatcher, life, event);
      }
    });
  }

  /** Ends the agent in time, whatever is heard of the broker. */
  async #runOutside(
    dispatcher: Dispatcher,
    life: number,
    { turn, renewBeforeMs }: Extract<LaneEvent, { kind: "granted" }>,
  ): Promise<void> {
    const clock = this.#scheduler.clock(life);
    const fence = turn.fence ?? 0;
    let untilMs = renewBeforeMs;
    for (let renewals = this.#random.below(3); renewals > 0; renewals--) {
      await new Promise<void>((resolve) => clock.after(5_000, resolve));
      untilMs = await dispatcher.external.renew(turn, fence);
    }
    if (clock.now() >= untilMs) return;
    this.#guard(() => this.#invariants.laneTaken(turn.turnId));
    const inTime = new Promise<void>((resolve) => clock.after(untilMs - clock.now(), resolve));
    await Promise.race([this.#scheduler.turn(life), inTime]);
    this.#invariants.laneLetGo(turn.turnId);
    const usage = {
      inputTokens: 0,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      outputTokens: 0,
      reasoningTokens: 0,
    };
    const payload = { case: "completed", value: { text: "outside" } } as const;
    await dispatcher.external.record(turn, fence, { ending: { state: "COMPLETED", payload }, usage });
  }

  #cancel(turn: KnownTurn): void {
    this.#client(`cancel ${turn.turnId}`, async (dispatcher) => {
      const row = await this.#row(turn);
      if (row !== undefined) await dispatcher.cancel(row);
    });
  }

  #cancelAll(turn: KnownTurn): void {
    this.#client(`cancel all in ${turn.chat}`, (dispatcher) =>
      dispatcher.cancelAll(turn.request.reserve.reservation.key),
    );
  }

  async #crash(): Promise<void> {
    this.log.push("crash");
    this.#scheduler.end(this.#life);
    await this.#start();
  }

  /** Stops in order: no turn runs when it is over. */
  async #restart(): Promise<void> {
    this.log.push("restart");
    await this.#until(this.#dispatcher.drain(this.#random.below(2) * 1_000), "the broker does not drain");
    this.#scheduler.end(this.#life);
    await this.#start();
  }

  async #start(): Promise<void> {
    const life = ++this.#life;
    this.#busy = 0;
    this.#invariants.crashed(() => true);
    this.#store = new LmdbStore(this.disk.tables, new Writer(this.#runner(life), () => {}));
    const provider = simulatedAgent(this.#scheduler, life, this.#guarded());
    let native = 0;
    const dispatcher = new Dispatcher({
      store: this.#store,
      clock: this.#scheduler.clock(life),
      providers: new Map([[provider.id, provider]]),
      limits: {
        running: 3,
        waiting: 100,
        waitingOfGrant: 50,
        waitingInSession: 4,
        collectDebounceMs: 500,
        readersPerTurn: 10,
        readerBufferBytes: 4096,
      },
      newNativeId: () => `${this.seed}-${life}-${++native}`,
      workspace: async () => "/",
      childMark: (sessionId) => sessionId,
      stillRunning: async () => [],
      leftBehind: () => [],
      chainAfter: (link) => link,
      log: () => {},
      readRequest: (encoded) => ({
        input: [{ kind: "text", text: Buffer.from(encoded).toString() }],
        history: [],
      }),
      onStarted: (turn) => this.#guard(() => this.#invariants.granted(turn.turnId, turn.fence ?? 0)),
      onEnded: () => {},
    });
    this.#dispatcher = dispatcher;
    this.#starting = true;
    await this.#until(dispatcher.restart(), "the broker does not start");
    this.#starting = false;
  }

  /** Lets things happen until a promise is settled. */
  async #until(work: Promise<void>, complaint: string): Promise<void> {
    let settled = false;
    const settle = () => {
      settled = true;
    };
    work.then(settle, settle);
    await quiet();
    for (let steps = 0; !settled; steps++) {
      if (this.#failure !== undefined) throw this.#failure;
      if (steps > mostSteps || !(await this.#scheduler.step())) throw new Violation(complaint);
    }
    await work;
  }

  /** Commits at one step and answers at another: a crash may come between the two. */
  #runner(life: number): BatchRunner {
    const disk = inlineRunner(this.disk.tables, this.disk.instance);
    let last: Promise<unknown> = Promise.resolve();
    const run = (batch: Batch) =>
      new Promise<BatchDone>((resolve) => {
        this.#scheduler.add(life, async () => {
          const full = !this.#starting && this.#random.chance(0.02);
          const failure = { kind: "full" as const, message: "simulated" };
          const done = full
            ? { answers: batch.map(() => ({ failure })), committed: false }
            : await disk.run(batch);
          this.#scheduler.add(life, () => resolve(done));
        });
      });
    return {
      run(batch) {
        const done = last.then(() => run(batch));
        last = done;
        return done;
      },
      close: async () => {},
    };
  }

  #guard(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#failure ??= error;
    }
  }

  #guarded() {
    return {
      started: (turn: Parameters<Invariants["started"]>[0]) =>
        this.#guard(() => this.#invariants.started(turn)),
      given: (turnId: string, texts: readonly string[]) =>
        this.#guard(() => this.#invariants.given(turnId, texts)),
      ended: (turn: Parameters<Invariants["ended"]>[0]) => this.#guard(() => this.#invariants.ended(turn)),
    };
  }

  #row(turn: KnownTurn): Promise<TurnRow | undefined> {
    return this.#store.byTurnId(turn.turnId, { scopes: [turn.request.reserve.reservation.key.scope] });
  }

  async #unfinished(): Promise<string> {
    const active = (await this.#store.active()).map(({ turnId, state }) => `${turnId} ${state}`);
    return `${active.join(", ") || "no turns"}, ${this.#busy} clients`;
  }

  async #allEnded(): Promise<boolean> {
    return (await this.#store.active()).length === 0;
  }

  /** No acknowledged turn vanished; each has one ending, and a text went where its turn says. */
  async #checkEndings(): Promise<void> {
    for (const turn of this.#turns.values()) {
      const row = await this.#row(turn);
      if (row === undefined) {
        if (turn.admitted) throw new Violation(`${turn.turnId} was acknowledged and is gone`);
        continue;
      }
      const target = row.mergedInto === undefined ? row : await this.#store.byTurnNo(row.mergedInto.turnNo);
      if (target === undefined || !hasEnded(target.state))
        throw new Violation(`${turn.turnId} has no ending: ${row.state}, ${target?.turnId} ${target?.state}`);
      if (target.state === "COMPLETED" && !target.external && turn.admitted) {
        const text = Buffer.from(turn.request.request).toString();
        if (!this.#invariants.wasGiven(text, target.turnId)) {
          throw new Violation(
            `${turn.turnId} went into ${target.turnId}, whose agent was not given its text`,
          );
        }
      }
      await this.#replay(target);
    }
  }

  async #replay(row: TurnRow): Promise<void> {
    let cursor = 0;
    const events = this.#dispatcher.follow(row, 0, new AbortController().signal);
    for await (const event of events) {
      this.#invariants.seen(event, cursor);
      cursor = event.sequence;
    }
    if (cursor !== row.lastSequence) throw new Violation(`${row.turnId} replays to ${cursor}`);
  }
}
