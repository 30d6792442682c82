/**
 * Turns from the newest to the oldest, by state, over any number of scopes.
 * The order is total, the same in each state, and a turn keeps its place in it
 * for life, so a walk can stop anywhere and go on from there.
 */
import type { TurnRow, TurnState } from "../../turns/turn.js";
import type { TurnListCall, TurnPlace } from "../../turns/turn-store.js";
import { afterAll } from "./schema.js";
import type { Key, Tables } from "./tables.js";

/** Both numbers are negated, so that the newest turn is the first. */
export function turnOrderKey(turn: TurnRow): Key {
  return [turn.key.scope, turn.state, ...placeKey(turn)];
}

/** Places of the turns that a listing over scopes is about. */
export function* walkTurns(tables: Tables, call: TurnListCall): Generator<TurnPlace> {
  const sources: { places: Generator<TurnPlace, undefined>; head: TurnPlace }[] = [];
  for (const scope of tables.scopesOf(call.scopes)) {
    for (const state of call.states) {
      const places = placesOf(tables, scope, state, call);
      const head = places.next().value;
      if (head !== undefined) sources.push({ places, head });
    }
  }
  try {
    while (sources.length > 0) {
      let newest = 0;
      for (const [index, { head }] of sources.entries()) {
        if (isNewer(head, sources[newest]?.head ?? head)) newest = index;
      }
      const source = sources[newest];
      if (source === undefined) return;
      yield source.head;
      const next = source.places.next().value;
      if (next === undefined) sources.splice(newest, 1);
      else source.head = next;
    }
  } finally {
    for (const { places } of sources) places.return(undefined);
  }
}

function* placesOf(
  tables: Tables,
  scope: string,
  state: TurnState,
  { after, sinceMs, untilMs }: TurnListCall,
): Generator<TurnPlace, undefined> {
  const stretch: Key = [scope, state];
  const from = after === undefined ? undefined : [...stretch, ...placeKey(after)];
  const start = from ?? (untilMs === undefined ? stretch : [...stretch, newestFirst(untilMs), afterAll]);
  const end: Key =
    sinceMs === undefined ? [...stretch, afterAll] : [...stretch, newestFirst(sinceMs), afterAll];
  for (const [, , createdAt, turnNo] of tables.keysBetween("turnOrder", start, end)) {
    const place = { createdAtMs: newestFirst(Number(createdAt)), turnNo: newestFirst(Number(turnNo)) };
    if (place.turnNo !== after?.turnNo) yield place;
  }
  return undefined;
}

function placeKey({ createdAtMs, turnNo }: TurnPlace): [number, number] {
  return [newestFirst(createdAtMs), newestFirst(turnNo)];
}

/** Negated, but for zero: a key cannot hold -0. */
function newestFirst(count: number): number {
  return 0 - count;
}

function isNewer(a: TurnPlace, b: TurnPlace): boolean {
  return a.createdAtMs === b.createdAtMs ? a.turnNo > b.turnNo : a.createdAtMs > b.createdAtMs;
}
