import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type {
  Provider,
  ProviderEvent,
  ProviderRun,
  ProviderTurn,
  TurnInputPart,
  TurnOutcome,
} from "../../src/turns/provider.js";

let lastRecordNo = 0;

export function turnOf(
  text: string,
  fields: Partial<ProviderTurn> & Pick<ProviderTurn, "workspace">,
): ProviderTurn {
  return {
    turnId: randomUUID(),
    recordNo: ++lastRecordNo,
    grant: "",
    previousTotal: {},
    sessionId: randomUUID(),
    attempt: 1,
    turnNumber: 1,
    input: [{ kind: "text", text }],
    binding: { state: "fresh", nativeId: randomUUID() },
    unseen: [],
    childMark: `${randomUUID()}/life/session`,
    timeoutMs: 60_000,
    signal: new AbortController().signal,
    ...fields,
  };
}

export interface Ran {
  readonly events: readonly ProviderEvent[];
  /** The text events, one after another. */
  readonly text: string;
  readonly outcome: TurnOutcome;
  readonly survivors: readonly number[];
}

/** Runs a turn to its end. `onEvent` sees each event as it comes. */
export async function runTurn(
  provider: Provider,
  turn: ProviderTurn,
  onEvent?: (event: ProviderEvent) => unknown,
): Promise<Ran> {
  return followRun(provider.run(turn), onEvent);
}

/** Reads a run to its end. `onEvent` sees each event as it comes, and may speak to the run. */
export async function followRun(
  run: ProviderRun,
  onEvent: (event: ProviderEvent) => unknown = () => {},
): Promise<Ran> {
  const events: ProviderEvent[] = [];
  for await (const event of run) {
    events.push(event);
    await onEvent(event);
  }
  const last = events.at(-1);
  if (last?.kind !== "end") throw new Error("the turn has no end");
  if (events.filter((event) => event.kind === "end").length !== 1) throw new Error("the turn ends twice");
  return { events, text: textOf(events), outcome: last.outcome, survivors: last.survivors ?? [] };
}

/** Calls `task` at the first event of a kind. */
export function atFirst(kind: ProviderEvent["kind"], task: () => unknown): (event: ProviderEvent) => unknown {
  let done = false;
  return (event) => {
    if (done || event.kind !== kind) return undefined;
    done = true;
    return task();
  };
}

export function textInput(text: string): TurnInputPart[] {
  return [{ kind: "text", text }];
}

export function textOf(events: readonly ProviderEvent[]): string {
  return events.map((event) => (event.kind === "text" ? event.text : "")).join("");
}

/** The answer of a completed turn. Throws if it is anything else. */
export function answerOf(ran: Ran): string {
  if (ran.outcome.status !== "completed") throw new Error(`the turn ended: ${JSON.stringify(ran.outcome)}`);
  return ran.outcome.text;
}

/** Whether the process runs; one that has ended and was not waited for does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== "linux" || !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}
