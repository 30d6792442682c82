/** The trace that a turn is part of, as its own port: what is recorded of it is not the turn's affair. */

/** W3C trace context as headers: empty if there is none. */
export interface TraceCarrier {
  readonly traceparent?: string;
  readonly tracestate?: string;
}

/**
 *     (admitted) ──started──▶ running ──agent──▶ (a span for each attempt)
 *         └──────────────────────┴──ended──▶ (over)
 */
export interface TurnTrace {
  /** It has its lane. */
  started(): void;
  /** An attempt of the agent begins. */
  agent(attempt: number): AgentTrace;
  /** @param ending as in `TurnEnding` */
  ended(ending: string): void;
}

export interface AgentTrace {
  /** For the agent's process. */
  readonly carrier: TraceCarrier;
  ended(status: string): void;
}
