/** Ended turns whose events are kept, by grant and end, with what they take on disk. */
import type { KeptTurn } from "../../turns/retention.js";
import { hasEnded, type TurnRow } from "../../turns/turn.js";
import { afterAll } from "./schema.js";
import { decodeNumber, encodeNumber, type Key, type Tables } from "./tables.js";

/** Makes the index agree with a turn that is written, or deleted. */
export function moveKeptEvents(
  tables: Tables,
  before: TurnRow | undefined,
  after: TurnRow | undefined,
): void {
  const old = before === undefined ? undefined : keptEventsKey(before);
  const key = after === undefined ? undefined : keptEventsKey(after);
  // Nothing of the key changes once a turn has ended.
  if ((old === undefined) === (key === undefined)) return;
  if (old !== undefined && before !== undefined) {
    tables.delete("keptEvents", old);
    addHeld(tables, before.grant, -before.eventBytes);
  }
  if (key !== undefined && after !== undefined) {
    tables.put("keptEvents", key, encodeNumber(after.eventBytes));
    addHeld(tables, after.grant, after.eventBytes);
  }
}

/** Bytes that the ended turns of each grant hold. */
export function heldBytes(tables: Tables): ReadonlyMap<string, number> {
  const held = new Map<string, number>();
  for (const { key, value } of tables.all("grantEvents")) held.set(String(key), decodeNumber(value));
  return held;
}

/** Turns of a grant, the first to have ended first. */
export function* keptEvents(tables: Tables, grant: string): Generator<KeptTurn> {
  for (const { key, value } of tables.entriesBetween("keptEvents", [grant], [grant, afterAll])) {
    yield { endedAtMs: Number(key[1]), turnNo: Number(key[2]), bytes: decodeNumber(value) };
  }
}

/** Undefined if it keeps no events, or has not ended. */
export function keptEventsKey({
  state,
  grant,
  endedAtMs,
  turnNo,
  eventBytes,
  evictedThrough,
}: TurnRow): Key | undefined {
  const kept = hasEnded(state) && eventBytes > 0 && evictedThrough === 0;
  return kept ? [grant, endedAtMs ?? 0, turnNo] : undefined;
}

function addHeld(tables: Tables, grant: string, bytes: number): void {
  const held = tables.get("grantEvents", grant);
  const sum = (held === undefined ? 0 : decodeNumber(held)) + bytes;
  if (sum > 0) tables.put("grantEvents", grant, encodeNumber(sum));
  else tables.delete("grantEvents", grant);
}
