/** An agent whose every word is a step of the scheduler, and which notes what it was given. */
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import type {
  Provider,
  ProviderEvent,
  ProviderRun,
  ProviderTurn,
  TurnInputPart,
  TurnOutcome,
} from "../../src/turns/provider.js";
import type { Scheduler } from "./scheduler.js";

export interface AgentWatcher {
  started(turn: ProviderTurn): void;
  given(turnId: string, texts: readonly string[]): void;
  ended(turn: ProviderTurn): void;
}

export const textsOf = (input: readonly TurnInputPart[]): string[] =>
  input.flatMap((part) => (part.kind === "text" ? [part.text] : []));

export function simulatedAgent(scheduler: Scheduler, life: number, watcher: AgentWatcher): Provider {
  return {
    id: "agent",
    kind: "simulated",
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
    timeoutMs: 60_000,
    maxRunning: 2,
    permissionMs: 60_000,
    run: (turn) => run(scheduler, life, watcher, turn),
    release: async () => [],
    health: async () => ({ available: true, detail: "" }),
    close: async () => {},
  };
}

function run(scheduler: Scheduler, life: number, watcher: AgentWatcher, turn: ProviderTurn): ProviderRun {
  let takesText = true;
  async function* answer(): AsyncGenerator<ProviderEvent> {
    watcher.started(turn);
    await scheduler.turn(life);
    yield* speak();
  }
  async function* speak(): AsyncGenerator<ProviderEvent> {
    const { random } = scheduler;
    const lost = turn.attempt === 1 && turn.binding.state === "bound" && random.chance(0.1);
    if (lost) {
      yield end(lostOutcome);
      return;
    }
    watcher.given(turn.turnId, textsOf(turn.input));
    yield { kind: "started", resumed: turn.binding.state === "bound", warm: false };
    let text = "";
    for (let words = random.below(6); words > 0; words--) {
      await scheduler.turn(life);
      if (turn.signal.aborted) {
        yield end({ status: "cancelled" });
        return;
      }
      const word = `${turn.turnId}.${words} `;
      text += word;
      yield { kind: "text", text: word };
    }
    await scheduler.turn(life);
    yield end(
      random.chance(0.1) ? failedOutcome : { status: "completed", text, finishReason: FinishReason.STOP },
    );
  }
  function end(outcome: TurnOutcome): Extract<ProviderEvent, { kind: "end" }> {
    takesText = false;
    watcher.ended(turn);
    return { kind: "end", outcome };
  }
  return Object.assign(answer(), {
    steer: async (input: readonly TurnInputPart[]) => {
      await scheduler.turn(life);
      if (takesText) watcher.given(turn.turnId, textsOf(input));
      return takesText;
    },
  });
}

const failure = { status: "failed", message: "simulated", retryable: false } as const;
const lostOutcome: TurnOutcome = { ...failure, code: TurnErrorCode.NATIVE_SESSION_LOST, modelNotAsked: true };
const failedOutcome: TurnOutcome = { ...failure, code: TurnErrorCode.PROVIDER_ERROR, modelNotAsked: false };
