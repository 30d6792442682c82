/** What must hold at every step, told of each thing that happens. */
import { toBinary } from "@bufbuild/protobuf";
import { type TurnEvent, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn } from "../../src/turns/provider.js";
import type { AgentWatcher } from "./agent.js";

export class Violation extends Error {}

export class Invariants implements AgentWatcher {
  /** By chat: the turn that runs in it. */
  readonly #running = new Map<string, string>();
  readonly #attempts = new Set<string>();
  /** By text: the turn whose agent was given it. */
  readonly #givenTo = new Map<string, string>();
  /** By turn and sequence: what a reader was shown. */
  readonly #shown = new Map<string, string>();
  readonly #endings = new Map<string, number>();
  readonly #fences = new Map<string, number>();

  constructor(private readonly chatOf: (turnId: string) => string) {}

  started(turn: ProviderTurn): void {
    const attempt = `${turn.turnId} attempt ${turn.attempt}`;
    if (this.#attempts.has(attempt)) throw new Violation(`${attempt} ran twice`);
    this.#attempts.add(attempt);
    this.laneTaken(turn.turnId);
  }

  laneTaken(turnId: string): void {
    const chat = this.chatOf(turnId);
    const other = this.#running.get(chat);
    // A caller that asks again for its own turn knows that the one before is gone.
    const isOther = other !== undefined && other !== turnId;
    if (isOther) throw new Violation(`${turnId} runs in ${chat} beside ${other}`);
    this.#running.set(chat, turnId);
  }

  laneLetGo(turnId: string): void {
    const chat = this.chatOf(turnId);
    if (this.#running.get(chat) === turnId) this.#running.delete(chat);
  }

  given(turnId: string, texts: readonly string[]): void {
    for (const text of texts) {
      const other = this.#givenTo.get(text) ?? turnId;
      if (other !== turnId) throw new Violation(`the text ${text} went to ${other} and to ${turnId}`);
      this.#givenTo.set(text, turnId);
    }
  }

  ended(turn: ProviderTurn): void {
    this.laneLetGo(turn.turnId);
  }

  /** The agents of a life of the broker die with it; callers that run their own do not. */
  crashed(agentTurns: (turnId: string) => boolean): void {
    for (const [chat, turnId] of this.#running) if (agentTurns(turnId)) this.#running.delete(chat);
  }

  granted(turnId: string, fence: number): void {
    const chat = this.chatOf(turnId);
    const before = this.#fences.get(chat) ?? 0;
    if (fence <= before) throw new Violation(`${turnId}: fence ${fence} came after ${before}`);
    this.#fences.set(chat, fence);
  }

  /** One more event of a reader that has seen the turn up to a sequence. */
  seen(event: TurnEvent, after: number): void {
    if (event.sequence === 0) return;
    const { turnId, sequence } = event;
    const isInterrupted = event.event.case === "interrupted";
    const first = event.firstSequence || sequence;
    if (first !== after + 1 && !(isInterrupted && sequence > after)) {
      throw new Violation(`${turnId}: ${sequence} came after ${after}`);
    }
    const ending = this.#endings.get(turnId);
    if (ending !== undefined && sequence > ending)
      throw new Violation(`${turnId}: an event after its ending`);
    if (isTerminal(event)) {
      if (ending !== undefined && ending !== sequence) throw new Violation(`${turnId} has two endings`);
      this.#endings.set(turnId, sequence);
    }
    if (first !== sequence) return;
    const name = `${turnId} ${sequence}`;
    const content = `${event.event.case} ${Buffer.from(toBinary(TurnEventSchema, event)).toString("base64")}`;
    const before = this.#shown.get(name) ?? content;
    if (before !== content) throw new Violation(`${name} was ${before} and is ${content}`);
    this.#shown.set(name, content);
  }

  wasGiven(text: string, turnId: string): boolean {
    return this.#givenTo.get(text) === turnId;
  }
}

export function isTerminal({ event }: TurnEvent): boolean {
  return ["completed", "failed", "cancelled", "interrupted"].includes(event.case ?? "");
}
