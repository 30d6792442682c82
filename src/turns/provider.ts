/**
 * The port to an agent. A provider runs turns; it knows no store, no lane and
 * no client. What it learns about the conversation's native id it says in its
 * events, and the turn commits it.
 */
import type { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { TraceCarrier } from "./turn-trace.js";

export interface ProviderCapabilities {
  /** Who makes the native id: the broker before the first turn, or the agent. */
  readonly assignsNativeId: "broker" | "provider";
  /** False: it remembers nothing by itself, and each turn is given all that is kept as `unseen`. */
  readonly resume: boolean;
  readonly interrupt: boolean;
  readonly steer: boolean;
  readonly warm: boolean;
  readonly fork: boolean;
  readonly reasoning: boolean;
  readonly images: boolean;
  readonly usage: boolean;
  readonly cost: boolean;
  readonly toolEvents: boolean;
  readonly permissionRequests: boolean;
  /** Its answers can be held to be a JSON object. */
  readonly jsonObject: boolean;
  /** Its answers can be held to a JSON Schema. */
  readonly jsonSchema: boolean;
}

/** What the answer must be. */
export type OutputFormat =
  | { readonly kind: "json-object" }
  | {
      readonly kind: "json-schema";
      readonly name: string;
      readonly description: string;
      /** As JSON. */
      readonly schema: string;
      readonly strict: boolean;
    };

/** Tokens and cost of one turn. Each token is counted in one field only. */
export interface TurnUsage {
  /** Input neither read from nor written to a cache. */
  readonly inputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  /** Reasoning included. */
  readonly outputTokens: number;
  readonly reasoningTokens: number;
  /** US dollars; absent if the provider states none. */
  readonly costUsd?: number;
}

/** What the agent reported as the sum over its conversation so far; nothing that it does not report. */
export type RunningTotal = Partial<TurnUsage>;

export type TurnInputPart =
  | { readonly kind: "text"; readonly text: string }
  | {
      readonly kind: "image" | "file";
      readonly mediaType: string;
      readonly name: string;
      readonly data: Uint8Array;
    };

/** One exchange that the broker has kept: what was asked and what was answered. */
export interface Exchange {
  readonly user: string;
  readonly assistant: string;
}

/** The agent's conversation that this turn belongs to. */
export interface NativeBinding {
  /** Absent: the provider assigns one and says it in `started`. */
  readonly nativeId?: string;
  /**
   * `fresh`: the agent has never been given this id.
   * `provisional`: it was given in an earlier turn that did not succeed, so the
   * agent may or may not know it.
   * `bound`: a turn with it has succeeded, so not knowing it is a loss.
   */
  readonly state: "fresh" | "provisional" | "bound";
}

export interface ProviderTurn {
  readonly turnId: string;
  /** The session's row: one conversation of the broker's, whatever it is called. */
  readonly recordNo: number;
  readonly sessionId: string;
  /** Base scope of the credential that sent the turn. */
  readonly grant: string;
  readonly attempt: number;
  /** Number of this turn in its session, from 1. */
  readonly turnNumber: number;
  readonly input: readonly TurnInputPart[];
  readonly binding: NativeBinding;
  /** Exchanges that the agent has not seen, oldest first: to be told to it before the input. */
  readonly unseen: readonly Exchange[];
  /**
   * Appended to the agent's system prompt. An agent that remembers it is given
   * it when its conversation begins, and never after (ruling 30).
   */
  readonly system?: string;
  /**
   * What is to be said before the input to an agent that remembers the system
   * prompt it began with, since the caller's is another one now.
   */
  readonly systemNotice?: string;
  readonly model?: string;
  /** Only for providers that can. Default: text. */
  readonly outputFormat?: OutputFormat;
  /** Absolute path of an existing directory. */
  readonly workspace: string;
  /** The running total at the end of the session's last turn. */
  readonly previousTotal: RunningTotal;
  /** Value of SESSION_BROKER_CHILD for every process started for this turn. */
  readonly childMark: string;
  /** The trace that a process started for this turn is part of. Default: none. */
  readonly trace?: TraceCarrier;
  /** From the start of the attempt to its end. */
  readonly timeoutMs: number;
  /** Aborted to cancel; the iteration still ends with one outcome, after every process is gone. */
  readonly signal: AbortSignal;
}

export type ProviderEvent =
  /** Once, before anything else but `end`. */
  | {
      readonly kind: "started";
      readonly nativeId?: string;
      readonly resumed: boolean;
      readonly warm: boolean;
    }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "reasoning"; readonly text: string }
  | { readonly kind: "tool-call"; readonly id: string; readonly name: string; readonly input: string }
  | { readonly kind: "tool-result"; readonly id: string; readonly output: string; readonly isError: boolean }
  /** `unsolicited`: the agent said something that belongs to no turn. */
  | { readonly kind: "notice"; readonly message: string; readonly unsolicited?: true }
  /** The agent asks whether it may use a tool, and waits until `decide` is called, once. */
  | {
      readonly kind: "permission";
      readonly tool: string;
      /** JSON. */
      readonly input: string;
      readonly decide: (decision: { readonly allowed: boolean; readonly message: string }) => void;
      /** Aborted when the agent waits for the answer no more. */
      readonly withdrawn: AbortSignal;
    }
  /** Once, last. */
  | {
      readonly kind: "end";
      readonly outcome: TurnOutcome;
      /** Pids that could not be ended: while they live, no other turn may run in the session. */
      readonly survivors?: readonly number[];
    };

export type TurnOutcome =
  | {
      readonly status: "completed";
      readonly text: string;
      readonly finishReason: FinishReason;
      readonly nativeId?: string;
      readonly model?: string;
      readonly usage?: TurnUsage;
      readonly total?: RunningTotal;
    }
  | {
      readonly status: "failed";
      readonly code: TurnErrorCode;
      readonly message: string;
      readonly retryable: boolean;
      readonly retryAfterMs?: number;
      readonly usage?: TurnUsage;
      readonly total?: RunningTotal;
      /**
       * True if it is proven that the model was not asked (the agent refused
       * before it read the prompt, or its terminal record says so).
       */
      readonly modelNotAsked: boolean;
    }
  | { readonly status: "cancelled"; readonly usage?: TurnUsage; readonly total?: RunningTotal };

/** One run of a turn: its events, ending with `end`. */
export interface ProviderRun extends AsyncIterable<ProviderEvent> {
  /**
   * Gives the agent text while it answers. Asked between `started` and `end`,
   * of providers with the capability `steer`. False if the agent takes none any
   * more, in which case it has not seen the text.
   */
  steer?(input: readonly TurnInputPart[]): Promise<boolean>;
}

export interface ProviderHealth {
  readonly available: boolean;
  /** Version of the agent, or why it cannot be asked. */
  readonly detail: string;
}

/** For processes that are started before there is a session for them. */
export interface AheadPlace {
  /** Absolute path of the folder for their directories, within that of all sessions; made if it is missing. */
  readonly directories: string;
  /** `<store>/<life>`, the beginning of their marks. */
  readonly mark: string;
}

export interface Provider {
  /** As in the configuration. */
  readonly id: string;
  /** Which kind of backend, such as `claude`. */
  readonly kind: string;
  readonly capabilities: ProviderCapabilities;
  /** Names that a request may ask for; empty: any. The first is the default. */
  readonly models: readonly string[];
  /** Longest that a turn may take. */
  readonly timeoutMs: number;
  /** Turns at once. */
  readonly maxRunning: number;
  /** How long a permission request waits for an answer, before it is denied. */
  readonly permissionMs: number;
  /** Starts processes for sessions to come, if the configuration says so. Asked once, when turns may run. */
  startAhead?(place: AheadPlace): void;
  /**
   * The directory of a process that was started ahead, which the first turn of
   * this session will get if it works there. Undefined: none is ready.
   */
  reserveAhead?(recordNo: number, model: string | undefined): string | undefined;
  /** Runs one turn. Never throws; whatever goes wrong is an `end` event. */
  run(turn: ProviderTurn): ProviderRun;
  /**
   * Ends what is kept of a session between its turns, since somebody else is to
   * have its conversation. Resolves when it is gone, with the pids of what could
   * not be ended. Of a session that nothing is kept of: nothing to do.
   */
  release(recordNo: number): Promise<readonly number[]>;
  /** Processes that are ready for a turn and run none. Default: none is kept. */
  readonly warmProcesses?: () => number;
  health(): Promise<ProviderHealth>;
  /** Ends every process. */
  close(): Promise<void>;
}
