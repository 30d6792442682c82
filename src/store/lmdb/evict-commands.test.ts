import { afterEach, beforeEach, expect, it } from "vitest";
import { ScratchTables, turnRow } from "../../../test/support/scratch-tables.js";
import { hasEnded, type TurnRow } from "../../turns/turn.js";
import { encodeBatch } from "./codec.js";
import { type EvictStep, evictEvents } from "./evict-commands.js";
import { heldBytes, keptEvents } from "./kept-events.js";
import { sweepGarbage } from "./prune-commands.js";
import { LmdbStore } from "./store.js";
import { encodeNumber } from "./tables.js";
import { inlineRunner, Writer } from "./writer.js";

let scratch: ScratchTables;
let store: LmdbStore;

beforeEach(() => {
  scratch = new ScratchTables();
  store = new LmdbStore(scratch.tables, new Writer(inlineRunner(scratch.tables, "test"), () => {}));
});

afterEach(() => scratch.close());

const batches = 4;
const bytesEach = batches * encodeBatch([Buffer.alloc(100), Buffer.alloc(100)]).length;

/** Turns that ended one second after the other, each with events 2 to 9 in four batches, and 10 for the ending. */
function end(turns: readonly (Partial<TurnRow> & { readonly turnNo: number })[]): void {
  scratch.write((tx) => {
    for (const { turnNo, ...more } of turns) {
      const running = turnRow(turnNo, { state: "RUNNING", eventBytes: bytesEach, ...more });
      tx.putTurn(running, undefined);
      for (let i = 0; i < batches; i++) {
        tx.tables.put("events", [turnNo, 2 + 2 * i], encodeBatch([Buffer.alloc(100), Buffer.alloc(100)]));
      }
      const ended = { endedAtMs: turnNo * 1_000, lastSequence: 10, reservedThrough: 10 };
      tx.putTurn({ ...running, ...ended, state: "COMPLETED" }, running);
      tx.tables.put("sessionTurns", [running.recordNo, turnNo], encodeNumber(turnNo));
    }
  });
}

const rule: EvictStep = {
  nowMs: 100_000,
  eventsForMs: 0,
  eventsBytes: 0,
  reading: [],
  limit: 1_000,
};

const step = (more: Partial<EvictStep>) => scratch.write((tx) => evictEvents(tx, { ...rule, ...more }));

/** Steps that it took. */
function evict(more: Partial<EvictStep>): number {
  for (let steps = 1; ; steps++) {
    const done = step(more);
    expectConsistent();
    if (done) return steps;
  }
}

/** What every reader and every later step relies on, after any number of steps. */
function expectConsistent(): void {
  const { tables } = scratch;
  const sums = new Map<string, number>();
  for (const { key } of tables.all("turns")) {
    const turn = tables.turn(Number(key));
    if (turn === undefined) continue;
    if (!hasEnded(turn.state)) continue;
    const journaled = [...tables.keysBelow("events", [turn.turnNo])].length;
    if (turn.evictedThrough === 0) {
      sums.set(turn.grant, (sums.get(turn.grant) ?? 0) + turn.eventBytes);
      expect(journaled).toBe(batches);
    } else if (journaled > 0) {
      expect(tables.get("evicting", turn.turnNo)).toBeDefined();
    }
  }
  expect(heldBytes(tables)).toEqual(sums);
  for (const [grant, bytes] of sums) {
    const kept = [...keptEvents(tables, grant)];
    expect(kept.reduce((sum, turn) => sum + turn.bytes, 0)).toBe(bytes);
  }
}

const kept = () =>
  [...scratch.tables.all("turns")]
    .map(({ key }) => Number(key))
    .filter((turnNo) => scratch.tables.turn(turnNo)?.evictedThrough === 0);

it("takes the turns that ended long enough ago, and leaves their rows", () => {
  end([1, 2, 3].map((turnNo) => ({ turnNo })));
  evict({ eventsForMs: 98_000 });
  expect(kept()).toEqual([3]);
  expect(scratch.tables.turn(2)).toMatchObject({ state: "COMPLETED", lastSequence: 10, evictedThrough: 9 });
  expect([...scratch.tables.all("events")]).toHaveLength(batches);
});

it("keeps everything where there is no limit, and a turn that has not ended anyway", () => {
  end([1, 2].map((turnNo) => ({ turnNo })));
  scratch.write((tx) => tx.putTurn(turnRow(3, { state: "RUNNING", eventBytes: 1_000_000 }), undefined));
  evict({});
  evict({ eventsForMs: 1_000_000, eventsBytes: 2 * bytesEach });
  expect(kept()).toEqual([1, 2, 3]);
});

it("takes from each grant what is over its own share, oldest first, those with readers last", () => {
  end([
    ...[1, 3, 5, 6, 7].map((turnNo) => ({ turnNo, grant: "many" })),
    ...[2, 4].map((turnNo) => ({ turnNo, grant: "few" })),
  ]);
  evict({ eventsBytes: 5 * bytesEach, reading: [1, 3] });
  expect(kept()).toEqual([1, 2, 3, 4, 7]);
  evict({ eventsBytes: 2 * bytesEach, reading: [1, 3] });
  expect(kept()).toEqual([3, 4]);
});

it.each([1, 2, 3, 7])("goes on from any place at which it is stopped, in steps of %i", (limit) => {
  end(Array.from({ length: 10 }, (_, i) => ({ turnNo: i + 1, grant: `grant-${i % 2}` })));
  const steps = evict({ eventsForMs: 95_000, eventsBytes: 3 * bytesEach, limit });
  expect(steps).toBeGreaterThanOrEqual((7 * batches) / limit);
  expect(kept()).toEqual([8, 9, 10].filter((turnNo) => kept().includes(turnNo)));
  expect([...scratch.tables.all("events")]).toHaveLength(kept().length * batches);
  expect([...scratch.tables.all("evicting")]).toEqual([]);
});

it("never shows a reader a gap, at no step", async () => {
  end([{ turnNo: 1 }]);
  expect(await store.events(1, 1, 100)).toHaveLength(8);
  step({ eventsForMs: 1, limit: 2 });
  for (const after of [1, 2]) expect(await store.events(1, after, 100)).toBe("gone");
  // What is still there may be read to the end.
  expect(await store.events(1, 5, 100)).toMatchObject([6, 7, 8, 9].map((sequence) => ({ sequence })));
  expect(await store.events(1, 9, 100)).toEqual([]);
  evict({ eventsForMs: 1 });
  expect(await store.events(1, 8, 100)).toBe("gone");
  expect(await store.events(1, 9, 100)).toEqual([]);
});

it("agrees with a session that is deleted meanwhile", async () => {
  end([{ turnNo: 1 }, { turnNo: 2 }, { turnNo: 3, recordNo: 2 }]);
  step({ eventsForMs: 99_000, limit: 2 });
  scratch.write((tx) => tx.tables.put("garbage", 1, encodeNumber(1)));
  const sweep = () => scratch.write((tx) => sweepGarbage(tx, { nowMs: 0, limit: 2 }));
  const journaled = () => [...scratch.tables.keysBelow("events", [2])].length;
  while (journaled() === batches) sweep();
  while (journaled() > 0) {
    // A reader in the middle is not shown a part.
    for (const after of [1, 2]) expect(await store.events(2, after, 100)).toBe("gone");
    sweep();
  }
  expect(await store.events(2, 1, 100)).toBe("gone");
  while (!sweep());
  expectConsistent();
  evict({ eventsForMs: 1 });
  expect([...scratch.tables.all("events")]).toEqual([]);
  expect([...scratch.tables.all("keptEvents")]).toEqual([]);
  expect(heldBytes(scratch.tables)).toEqual(new Map());
});
