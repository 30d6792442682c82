import { afterEach, beforeEach, expect, it } from "vitest";
import { ScratchTables, turnRow } from "../../../test/support/scratch-tables.js";
import { type TurnRow, type TurnState, turnStates } from "../../turns/turn.js";
import type { TurnListCall, TurnPage } from "../../turns/turn-store.js";
import { encodeNumber } from "./tables.js";
import { listTurns } from "./turn-list.js";

let scratch: ScratchTables;

beforeEach(() => {
  scratch = new ScratchTables();
});

afterEach(() => scratch.close());

const scopes = ["acme"];

function keep(turns: readonly TurnRow[]): void {
  scratch.write((tx) => {
    for (const row of turns) {
      tx.putTurn(row, undefined);
      scratch.tables.put("sessionTurns", [row.recordNo, row.turnNo], encodeNumber(row.turnNo));
    }
  });
}

/** Every page of a listing. */
function pages(call: Omit<TurnListCall, "after">): TurnPage[] {
  const all: TurnPage[] = [];
  for (let page: TurnPage | undefined; page === undefined || page.next !== undefined; ) {
    page = listTurns(scratch.tables, {
      ...call,
      ...(page === undefined ? {} : { after: page.next }),
    } as TurnListCall);
    all.push(page);
  }
  return all;
}

const numbers = (page: TurnPage) => page.turns.map(({ turnNo }) => turnNo);

it("a page of a state that is rare costs what it gives, and a page of a session looks at a bounded number", () => {
  const total = 5_001;
  keep(
    Array.from({ length: total }, (_, i) =>
      turnRow(i + 1, { state: i % 5_000 === 0 ? "FAILED" : "COMPLETED" }),
    ),
  );
  const call = { scopes, states: ["FAILED"] as TurnState[], limit: 100 };
  expect(pages(call).map(numbers)).toEqual([[5_001, 1]]);
  expect(pages({ ...call, recordNo: 1 }).map(numbers)).toEqual([[5_001], [], [1]]);
});

it("a page ends when it has looked at 2 MiB", () => {
  const ending = Buffer.alloc(900_000);
  keep(Array.from({ length: 5 }, (_, i) => turnRow(i + 1, { ending })));
  const call = { scopes, states: turnStates, limit: 100 };
  expect(pages(call).map(numbers)).toEqual([
    [5, 4, 3],
    [2, 1],
  ]);
  expect(pages({ ...call, recordNo: 1 }).map(numbers)).toEqual([
    [5, 4, 3],
    [2, 1],
  ]);
});

it("turns of one moment keep one order over scopes and states, on pages of any size", () => {
  const rows = Array.from({ length: 40 }, (_, i) =>
    turnRow(i + 1, {
      key: { scope: `acme/${i % 3}`, externalId: "chat", provider: "echo" },
      state: turnStates[i % turnStates.length] ?? "QUEUED",
      createdAtMs: 1_000 + Math.floor(i / 10),
    }),
  );
  keep(rows);
  const newestFirst = rows.map(({ turnNo }) => turnNo).reverse();
  const wide = ["acme/0", "acme/1", "acme/2"];
  for (const limit of [1, 7, 40, 1000]) {
    expect(pages({ scopes: wide, states: turnStates, limit }).flatMap(numbers)).toEqual(newestFirst);
  }
  const some = { scopes: wide, states: turnStates, limit: 7, sinceMs: 1_001, untilMs: 1_003 };
  expect(pages(some).flatMap(numbers)).toEqual(newestFirst.slice(10, 30));
});

it("a turn that changes its state between two pages is met once, and one that is deleted no more", () => {
  const rows = [1, 2, 3, 4].map((turnNo) => turnRow(turnNo, { state: "RUNNING" }));
  keep(rows);
  const call = { scopes, states: turnStates, limit: 2 };
  const first = listTurns(scratch.tables, call);
  expect(numbers(first)).toEqual([4, 3]);
  scratch.write((tx) => {
    for (const row of rows) tx.putTurn({ ...row, state: "COMPLETED" }, row);
  });
  expect(numbers(listTurns(scratch.tables, { ...call, after: first.next } as TurnListCall))).toEqual([2, 1]);
  scratch.write((tx) => tx.deleteTurn(turnRow(2)));
  expect(pages(call).flatMap(numbers)).toEqual([4, 3, 1]);
});
