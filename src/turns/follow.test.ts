import { create, toBinary } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, it } from "vitest";
import { type TurnEvent, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import { turnRow } from "../../test/support/scratch-tables.js";
import { systemClock } from "../clock.js";
import { ActiveTurn } from "./active-turn.js";
import { followTurn } from "./follow.js";
import { Permissions } from "./permissions.js";
import { TurnLog } from "./turn-log.js";
import type { JournalEntry } from "./turn-store.js";

const total = 2_000;
const forever = new AbortController().signal;
const accepted = toBinary(
  TurnEventSchema,
  create(TurnEventSchema, { turnId: "turn-1", sequence: 1, event: { case: "accepted", value: {} } }),
);
const row = turnRow(1, { state: "RUNNING", accepted });

let journal: JournalEntry[];
let log: TurnLog;
let active: ActiveTurn;

/** A turn that has said `total` words, all of them journaled, and runs on. */
beforeEach(async () => {
  journal = [];
  let journaled = () => {};
  const all = new Promise<void>((resolve) => {
    journaled = resolve;
  });
  log = new TurnLog(
    row.turnId,
    systemClock,
    async (entries) => {
      journal.push(...entries);
      if (journal.length >= total) journaled();
      return true;
    },
    (error) => {
      throw error;
    },
  );
  active = new ActiveTurn(row, log, new Permissions(log, systemClock));
  log.reserved(10_000);
  for (let i = 2; i < total + 2; i++) log.add({ case: "textDelta", value: { text: wordOf(i) } });
  await all;
  // What was just journaled is let go in the same turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
});

const wordOf = (sequence: number) => `${sequence} `;
const wordsAfter = (sequence: number) =>
  Array.from({ length: total + 1 - Math.max(1, sequence) }, (_, i) =>
    wordOf(Math.max(1, sequence) + 1 + i),
  ).join("");

function follow(afterSequence: number): AsyncGenerator<TurnEvent> {
  const store = {
    byTurnNo: async () => row,
    events: async (_: number, after: number, limit: number) =>
      journal.filter(({ sequence }) => sequence > after).slice(0, limit),
  };
  return followTurn({ store, now: Date.now }, row, active, afterSequence, forever);
}

/** What a reader gets until it has caught up. */
async function readAfter(afterSequence: number): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const event of follow(afterSequence)) {
    if (event.event.case !== "accepted") events.push(event);
    if (event.sequence === total + 1) break;
  }
  return events;
}

function textOf(events: readonly TurnEvent[]): string {
  return events.map(({ event }) => (event.case === "textDelta" ? event.value.text : "")).join("");
}

describe("a reader that is behind", () => {
  it("is given merged deltas from the journal, without a gap", async () => {
    const events = await readAfter(0);
    expect(textOf(events)).toBe(wordsAfter(1));
    expect(events.length).toBeLessThan(total / 2);
    let last = 1;
    for (const { firstSequence, sequence } of events) {
      expect(firstSequence || sequence).toBe(last + 1);
      last = sequence;
    }
    expect(events.at(0)?.firstSequence).toBe(2);
  });

  it("can go on after any sequence, also after one inside a merged delta", async () => {
    for (const after of [1, 2, 3, 100, 256, 257, 258, 1_000, total - 1]) {
      expect(textOf(await readAfter(after))).toBe(wordsAfter(after));
    }
  });

  it("that is told that its events are gone ends, and skips nothing", async () => {
    const gone = {
      byTurnNo: async () => turnRow(1, { evictedThrough: 9, lastSequence: 10 }),
      events: async () => "gone" as const,
    };
    const reading = followTurn({ store: gone, now: Date.now }, row, active, 1, forever).next();
    await expect(reading).rejects.toMatchObject({
      reason: "EVENTS_EXPIRED",
      metadata: { first_sequence: "10" },
    });
  });
});

it("large events are let go once they are journaled, but for the newest", async () => {
  for (let i = 0; i < 5; i++) log.add({ case: "textDelta", value: { text: "x".repeat(400_000) } });
  const tail = log.lastSequence;
  while (log.after(tail - 4) !== undefined) await new Promise((resolve) => setImmediate(resolve));
  expect(log.after(tail - 1)).toHaveLength(1);
});
