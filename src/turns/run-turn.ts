/**
 * One turn that holds its lane, from asking the agent to the ending on disk.
 *
 *     attempt 1 ──ended──────────────────────────────▶ ending
 *         └─ the agent lost the conversation, and was not asked
 *            ──▶ attempt 2 with the kept history ────▶ ending
 */
import { Notice_Kind, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { noUsage } from "../sessions/session.js";
import type { ActiveTurn } from "./active-turn.js";
import { Briefing, restoredNotice } from "./briefing.js";
import { type Ending, endingOf } from "./endings.js";
import type { ToldMessage } from "./history.js";
import type {
  Exchange,
  NativeBinding,
  OutputFormat,
  Provider,
  ProviderEvent,
  ProviderRun,
  ProviderTurn,
  TurnInputPart,
  TurnOutcome,
} from "./provider.js";
import type { StuckLanes } from "./stuck-lanes.js";
import { systemPromptOf } from "./system-prompt.js";
import type { TurnRow } from "./turn.js";
import type { EventPayload } from "./turn-log.js";
import type { Grant, TurnEndCall, TurnStore } from "./turn-store.js";
import type { TraceCarrier } from "./turn-trace.js";

export interface RunTurnDeps {
  readonly store: TurnStore;
  readonly now: () => number;
  readonly newNativeId: () => string;
  readonly stuck: StuckLanes;
  /** Processes of the session that were left by an earlier life of the broker and could not be ended. */
  readonly leftBehind: (sessionId: string) => readonly number[];
  /** Waits before a failed write of an ending is tried again. */
  readonly pause: (ms: number) => Promise<void>;
  /**
   * The directory that the agent works in, made if it is missing: `prepared`, if
   * that is given and the session has none yet.
   */
  readonly workspace: (grant: Grant, prepared?: string) => Promise<string>;
  /** The link of a conversation after an answer. */
  readonly chainAfter: (link: Uint8Array, answer: string) => Uint8Array;
  /** Mark of every process that is started for a session. */
  readonly childMark: (sessionId: string) => string;
  readonly log: (message: string, error: unknown) => void;
  /** Told when the agent says its first text. */
  readonly onFirstText?: (turn: TurnRow) => void;
}

/** What the caller asked for, in the words of the provider port. */
export interface TurnRequest {
  readonly input: readonly TurnInputPart[];
  /** What the caller's own history says was said before. */
  readonly history: readonly ToldMessage[];
  readonly system?: string;
  readonly model?: string;
  readonly outputFormat?: OutputFormat;
  readonly timeoutMs?: number;
}

const endRetryMs = 1_000;

/** Never throws; the lane may be released when it resolves. */
export async function runTurn(
  deps: RunTurnDeps,
  provider: Provider,
  active: ActiveTurn,
  grant: Grant,
  request: TurnRequest,
): Promise<void> {
  const stuck = { recordNo: grant.turn.recordNo, provider: provider.id };
  await deps.stuck.gone(stuck, deps.leftBehind(grant.session.sessionId));
  if (grant.restoredFromMs !== undefined) active.log.add(restoredNotice(grant.restoredFromMs));
  const run = new TurnRun(deps, provider, active, grant, request);
  const outcome = await run.attempt(1, firstBinding(grant), await run.briefing.beforeInput());
  const retried = run.wasLost(outcome) ? await run.recover() : undefined;
  await active.steeringOver();
  active.permissions.void();
  await run.end(retried ?? outcome);
  await deps.stuck.gone(stuck, run.survivors);
  // Few side sessions have another turn.
  if (grant.session.archived !== undefined) {
    await deps.stuck.gone(stuck, await provider.release(grant.turn.recordNo));
  }
}

class TurnRun {
  #text = "";
  #delivered = false;
  #nativeId: string | undefined;
  /** Processes of the turn that could not be ended. */
  survivors: readonly number[] = [];
  #systemDigest: Uint8Array | undefined;
  readonly briefing: Briefing;

  constructor(
    private readonly deps: RunTurnDeps,
    private readonly provider: Provider,
    private readonly active: ActiveTurn,
    private readonly grant: Grant,
    private readonly request: TurnRequest,
  ) {
    this.#nativeId = grant.session.nativeId;
    const { resume } = provider.capabilities;
    this.briefing = new Briefing(deps.store, active.log, grant, request.history, resume);
  }

  async attempt(attempt: number, binding: NativeBinding, unseen: readonly Exchange[]): Promise<TurnOutcome> {
    const agent = this.active.trace?.agent(attempt);
    let status = "failed";
    try {
      const turn = await this.#providerTurn(attempt, binding, unseen, agent?.carrier);
      const run = this.provider.run(turn);
      for await (const event of run) {
        if (event.kind === "end") {
          this.survivors = event.survivors ?? [];
          status = event.outcome.status;
          return event.outcome;
        }
        await this.#take(event, attempt);
        if (event.kind === "started") this.active.steerable((input) => this.#steer(run, input));
      }
      return internalFailure("the provider ended without an outcome");
    } catch (error) {
      this.deps.log("a turn failed unexpectedly", error);
      return internalFailure(error instanceof Error ? error.message : String(error));
    } finally {
      agent?.ended(status);
    }
  }

  /** The agent no longer knows the conversation, and it is certain that the model was not asked. */
  wasLost(outcome: TurnOutcome): boolean {
    return (
      outcome.status === "failed" &&
      outcome.code === TurnErrorCode.NATIVE_SESSION_LOST &&
      outcome.modelNotAsked &&
      !this.#delivered &&
      this.survivors.length === 0 &&
      !this.active.signal.aborted
    );
  }

  /** The second attempt, on disk before the agent is asked. */
  async recover(): Promise<TurnOutcome | undefined> {
    const { turn } = this.grant;
    const brokerAssigns = this.provider.capabilities.assignsNativeId === "broker";
    const newNativeId = brokerAssigns ? this.deps.newNativeId() : undefined;
    const begun = await this.deps.store
      .retry({
        turnNo: turn.turnNo,
        fence: turn.fence ?? 0,
        attempt: 2,
        ...definedId("newNativeId", newNativeId),
      })
      .catch((error: unknown) => {
        this.deps.log("a second attempt could not be recorded", error);
        return false;
      });
    if (!begun) return undefined;
    this.active.permissions.void();
    this.#nativeId = newNativeId;
    const kept = await this.briefing.afterLoss();
    return this.attempt(2, { ...definedId("nativeId", newNativeId), state: "fresh" }, kept);
  }

  async end(outcome: TurnOutcome): Promise<void> {
    const { log } = this.active;
    const ending = endingOf(this.#named(outcome), this.#text, this.active.stopped, log.lastSequence);
    const { event, entries } = await log.conclude(ending.payload);
    const call = this.#endCall(outcome, ending, entries);
    for (;;) {
      try {
        // False: another ending was first, and readers are shown that one.
        const first = await this.deps.store.end(call);
        if (first) log.finish(event);
        else this.active.overtaken();
        return;
      } catch (error) {
        this.deps.log("the ending of a turn could not be written; its lane stays held", error);
        await this.deps.pause(endRetryMs);
      }
    }
  }

  /** False also if the provider fails: the text may be asked again as a turn of its own. */
  async #steer(run: ProviderRun, input: readonly TurnInputPart[]): Promise<boolean> {
    try {
      return (await run.steer?.(input)) ?? false;
    } catch (error) {
      this.deps.log("text could not be given to a running turn", error);
      return false;
    }
  }

  /** The outcome with the native id that the turn ran in. */
  #named(outcome: TurnOutcome): TurnOutcome {
    return outcome.status === "completed"
      ? { ...outcome, ...definedId("nativeId", outcome.nativeId ?? this.#nativeId) }
      : outcome;
  }

  async #providerTurn(
    attempt: number,
    binding: NativeBinding,
    unseen: readonly Exchange[],
    trace: TraceCarrier = {},
  ): Promise<ProviderTurn> {
    const { grant, request } = this;
    const { system, model, outputFormat, timeoutMs } = request;
    const { systemDigest } = grant.session;
    // An agent that remembers nothing begins anew each time.
    const begins = binding.state !== "bound" || attempt > 1 || !this.provider.capabilities.resume;
    const prompt = systemPromptOf(system, systemDigest, begins);
    this.#systemDigest = prompt.digest;
    return {
      turnId: grant.turn.turnId,
      recordNo: grant.turn.recordNo,
      grant: grant.turn.grant,
      sessionId: grant.session.sessionId,
      attempt,
      turnNumber: grant.session.turnCount,
      input: request.input,
      binding,
      unseen,
      ...(system === undefined ? {} : { system }),
      ...(prompt.notice === undefined ? {} : { systemNotice: prompt.notice }),
      ...(model === undefined ? {} : { model }),
      ...(outputFormat === undefined ? {} : { outputFormat }),
      workspace: await this.deps.workspace(grant, this.#preparedDirectory(binding)),
      previousTotal: attempt === 1 ? grant.session.agentTotal : {},
      childMark: this.deps.childMark(grant.session.sessionId),
      trace,
      timeoutMs: Math.min(timeoutMs ?? this.provider.timeoutMs, this.provider.timeoutMs),
      signal: this.active.signal,
    };
  }

  /** Of a process that was started ahead, for the first turn of a session with a directory of its own. */
  #preparedDirectory(binding: NativeBinding): string | undefined {
    const { session, turn } = this.grant;
    const isNew = session.turnCount === 1 && session.workspace === "" && binding.state === "fresh";
    return isNew ? this.provider.reserveAhead?.(turn.recordNo, this.request.model) : undefined;
  }

  async #take(event: Exclude<ProviderEvent, { kind: "end" }>, attempt: number): Promise<void> {
    if (event.kind === "started") return this.#started(event, attempt);
    if (event.kind === "permission") {
      this.active.permissions.ask(event, this.provider.permissionMs);
      this.#delivered = true;
      return;
    }
    if (event.kind === "text") {
      if (this.#text === "" && event.text !== "") this.deps.onFirstText?.(this.grant.turn);
      this.#text += event.text;
    }
    this.#delivered ||= event.kind !== "notice";
    this.active.log.add(payloadOf(event));
  }

  async #started(event: Extract<ProviderEvent, { kind: "started" }>, attempt: number): Promise<void> {
    const { turn } = this.grant;
    const fence = turn.fence ?? 0;
    if (event.nativeId !== undefined && event.nativeId !== this.#nativeId) {
      // Bound before its first event is sent.
      await this.deps.store.bindNative({ turnNo: turn.turnNo, fence, nativeId: event.nativeId });
      this.#nativeId = event.nativeId;
    }
    this.active.log.add({
      case: "started",
      value: {
        attempt,
        provider: this.provider.id,
        nativeId: this.#nativeId ?? "",
        resumed: event.resumed,
        warm: event.warm,
        fence: BigInt(fence),
        previousHolderLost: this.grant.previousHolderLost,
      },
    });
  }

  #endCall(outcome: TurnOutcome, ending: Ending, entries: TurnEndCall["entries"]): TurnEndCall {
    const { turn } = this.grant;
    const succeeded = ending.state === "COMPLETED";
    const nativeId = (outcome.status === "completed" ? outcome.nativeId : undefined) ?? this.#nativeId;
    const lostFor = outcome.status === "failed" && outcome.code === TurnErrorCode.NATIVE_SESSION_LOST;
    return {
      turnNo: turn.turnNo,
      fence: turn.fence ?? 0,
      state: ending.state,
      entries,
      endedAtMs: this.deps.now(),
      usage: outcome.usage ?? noUsage,
      taken: this.active.taken,
      ...(outcome.total === undefined ? {} : { agentTotal: outcome.total }),
      ...(nativeId === undefined
        ? {}
        : succeeded
          ? { native: { id: nativeId, state: "bound" } }
          : lostFor
            ? { native: { id: nativeId, state: "lost" } }
            : {}),
      ...(succeeded && turn.chainLink !== undefined
        ? { chainHead: this.deps.chainAfter(turn.chainLink, this.#text) }
        : {}),
      ...(succeeded && this.#systemDigest !== undefined ? { systemDigest: this.#systemDigest } : {}),
      ...(succeeded
        ? {
            exchange: {
              user: textOf([...this.request.input, ...this.active.steered]),
              assistant: this.#text,
            },
          }
        : {}),
    };
  }
}

/** The start of a turn whose caller runs the agent. */
export function startedOutside({ turn, session, previousHolderLost }: Grant): EventPayload {
  return {
    case: "started",
    value: {
      attempt: turn.attempt,
      provider: turn.key.provider,
      nativeId: session.nativeId ?? "",
      resumed: session.nativeState === "bound",
      fence: BigInt(turn.fence ?? 0),
      previousHolderLost,
    },
  };
}

/** How the agent's conversation stands before the first attempt. */
function firstBinding({ session, nativeStateBefore }: Grant): NativeBinding {
  if (session.nativeId === undefined) return { state: "fresh" };
  if (nativeStateBefore === "bound") return { nativeId: session.nativeId, state: "bound" };
  if (nativeStateBefore === "provisional") return { nativeId: session.nativeId, state: "provisional" };
  return { nativeId: session.nativeId, state: "fresh" };
}

function payloadOf(event: Exclude<ProviderEvent, { kind: "end" | "started" | "permission" }>): EventPayload {
  switch (event.kind) {
    case "text":
      return { case: "textDelta", value: { text: event.text } };
    case "reasoning":
      return { case: "reasoningDelta", value: { text: event.text } };
    case "tool-call":
      return { case: "toolCall", value: { id: event.id, name: event.name, input: event.input } };
    case "tool-result":
      return { case: "toolResult", value: { id: event.id, output: event.output, isError: event.isError } };
    case "notice":
      return {
        case: "notice",
        value: {
          kind: event.unsolicited ? Notice_Kind.UNSOLICITED : Notice_Kind.PROVIDER,
          message: event.message,
        },
      };
  }
}

export function textOf(input: readonly TurnInputPart[]): string {
  return input.map((part) => (part.kind === "text" ? part.text : `[${part.kind} ${part.name}]`)).join("\n");
}

function internalFailure(message: string): TurnOutcome {
  return { status: "failed", code: TurnErrorCode.INTERNAL, message, retryable: false, modelNotAsked: false };
}

function definedId<K extends string>(name: K, id: string | undefined): { [P in K]?: string } {
  return id === undefined ? {} : ({ [name]: id } as { [P in K]?: string });
}
