/**
 * An agent in the broker's own process that repeats what it is told. It keeps
 * nothing: what it says of the conversation is the number of the turn.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay, setImmediate as immediate } from "node:timers/promises";
import { FinishReason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type {
  Provider,
  ProviderEvent,
  ProviderRun,
  ProviderTurn,
  TurnInputPart,
} from "../../turns/provider.js";
import { allowedMs, stoppedOutcome } from "../ending.js";
import { commonDefaults, msOr, type ProviderKind } from "../kind.js";
import { StopSwitch } from "../stop-switch.js";

export interface EchoOptions {
  readonly id: string;
  /** Before each word. Default 0. */
  readonly delayMs?: number;
  /** Default 64. */
  readonly maxRunning?: number;
}

export const echoKind: ProviderKind = {
  name: "echo",
  create(config) {
    if (config.kind.case !== "echo") throw new TypeError("not an echo configuration");
    const { delay: pause } = config.kind.value;
    return createEchoProvider({
      id: config.id,
      delayMs: msOr(pause, 0),
      ...(config.maxRunning === 0 ? {} : { maxRunning: config.maxRunning }),
    });
  },
  diagnose: async () => ({ usable: true, found: "in process" }),
};

/** It is never silent for longer than a word takes. */
const limits = { timeoutMs: commonDefaults.timeoutMs, silenceTimeoutMs: Number.POSITIVE_INFINITY };

export function createEchoProvider(options: EchoOptions): Provider {
  const delayMs = options.delayMs ?? 0;
  const closing = new AbortController();
  return {
    id: options.id,
    kind: "echo",
    capabilities: {
      assignsNativeId: "broker",
      resume: true,
      interrupt: true,
      steer: true,
      warm: false,
      fork: false,
      reasoning: false,
      images: false,
      usage: false,
      cost: false,
      toolEvents: false,
      permissionRequests: false,
      jsonObject: false,
      jsonSchema: false,
    },
    models: [],
    timeoutMs: limits.timeoutMs,
    maxRunning: options.maxRunning ?? 64,
    permissionMs: 0,
    run: (turn) => echo(turn, delayMs, closing.signal),
    release: async () => [],
    health: async () => ({ available: true, detail: "in process" }),
    close: async () => closing.abort(),
  };
}

/** The answer to a turn. */
export function echoAnswer(turn: Pick<ProviderTurn, "turnNumber" | "input">): string {
  return `turn ${turn.turnNumber}: ${textOf(turn.input)}`;
}

function echo(turn: ProviderTurn, delayMs: number, closing: AbortSignal): ProviderRun {
  const answer = new Answer(echoAnswer(turn));
  const run = repeat(answer, turn, delayMs, closing);
  return Object.assign(run, {
    steer: async (input: readonly TurnInputPart[]) => answer.append(textOf(input)),
  });
}

async function* repeat(
  answer: Answer,
  turn: ProviderTurn,
  delayMs: number,
  closing: AbortSignal,
): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, closing], allowedMs(limits, turn));
  const waking = new AbortController();
  stop.attach(() => waking.abort());
  const nativeId = turn.binding.nativeId ?? randomUUID();
  try {
    yield { kind: "started", nativeId, resumed: turn.binding.state === "bound", warm: true };
    for (const word of answer.words()) {
      // Readers and cancellations get their turn between two words even without a delay.
      await (delayMs > 0
        ? delay(delayMs, undefined, { signal: waking.signal }).catch(() => {})
        : immediate());
      if (stop.reason !== undefined) {
        yield { kind: "end", outcome: stoppedOutcome(stop.reason, limits, turn) };
        return;
      }
      yield { kind: "text", text: word };
    }
  } finally {
    stop.dispose();
  }
  yield {
    kind: "end",
    outcome: { status: "completed", text: answer.text, finishReason: FinishReason.STOP, nativeId },
  };
}

/** Grows until its last word has been taken. */
class Answer {
  #done = false;

  constructor(public text: string) {}

  append(more: string): boolean {
    if (this.#done) return false;
    this.text += ` ${more}`;
    return true;
  }

  *words(): Generator<string> {
    const next = /\s*\S+|\s+/y;
    for (let word = next.exec(this.text); word !== null; word = next.exec(this.text)) yield word[0];
    this.#done = true;
  }
}

function textOf(input: readonly TurnInputPart[]): string {
  return input
    .filter((part) => part.kind === "text")
    .map((part) => part.text)
    .join("\n");
}
