/**
 * An agent in the broker's own process that repeats what it is told. It keeps
 * nothing: what it says of the conversation is the number of the turn.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay, setImmediate as immediate } from "node:timers/promises";
import { FinishReason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Provider, ProviderEvent, ProviderTurn } from "../../turns/provider.js";

export interface EchoOptions {
  readonly id: string;
  /** Before each word. Default 0. */
  readonly delayMs?: number;
  /** Default 64. */
  readonly maxRunning?: number;
}

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
      steer: false,
      warm: false,
      fork: false,
      reasoning: false,
      images: false,
      usage: false,
      cost: false,
      toolEvents: false,
      permissionRequests: false,
    },
    models: [],
    timeoutMs: 30 * 60_000,
    maxRunning: options.maxRunning ?? 64,
    run: (turn) => echo(turn, delayMs, closing.signal),
    health: async () => ({ available: true, detail: "in process" }),
    close: async () => closing.abort(),
  };
}

/** The answer to a turn. */
export function echoAnswer(turn: Pick<ProviderTurn, "turnNumber" | "input">): string {
  const texts = turn.input.filter((part) => part.kind === "text").map((part) => part.text);
  return `turn ${turn.turnNumber}: ${texts.join("\n")}`;
}

async function* echo(
  turn: ProviderTurn,
  delayMs: number,
  closing: AbortSignal,
): AsyncGenerator<ProviderEvent> {
  const stop = AbortSignal.any([turn.signal, closing]);
  const nativeId = turn.binding.nativeId ?? randomUUID();
  const text = echoAnswer(turn);
  yield { kind: "started", nativeId, resumed: turn.binding.state === "bound", warm: true };
  for (const word of text.match(/\s*\S+|\s+$/g) ?? []) {
    // Readers and cancellations get their turn between two words even without a delay.
    await (delayMs > 0 ? delay(delayMs, undefined, { signal: stop }).catch(() => {}) : immediate());
    if (stop.aborted) {
      yield { kind: "end", outcome: { status: "cancelled" } };
      return;
    }
    yield { kind: "text", text: word };
  }
  yield {
    kind: "end",
    outcome: { status: "completed", text, finishReason: FinishReason.STOP, nativeId },
  };
}
