/** The spans of a turn: one for all of it, and in that one for the wait and one for each attempt of the agent. */
import { SpanKind } from "@opentelemetry/api";
import { startSpan } from "./tracing.js";
import type { TurnRow } from "./turns/turn.js";
import type { TraceCarrier, TurnTrace } from "./turns/turn-trace.js";

/** Begins at the admission. No prompt, answer or native id is in it. */
export function traceTurn(row: TurnRow, parent: TraceCarrier): TurnTrace {
  const provider = row.key.provider;
  const turn = startSpan("turn", parent, {
    kind: SpanKind.INTERNAL,
    attributes: {
      "session_broker.turn_id": row.turnId,
      "session_broker.session_id": row.sessionId,
      "session_broker.scope": row.key.scope,
      "session_broker.provider": provider,
    },
  });
  const waiting = startSpan("queue wait", turn.carrier, { kind: SpanKind.INTERNAL });
  let hasStarted = false;
  const started = () => {
    if (!hasStarted) waiting.end();
    hasStarted = true;
  };
  return {
    started,
    agent(attempt) {
      const attributes = { "session_broker.provider": provider, "session_broker.attempt": attempt };
      const agent = startSpan(`agent ${provider}`, turn.carrier, { kind: SpanKind.CLIENT, attributes });
      return {
        carrier: agent.carrier,
        ended: (status) => agent.end(status === "failed" ? status : undefined),
      };
    },
    ended(ending) {
      started();
      const failure = ending === "FAILED" || ending === "INTERRUPTED" ? ending : undefined;
      turn.end(failure, { "session_broker.ending": ending });
    },
  };
}
