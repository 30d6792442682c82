import { afterEach, beforeEach, expect, it } from "vitest";
import { ScratchTables } from "../../../test/support/scratch-tables.js";
import { mostHistoryBytes } from "../../turns/history.js";
import { keepExchange, readHistory } from "./history.js";
import { sweepGarbage } from "./prune-commands.js";
import { encodeNumber } from "./tables.js";

let scratch: ScratchTables;

beforeEach(() => {
  scratch = new ScratchTables();
});

afterEach(() => scratch.close());

const exchange = (name: string, bytes: number) => ({ user: name, assistant: "x".repeat(bytes) });

function keep(turnNo: number, bytes: number, recordNo = 1): void {
  scratch.write((tx) => keepExchange(tx, { recordNo, turnNo }, exchange(`question ${turnNo}`, bytes)));
}

const read = (recordNo = 1) => readHistory(scratch.tables, recordNo, mostHistoryBytes);
const questions = (recordNo?: number) => read(recordNo).exchanges.map(({ user }) => user);

function bytesOnDisk(): number {
  let bytes = 0;
  for (const { value } of scratch.tables.all("history")) bytes += value.length;
  return bytes;
}

it("is whole until it is too large, and then loses its oldest exchanges and says so for good", () => {
  for (const turnNo of [1, 2, 3]) keep(turnNo, 300_000);
  expect(read().truncated).toBe(false);
  expect(questions()).toEqual(["question 1", "question 2", "question 3"]);
  keep(4, 300_000);
  expect(questions()).toEqual(["question 2", "question 3", "question 4"]);
  keep(5, 10);
  expect(questions()).toEqual(["question 2", "question 3", "question 4", "question 5"]);
  expect(read().truncated).toBe(true);
  expect(bytesOnDisk()).toBeLessThanOrEqual(mostHistoryBytes);
});

it("loses many small exchanges for a large one, of its own session only", () => {
  keep(1, 100, 2);
  for (let turnNo = 2; turnNo <= 100; turnNo++) keep(turnNo, 1_000);
  keep(101, mostHistoryBytes - 5_000);
  expect(questions()).toEqual([97, 98, 99, 100, 101].map((turnNo) => `question ${turnNo}`));
  expect([questions(2), read(2).truncated]).toEqual([["question 1"], false]);
});

it("keeps what fits of an exchange that is larger than all that may be kept", () => {
  keep(1, 100);
  keep(2, 3_000_000);
  const { exchanges, truncated } = read();
  expect(exchanges.map(({ user }) => user)).toEqual(["question 2"]);
  expect(exchanges[0]?.assistant).toMatch(/^x{1000000,}…$/);
  expect(truncated).toBe(true);
  expect(bytesOnDisk()).toBeLessThanOrEqual(mostHistoryBytes);
});

it("says that it is truncated where less is asked for than is kept", () => {
  for (const turnNo of [1, 2]) keep(turnNo, 1_000);
  const { exchanges, truncated } = readHistory(scratch.tables, 1, 1_500);
  expect([exchanges.map(({ user }) => user), truncated]).toEqual([["question 2"], true]);
});

it("goes with its session", () => {
  keep(1, 100);
  scratch.write((tx) => {
    tx.tables.put("sessionTurns", [1, 1], encodeNumber(1));
    tx.tables.put("garbage", 1, encodeNumber(1));
    sweepGarbage(tx, { nowMs: 0, limit: 100 });
  });
  for (const table of ["history", "historySizes"] as const) {
    expect([...scratch.tables.all(table)]).toEqual([]);
  }
});
