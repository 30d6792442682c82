/** A response's events after a number that its reader has. */
import type { TurnEvent } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import type { ResponseEvent, ResponseEvents } from "./events.js";

/**
 * The turn is read from its beginning, since what its items are depends on all
 * of it, and events are sent from the number on. The broker merges deltas for
 * a reader that is behind. Where the number lies within merged ones, what
 * follows it is read again from there: the numbers of deltas that follow one
 * another run with the turn's own sequence.
 */
export async function* eventsAfter(
  number: number,
  events: ResponseEvents,
  attach: (afterSequence: number) => AsyncIterable<TurnEvent>,
): AsyncGenerator<ResponseEvent | "alive"> {
  let sent = number;
  for await (const turnEvent of attach(0)) {
    if (turnEvent.sequence === 0) yield "alive";
    for (const { event, first } of events.apply(turnEvent)) {
      if (event.sequence_number <= sent) continue;
      if (first > sent || !("delta" in event)) {
        sent = event.sequence_number;
        yield event;
        continue;
      }
      const behind = event.sequence_number - sent;
      const seen = turnEvent.sequence - behind;
      const begun = sent;
      for await (const next of attach(seen)) {
        const { case: kind, value } = next.event;
        if (next.sequence === 0) {
          yield "alive";
        } else if (kind === turnEvent.event.case && (kind === "textDelta" || kind === "reasoningDelta")) {
          sent = begun + next.sequence - seen;
          yield { ...event, delta: value.text, sequence_number: sent };
        } else {
          break;
        }
      }
    }
  }
}
