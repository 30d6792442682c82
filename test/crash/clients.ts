/** Clients that ask for turns, retry them, follow them, leave them and cancel them, through kills of the broker. */
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import {
  CancelTurnResponse_Action,
  OnConflict,
  OnDisconnect,
  type TurnEvent,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { isTerminal, Violation } from "../simulation/invariants.js";
import type { Random } from "../simulation/scheduler.js";
import type { BrokerClient } from "../support/broker.js";
import { promptOf } from "./agent-notes.js";
import type { AskedTurn, Ledger } from "./ledger.js";

/** Shut while the broker is down. */
export class Gate {
  #life = 0;
  #opened: Promise<void> = Promise.resolve();
  #open: () => void = () => {};

  /** Grows whenever the gate is shut. */
  get life(): number {
    return this.#life;
  }

  shut(): void {
    this.#life += 1;
    this.#opened = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  open(): void {
    this.#open();
  }

  async passed(): Promise<number> {
    await this.#opened;
    return this.#life;
  }
}

/** What a client's turn may be refused for. */
const refusals = ["SESSION_BUSY", "UNSUPPORTED_BY_PROVIDER", "QUEUE_FULL", "MERGE_MISMATCH"];
const chats = ["one", "two", "three", "four", "five"];
const policies = [
  OnConflict.UNSPECIFIED,
  OnConflict.ENQUEUE,
  OnConflict.ENQUEUE,
  OnConflict.REJECT,
  OnConflict.INTERRUPT,
  OnConflict.STEER,
  OnConflict.COLLECT,
  OnConflict.COLLECT,
];

export interface LoadDeps {
  readonly gate: Gate;
  readonly ledger: Ledger;
  readonly scope: string;
}

export class LoadClient {
  #asked = 0;
  #stopping = false;

  constructor(
    private readonly deps: LoadDeps,
    private readonly name: string,
    private readonly client: BrokerClient,
    private readonly random: Random,
  ) {}

  /** Asks for one thing after the other until it is stopped. @throws Violation */
  async run(): Promise<void> {
    while (!this.#stopping) await this.#doSomething();
  }

  stop(): void {
    this.#stopping = true;
  }

  async #doSomething(): Promise<void> {
    const { known } = this.deps.ledger;
    const choice = this.random.next();
    const turn = known.at(-1 - this.random.below(Math.min(known.length, 30)));
    if (turn === undefined || choice > 0.45) return this.#askForTurn();
    if (choice < 0.12) return this.#call(() => this.#cancel(turn));
    if (choice < 0.18) return this.#call(() => this.#reuse(turn));
    if (choice < 0.24) return this.#call(() => this.client.getTurn({ turnId: turn.turnId }));
    return this.#follow(turn, this.random.below(turn.lastSeen + 1));
  }

  /** Once, or twice at the same time. */
  async #askForTurn(): Promise<void> {
    const { random } = this;
    const token = `${this.name}-${++this.#asked}`;
    const chosen = !random.chance(0.1);
    // Most are short, so that some end between two kills.
    const ms = Math.floor(50 + 450 * random.next() ** 2);
    const turn: AskedTurn = {
      token,
      turnId: chosen ? `turn-${token}` : "",
      chosen,
      chat: random.pick(chats),
      text: promptOf({ token, ms, deltas: 2 + random.below(12), tool: random.chance(0.1) }),
      onConflict: random.pick(policies),
      detached: !random.chance(0.15),
      accepted: false,
      refused: false,
      removed: false,
      lastSeen: 0,
    };
    this.deps.ledger.asked.push(turn);
    const readers = chosen && random.chance(0.15) ? 2 : 1;
    await Promise.all(Array.from({ length: readers }, () => this.#follow(turn, 0)));
  }

  /** Reads a turn to its end, or leaves it; after a kill it comes back, by Dispatch or by Attach. */
  async #follow(turn: AskedTurn, from: number): Promise<void> {
    const leavesAfter = this.random.chance(0.25) ? this.random.below(8) : Number.POSITIVE_INFINITY;
    const place = { cursor: from, read: 0 };
    for (let tries = 0; ; tries++) {
      // Nobody can ask again for a turn whose id he was not told.
      if (!turn.chosen && !turn.accepted && tries > 0) return;
      const attaches =
        turn.accepted && (!turn.chosen || this.random.chance(0.5) || (tries === 0 && from > 0));
      if (!attaches) place.cursor = 0;
      const life = await this.deps.gate.passed();
      this.deps.ledger.onMoment("call");
      const stream = attaches
        ? this.client.attach({ turnId: turn.turnId, afterSequence: place.cursor })
        : this.#dispatch(turn);
      try {
        if (await this.#read(turn, stream, place, leavesAfter)) return;
        if (place.cursor === turn.endedAt) return;
        throw new Violation(`${turn.turnId}: the stream ended without an ending`);
      } catch (error) {
        if (this.#isRefused(turn, error)) return;
        this.#mustBeTheKill(error, life);
      }
    }
  }

  /** True once the ending is read, or enough of it. */
  async #read(
    turn: AskedTurn,
    stream: AsyncIterable<{ readonly event?: TurnEvent | undefined }>,
    place: { cursor: number; read: number },
    leavesAfter: number,
  ): Promise<boolean> {
    for await (const { event } of stream) {
      if (event === undefined) continue;
      this.deps.ledger.seen(turn, event, place.cursor);
      if (event.sequence > 0) place.cursor = event.sequence;
      if (isTerminal(event) || ++place.read > leavesAfter) return true;
    }
    return false;
  }

  #dispatch(turn: AskedTurn, text = turn.text) {
    return this.client.dispatch({
      target: {
        case: "key",
        value: { scope: this.deps.scope, externalId: turn.chat, provider: "claude" },
      },
      turnId: turn.turnId,
      input: [{ part: { case: "text", value: text } }],
      onConflict: turn.onConflict,
      onDisconnect: turn.detached ? OnDisconnect.DETACH : OnDisconnect.CANCEL,
    });
  }

  async #cancel(turn: AskedTurn): Promise<void> {
    const { action } = await this.client.cancelTurn({ turnId: turn.turnId });
    if (action === CancelTurnResponse_Action.REMOVED_FROM_QUEUE && turn.chosen) turn.removed = true;
  }

  /** The id of a turn with another text. */
  async #reuse(turn: AskedTurn): Promise<void> {
    if (!turn.chosen) return;
    try {
      for await (const _ of this.#dispatch(turn, "token=other ms=1 deltas=1"));
    } catch (error) {
      if (reasonIn(error) === "TURN_ID_REUSED") return;
      throw error;
    }
    throw new Violation(`${turn.turnId} was taken again with another text`);
  }

  /** A call that a kill may break off, and that is right otherwise. */
  async #call(call: () => Promise<unknown>): Promise<void> {
    const life = await this.deps.gate.passed();
    this.deps.ledger.onMoment("call");
    await call().catch((error: unknown) => this.#mustBeTheKill(error, life));
  }

  #isRefused(turn: AskedTurn, error: unknown): boolean {
    if (turn.accepted || !refusals.includes(reasonIn(error) ?? "")) return false;
    turn.refused = true;
    return true;
  }

  #mustBeTheKill(error: unknown, life: number): void {
    const { gate } = this.deps;
    if (!(error instanceof Violation) && reasonIn(error) === undefined && gate.life !== life) return;
    const { code, message } = ConnectError.from(error);
    throw error instanceof Violation
      ? error
      : new Violation(`${this.name} was told ${Code[code]} ${message}`, { cause: error });
  }
}

function reasonIn(error: unknown): string | undefined {
  return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason;
}
