/** Which session an id means, by a scan of all rows. */
import type { IdentityModel } from "./model.js";
import { type KeyShape, keyText, type Row, type Sees } from "./rows.js";

export type Query =
  | { readonly kind: "key"; readonly key: KeyShape }
  | { readonly kind: "session-id" | "short-id" | "native-id" | "alias" | "turn-id"; readonly id: string };

export interface Filters {
  readonly scope?: string;
  readonly agent?: string;
  readonly provider?: string;
}

export type Selection =
  | { readonly kind: "none" }
  | {
      readonly kind: "selected";
      readonly row: Row;
      readonly match: "EXACT" | "STRUCTURAL" | "FRESHEST";
      readonly source: "ACTIVE_TURN" | "STORE";
    }
  | { readonly kind: "ambiguous"; readonly rows: readonly Row[] };

export function select(model: IdentityModel, query: Query, filters: Filters, sees: Sees): Selection {
  const isIn = ({ key }: Row) =>
    sees(key.scope) &&
    (filters.scope === undefined || key.scope === filters.scope) &&
    (filters.provider === undefined || key.provider === filters.provider);
  const turn = query.kind === "turn-id" ? model.turns.get(query.id) : undefined;
  const isTurn = turn !== undefined && isIn(turn.row);
  const owners = isTurn ? [turn.row] : model.rows.filter((row) => owns(model, row, query));
  const winners = collapse(
    owners.filter((row) => isIn(row) && (filters.agent === undefined || row.key.agent === filters.agent)),
  );
  const source = isTurn && turn.state !== "ended" ? "ACTIVE_TURN" : "STORE";
  const [first] = winners;
  if (first === undefined) return { kind: "none" };
  if (winners.length === 1) return { kind: "selected", row: first, match: "EXACT", source };
  const id = query.kind === "key" ? query.key.storeKey : query.id;
  const structural = winners.filter(
    ({ key }) =>
      key.storeKey.endsWith(`:${id}`) || key.requestKey === id || key.requestKey.endsWith(`:${id}`),
  );
  return structural.length > 0
    ? freshest(structural, "STRUCTURAL", source)
    : freshest(winners, "FRESHEST", source);
}

function owns(model: IdentityModel, row: Row, query: Query): boolean {
  switch (query.kind) {
    case "key":
      return model.live(query.key) === row;
    case "session-id":
    case "turn-id":
      return row.sessionId === query.id;
    case "short-id":
      return row.sessionId.replaceAll("-", "").startsWith(query.id);
    case "native-id":
      return row.nativeId === query.id;
    case "alias":
      return row.platform.includes(query.id) || row.former.includes(query.id);
  }
}

/** The freshest row of each conversation. */
function collapse(rows: readonly Row[]): Row[] {
  const winners = new Map<string, Row>();
  for (const row of rows) {
    const rival = winners.get(keyText(row.key));
    if (rival === undefined || compareAge(row, rival) < 0) winners.set(keyText(row.key), row);
  }
  return [...winners.values()].sort((a, b) => compareAge(a, b) || compareKeys(a.key, b.key));
}

function freshest(
  winners: readonly Row[],
  match: "STRUCTURAL" | "FRESHEST",
  source: "ACTIVE_TURN" | "STORE",
): Selection {
  const [first, second] = winners;
  if (first === undefined) return { kind: "none" };
  if (second !== undefined && compareAge(first, second) === 0) return { kind: "ambiguous", rows: winners };
  return { kind: "selected", row: first, match, source };
}

/** The freshest first. */
function compareAge(a: Row, b: Row): number {
  return b.activeAtMs - a.activeAtMs || b.changed - a.changed;
}

function compareKeys(a: KeyShape, b: KeyShape): number {
  const text = ({ storeKey, scope, provider }: KeyShape) => [storeKey, scope, provider].join("\n");
  return text(a) < text(b) ? -1 : 1;
}
