import { create } from "@bufbuild/protobuf";
import { type TurnEvent, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";

/** Text of one merged delta, in bytes; a single delta may be longer. */
const mostBytes = 64 * 1024;

type DeltaCase = "textDelta" | "reasoningDelta";

interface Run {
  readonly kind: DeltaCase;
  readonly first: TurnEvent;
  last: TurnEvent;
  readonly texts: string[];
  bytes: number;
}

/**
 * Text deltas that follow one another as one, and so reasoning deltas, for a
 * reader that is behind. What is merged has the sequence and time of its last
 * part, and `first_sequence` of its first: a reader that goes on after any
 * sequence, one within included, gets exactly what follows it.
 */
export function mergeDeltas(events: readonly TurnEvent[], most = mostBytes): TurnEvent[] {
  const merged: TurnEvent[] = [];
  let run: Run | undefined;
  for (const event of events) {
    const { case: kind, value } = event.event;
    if (kind !== "textDelta" && kind !== "reasoningDelta") {
      if (run !== undefined) merged.push(eventOf(run));
      run = undefined;
      merged.push(event);
      continue;
    }
    const bytes = Buffer.byteLength(value.text);
    if (run !== undefined && run.kind === kind && run.bytes + bytes <= most) {
      run.last = event;
      run.texts.push(value.text);
      run.bytes += bytes;
      continue;
    }
    if (run !== undefined) merged.push(eventOf(run));
    run = { kind, first: event, last: event, texts: [value.text], bytes };
  }
  if (run !== undefined) merged.push(eventOf(run));
  return merged;
}

function eventOf({ kind, first, last, texts }: Run): TurnEvent {
  if (first === last) return first;
  return create(TurnEventSchema, {
    turnId: last.turnId,
    sequence: last.sequence,
    firstSequence: first.firstSequence || first.sequence,
    ...(last.time === undefined ? {} : { time: last.time }),
    event: { case: kind, value: { text: texts.join("") } },
  });
}
