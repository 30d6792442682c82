/**
 * Rows in the order of their last activity, over any number of scopes and
 * providers. The order is total and strict, so a walk can stop anywhere and go
 * on from there; a row that nothing touches keeps its place.
 */

import type { SessionRow } from "../../sessions/session.js";
import type { Place } from "../../sessions/session-store.js";
import { afterAll } from "./schema.js";
import type { Key, Tables } from "./tables.js";

/** One stretch of the index. */
export type Stretch = readonly [scope: string, provider: string, state: "l" | "a"];

/**
 * `newest`: latest activity first, then keys in ascending order.
 * `oldest`: the same backwards.
 */
export type Direction = "newest" | "oldest";

/** Activity is negated, so that the newest row of a stretch is its first. */
export function activityKey(row: SessionRow): Key {
  const { scope, externalId, provider } = row.key;
  return [
    scope,
    provider,
    row.archived === undefined ? "l" : "a",
    newestFirst(row.lastActivityMs),
    externalId,
    row.recordNo,
  ];
}

/** Negated, but for zero: a key cannot hold -0. */
function newestFirst(ms: number): number {
  return 0 - ms;
}

/** Places in order, after a place, with no activity at or after a time. */
export function* walkActivity(
  tables: Tables,
  stretches: readonly Stretch[],
  direction: Direction,
  after?: Place,
  idleSinceMs?: number,
): Generator<Place> {
  const sources = stretches.map((stretch) => {
    const keys = keysOf(tables, stretch, direction, after, idleSinceMs);
    return { stretch, keys, head: keys.next().value };
  });
  try {
    for (;;) {
      let first: (typeof sources)[number] | undefined;
      for (const source of sources) {
        if (source.head === undefined) continue;
        if (first?.head === undefined || compare(source, first, direction) < 0) first = source;
      }
      if (first?.head === undefined) return;
      yield toPlace(first.head);
      first.head = first.keys.next().value;
    }
  } finally {
    for (const { keys } of sources) keys.return(undefined);
  }
}

function* keysOf(
  tables: Tables,
  stretch: Stretch,
  direction: Direction,
  after: Place | undefined,
  idleSinceMs: number | undefined,
): Generator<Key, undefined> {
  const bottom: Key = idleSinceMs === undefined ? stretch : [...stretch, newestFirst(idleSinceMs), afterAll];
  const top: Key = [...stretch, afterAll];
  const from = after === undefined ? undefined : startOf(stretch, direction, after);
  const excluded = from?.join("\n");
  const keys =
    direction === "newest"
      ? tables.keysBetween("activity", from ?? bottom, top)
      : tables.keysDown("activity", from ?? top, bottom);
  for (const key of keys) if (key.join("\n") !== excluded) yield key;
  return undefined;
}

/** Where a stretch goes on after a place, which may lie in another one. */
function startOf(stretch: Stretch, direction: Direction, after: Place): Key {
  const activity = newestFirst(after.lastActivityMs);
  const order = compareStretches(stretch, [after.key.scope, after.key.provider, after.archived ? "a" : "l"]);
  if (order === 0) return [...stretch, activity, after.key.externalId, after.recordNo];
  const tiesAreBehind = direction === "newest" ? order < 0 : order > 0;
  const upperEdge = direction === "newest" ? tiesAreBehind : !tiesAreBehind;
  return upperEdge ? [...stretch, activity, afterAll] : [...stretch, activity];
}

interface Source {
  readonly stretch: Stretch;
  readonly head: Key | undefined;
}

function compare(a: Source, b: Source, direction: Direction): number {
  const order = Number(a.head?.[3]) - Number(b.head?.[3]) || compareStretches(a.stretch, b.stretch);
  return direction === "newest" ? order : -order;
}

function compareStretches(a: readonly string[], b: readonly string[]): number {
  for (const [index, part] of a.entries()) {
    const other = b[index] ?? "";
    if (part !== other) return part < other ? -1 : 1;
  }
  return 0;
}

function toPlace([scope, provider, state, activity, externalId, recordNo]: Key): Place {
  return {
    lastActivityMs: newestFirst(Number(activity)),
    key: { scope: String(scope), externalId: String(externalId), provider: String(provider) },
    archived: state === "a",
    recordNo: Number(recordNo),
  };
}
