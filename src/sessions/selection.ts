/** Which of several rows an id means. The algorithm is pure; the rows come from an index, never a scan. */
import { type KeyIdentity, type KeyScheme, normaliseId } from "./key-scheme.js";
import type { SessionRow } from "./session.js";

export interface Candidate {
  readonly row: SessionRow;
  readonly identity: KeyIdentity;
  readonly scheme: KeyScheme;
}

export type Match = "EXACT" | "STRUCTURAL" | "FRESHEST";

export type Selection<C extends Candidate = Candidate> =
  | { readonly kind: "none" }
  | { readonly kind: "selected"; readonly candidate: C; readonly match: Match }
  | { readonly kind: "ambiguous"; readonly candidates: readonly C[] };

/**
 * 1. Rows of one conversation (same scope, provider, agent and request key)
 *    stand for one: the freshest, then the smallest key.
 * 2. One left: that one.
 * 3. Rows whose key ends with the id: the one that is strictly freshest, or
 *    ambiguous among them.
 * 4. None such: the strictly freshest of all, or ambiguous among all.
 */
export function select<C extends Candidate>(candidates: readonly C[], id: string): Selection<C> {
  const winners = candidates.length > 1 ? collapse(candidates).sort(byFreshness) : candidates;
  const [first] = winners;
  if (first === undefined) return { kind: "none" };
  if (winners.length === 1) return { kind: "selected", candidate: first, match: "EXACT" };
  const structural = winners.filter((candidate) => endsWithId(candidate, id));
  return structural.length > 0 ? freshest(structural, "STRUCTURAL") : freshest(winners, "FRESHEST");
}

function collapse<C extends Candidate>(candidates: readonly C[]): C[] {
  const groups = new Map<string, C>();
  for (const candidate of candidates) {
    const { scope, provider } = candidate.row.key;
    const group = [scope, provider, candidate.identity.agent, candidate.identity.requestKey].join("\n");
    const rival = groups.get(group);
    if (rival === undefined || byFreshness(candidate, rival) < 0) groups.set(group, candidate);
  }
  return [...groups.values()];
}

function freshest<C extends Candidate>(sorted: readonly C[], match: Match): Selection<C> {
  const [first, second] = sorted;
  if (first === undefined) return { kind: "none" };
  const tie = second !== undefined && compareAge(second.row, first.row) === 0;
  return tie ? { kind: "ambiguous", candidates: sorted } : { kind: "selected", candidate: first, match };
}

function endsWithId({ identity, scheme }: Candidate, id: string): boolean {
  const wanted = normaliseId(scheme, id);
  return (
    identity.storeKey.endsWith(`:${wanted}`) ||
    identity.requestKey === wanted ||
    identity.requestKey.endsWith(`:${wanted}`)
  );
}

/** The freshest first, then the key in code point order. */
function byFreshness(a: Candidate, b: Candidate): number {
  return compareAge(a.row, b.row) || compareText(keyOf(a), keyOf(b));
}

/**
 * Latest activity first; within one millisecond the row that was changed last.
 * The order in which rows were imported says nothing about their age.
 */
function compareAge(a: SessionRow, b: SessionRow): number {
  return b.lastActivityMs - a.lastActivityMs || changedAt(b) - changedAt(a);
}

function changedAt(row: SessionRow): number {
  return row.importedKey !== undefined && row.turnCount === 0 ? 0 : row.revision;
}

function keyOf({ row }: Candidate): string {
  return [row.key.externalId, row.key.scope, row.key.provider].join("\n");
}

function compareText(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
