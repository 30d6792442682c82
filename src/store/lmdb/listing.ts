/** Pages of sessions in one order over all scopes: latest activity first. */
import type { ListCursor, ListFilter, SessionView } from "../../sessions/session-store.js";
import { afterAll } from "./schema.js";
import type { Key, Tables } from "./tables.js";

/** One stretch of the activity index: a scope, a provider, live or archived. */
interface Source {
  readonly prefix: readonly [string, string, "l" | "a"];
  readonly keys: Iterator<Key>;
  head: Key | undefined;
}

/**
 * Rows in descending order of (activity, scope, provider, state, external id,
 * record no). A row that nothing touches keeps its place, so it is on exactly
 * one page.
 */
export function listSessions(
  tables: Tables,
  filter: ListFilter,
  after: ListCursor | undefined,
  limit: number,
): SessionView[] {
  const sources = openSources(tables, filter, after);
  const views: SessionView[] = [];
  while (views.length < limit) {
    const source = latest(sources);
    if (source?.head === undefined) break;
    const [scope, provider, , , externalId, recordNo] = source.head;
    source.head = source.keys.next().value;
    const key = { scope: String(scope), provider: String(provider), externalId: String(externalId) };
    const row = tables.row(key, Number(recordNo));
    if (row !== undefined) views.push(tables.view(row));
  }
  for (const source of sources) source.keys.return?.();
  return views;
}

export function cursorOf({ row }: SessionView): ListCursor {
  return {
    lastActivityMs: row.lastActivityMs,
    key: row.key,
    archived: row.archived !== undefined,
    recordNo: row.recordNo,
  };
}

function openSources(tables: Tables, filter: ListFilter, after: ListCursor | undefined): Source[] {
  const sources: Source[] = [];
  for (const scope of tables.scopesOf(filter.scopes)) {
    for (const [, provider] of [...tables.keysBelow("scopes", [scope])]) {
      if (typeof provider !== "string" || (filter.provider !== undefined && provider !== filter.provider))
        continue;
      if (filter.live) sources.push(openSource(tables, [scope, provider, "l"], filter, after));
      if (filter.archived) sources.push(openSource(tables, [scope, provider, "a"], filter, after));
    }
  }
  return sources;
}

function openSource(
  tables: Tables,
  prefix: Source["prefix"],
  filter: ListFilter,
  after: ListCursor | undefined,
): Source {
  const keys = below(tables, prefix, startOf(prefix, filter, after));
  return { prefix, keys, head: keys.next().value };
}

function* below(tables: Tables, prefix: Source["prefix"], start: Key): Generator<Key, undefined> {
  const first = start.join("\n");
  for (const key of tables.keysDown("activity", start, prefix)) {
    if (key.join("\n") !== first && key.length === 6) yield key;
  }
  return undefined;
}

/** Where a source goes on below the cursor. */
function startOf(prefix: Source["prefix"], filter: ListFilter, after: ListCursor | undefined): Key {
  const top: Key = filter.idleSinceMs === undefined ? [...prefix, afterAll] : [...prefix, filter.idleSinceMs];
  if (after === undefined) return top;
  const state = after.archived ? "a" : "l";
  const order = comparePrefix(prefix, [after.key.scope, after.key.provider, state]);
  if (order > 0) return [...prefix, after.lastActivityMs];
  if (order < 0) return [...prefix, after.lastActivityMs, afterAll];
  return [...prefix, after.lastActivityMs, after.key.externalId, after.recordNo];
}

function latest(sources: readonly Source[]): Source | undefined {
  let best: Source | undefined;
  for (const source of sources) {
    if (source.head === undefined) continue;
    if (best?.head === undefined || compareHeads(source, best) > 0) best = source;
  }
  return best;
}

function compareHeads(a: Source, b: Source): number {
  return Number(a.head?.[3]) - Number(b.head?.[3]) || comparePrefix(a.prefix, b.prefix);
}

function comparePrefix(a: readonly string[], b: readonly string[]): number {
  for (const [index, part] of a.entries()) {
    const other = b[index] ?? "";
    if (part !== other) return part < other ? -1 : 1;
  }
  return 0;
}
