/**
 * Reading a turn: first what the journal keeps, then what happens, without a
 * gap or a repeat. Readers pull, so a slow one holds up nobody and is given
 * from the journal what is no longer held in memory, its deltas merged.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type TurnEvent, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import { BrokerError } from "../errors.js";
import type { ActiveTurn } from "./active-turn.js";
import { mergeDeltas } from "./merge-deltas.js";
import { firstSequenceOf, hasEnded, type TurnRow } from "./turn.js";
import type { EventPayload, TurnLog } from "./turn-log.js";
import type { TurnStore } from "./turn-store.js";

export interface FollowDeps {
  readonly store: Pick<TurnStore, "byTurnNo" | "events">;
  readonly now: () => number;
}

const heartbeatMs = 15_000;
const pageEvents = 256;

/**
 * What a reader from the start gets of a turn whose events are no longer kept:
 * a refusal, or Accepted and the ending without what was between them.
 */
export type IfExpired = "refuse" | "ending";

/**
 * @throws BrokerError CURSOR_AHEAD if no such sequence was ever given out,
 * EVENTS_EXPIRED, at any time, if the next event is no longer kept
 */
export async function* followTurn(
  deps: FollowDeps,
  row: TurnRow,
  active: ActiveTurn | undefined,
  afterSequence: number,
  signal: AbortSignal,
  ifExpired: IfExpired = "refuse",
): AsyncGenerator<TurnEvent> {
  let cursor = afterSequence;
  if (active !== undefined && !active.log.ended) {
    checkCursor(row.turnId, cursor, active.log.reservedThrough);
    for await (const event of followLive(deps, row, active.log, cursor, signal)) {
      if (event.sequence > 0) cursor = event.sequence;
      yield event;
      if (isTerminal(event)) return;
    }
    if (signal.aborted) return;
  }
  yield* replay(deps, row.turnNo, cursor, signal, ifExpired);
}

export function isTerminal(event: TurnEvent): boolean {
  switch (event.event.case) {
    case "completed":
    case "failed":
    case "cancelled":
    case "interrupted":
      return true;
    default:
      return false;
  }
}

async function* followLive(
  deps: FollowDeps,
  row: TurnRow,
  log: TurnLog,
  afterSequence: number,
  signal: AbortSignal,
): AsyncGenerator<TurnEvent> {
  let cursor = afterSequence;
  let toldPosition = 0;
  if (cursor < 1) {
    yield decode(row.accepted);
    cursor = 1;
    toldPosition = log.position;
  }
  while (!signal.aborted) {
    const events = log.after(cursor) ?? mergeDeltas(await journaled(deps, row.turnNo, cursor));
    for (const event of events) {
      yield event;
      cursor = event.sequence;
    }
    if (events.length > 0) continue;
    if (log.ended) return;
    if (log.position !== toldPosition) {
      toldPosition = log.position;
      if (toldPosition > 0) {
        yield unkept(deps, row.turnId, { case: "queued", value: { position: toldPosition } });
        continue;
      }
    }
    if ((await log.changed(signal, heartbeatMs)) === "silent") {
      yield unkept(deps, row.turnId, { case: "heartbeat", value: {} });
    }
  }
}

/** A turn that has ended: Accepted and the ending are in its row, the rest in the journal. */
async function* replay(
  deps: FollowDeps,
  turnNo: number,
  afterSequence: number,
  signal: AbortSignal,
  ifExpired: IfExpired,
): AsyncGenerator<TurnEvent> {
  const row = await deps.store.byTurnNo(turnNo);
  if (row === undefined) throw deleted();
  if (!hasEnded(row.state) || row.ending === undefined) {
    throw new BrokerError("DRAINING", "the turn is not followed by this process; attach again", {}, 1_000);
  }
  checkCursor(row.turnId, afterSequence, row.reservedThrough);
  const ending = decode(row.ending);
  let cursor = afterSequence;
  if (cursor < row.evictedThrough) {
    if (cursor > 0 || ifExpired === "refuse") throw expired(row, cursor);
    cursor = row.evictedThrough;
  }
  if (afterSequence < 1) {
    yield decode(row.accepted);
    cursor = Math.max(cursor, 1);
  }
  while (!signal.aborted) {
    const events = await journaled(deps, turnNo, cursor);
    for (const event of events) {
      yield event;
      cursor = event.sequence;
    }
    if (events.length === 0) break;
  }
  if (!signal.aborted && cursor < ending.sequence) yield ending;
}

async function journaled(deps: FollowDeps, turnNo: number, after: number): Promise<readonly TurnEvent[]> {
  const entries = await deps.store.events(turnNo, after, pageEvents);
  if (entries === "gone") {
    const row = await deps.store.byTurnNo(turnNo);
    throw row === undefined || row.evictedThrough === 0 ? deleted() : expired(row, after);
  }
  return entries.map(({ event }) => decode(event));
}

/** An event that is not journaled and has no sequence. */
function unkept(deps: FollowDeps, turnId: string, event: EventPayload): TurnEvent {
  return create(TurnEventSchema, { turnId, time: timestampFromMs(deps.now()), event });
}

function decode(bytes: Uint8Array): TurnEvent {
  return fromBinary(TurnEventSchema, bytes);
}

function deleted(): BrokerError {
  return new BrokerError("TURN_NOT_FOUND", "the turn has been deleted");
}

function expired(row: TurnRow, cursor: number): BrokerError {
  return new BrokerError(
    "EVENTS_EXPIRED",
    `after_sequence: events of turn ${row.turnId} after sequence ${cursor} are no longer kept`,
    { first_sequence: String(firstSequenceOf(row)) },
  );
}

function checkCursor(turnId: string, cursor: number, last: number): void {
  if (cursor <= last) return;
  throw new BrokerError(
    "CURSOR_AHEAD",
    `after_sequence: turn ${turnId} has given out no sequence ${cursor}`,
    {
      last_sequence: String(last),
    },
  );
}
