/** One page of turns, newest first, with a bound on what is looked at for it. */
import { scopeMatches } from "../../sessions/session-store.js";
import type { TurnRow } from "../../turns/turn.js";
import type { TurnListCall, TurnPage, TurnPlace } from "../../turns/turn-store.js";
import { decodeTurn } from "./codec.js";
import { afterAll } from "./schema.js";
import type { Tables } from "./tables.js";
import { walkTurns } from "./turn-order.js";

/** Rows looked at for one page: those of a session that are not wanted count, too. */
const mostRows = 2_000;
const mostBytes = 2 * 1024 * 1024;

export function listTurns(tables: Tables, call: TurnListCall): TurnPage {
  const turns: TurnRow[] = [];
  let last: TurnPlace | undefined;
  let rows = 0;
  let bytes = 0;
  for (const turnNo of turnNumbers(tables, call)) {
    if (last !== undefined && (turns.length >= call.limit || rows >= mostRows || bytes >= mostBytes)) {
      return { turns, next: last };
    }
    const sealed = tables.get("turns", turnNo);
    if (sealed === undefined) continue;
    const turn = decodeTurn(turnNo, sealed);
    rows += 1;
    bytes += sealed.length;
    last = { createdAtMs: turn.createdAtMs, turnNo };
    if (isWanted(turn, call)) turns.push(turn);
  }
  return { turns };
}

function* turnNumbers(tables: Tables, call: TurnListCall): Generator<number> {
  const { recordNo, after } = call;
  if (recordNo === undefined) {
    for (const { turnNo } of walkTurns(tables, call)) yield turnNo;
    return;
  }
  const start = [recordNo, after?.turnNo ?? afterAll];
  for (const [, turnNo] of tables.keysDown("sessionTurns", start, [recordNo])) {
    if (turnNo !== after?.turnNo) yield Number(turnNo);
  }
}

/** The session of a page token may be no longer the caller's. */
function isWanted(turn: TurnRow, { scopes, states, sinceMs, untilMs }: TurnListCall): boolean {
  return (
    states.includes(turn.state) &&
    (sinceMs === undefined || turn.createdAtMs >= sinceMs) &&
    (untilMs === undefined || turn.createdAtMs < untilMs) &&
    scopes.some((pattern) => scopeMatches(pattern, turn.key.scope))
  );
}
