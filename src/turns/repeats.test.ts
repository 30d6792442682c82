import { expect, it } from "vitest";
import { earlierTry } from "./repeats.js";
import type { TurnRow, TurnState } from "./turn.js";

const nowMs = 10_000_000;
const hash = Buffer.from("same");

function turn(turnId: string, state: TurnState, payload = "same", more: Partial<TurnRow> = {}): TurnRow {
  const own = {
    turnId,
    state,
    payloadHash: Buffer.from(payload),
    credential: "c",
    createdAtMs: nowMs - 1000,
  };
  return { ...own, ...more } as TurnRow;
}

it.each([
  ["the last, which was answered", [turn("a", "COMPLETED")], "a"],
  ["the running one", [turn("b", "QUEUED", "other"), turn("a", "RUNNING")], "a"],
  ["one that waits", [turn("b", "QUEUED", "other"), turn("a", "QUEUED"), turn("c", "RUNNING", "other")], "a"],
  [
    "none that was answered before another",
    [turn("b", "COMPLETED", "other"), turn("a", "COMPLETED")],
    undefined,
  ],
  ["none that failed", [turn("a", "FAILED")], undefined],
  ["none that was cancelled", [turn("a", "CANCELLED")], undefined],
  ["none with another target or input", [turn("a", "RUNNING", "other")], undefined],
  ["none of another credential", [turn("a", "RUNNING", "same", { credential: "d" })], undefined],
  [
    "none that is older than ten minutes",
    [turn("a", "RUNNING", "same", { createdAtMs: nowMs - 600_001 })],
    undefined,
  ],
  ["none where there is none", [], undefined],
])("a repeat without an id is about %s", (_, turns, turnId) => {
  expect(earlierTry(turns, { credential: "c", payloadHash: hash }, nowMs)?.turnId).toBe(turnId);
});
