import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { TurnSchema, TurnState } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { earlierTry } from "./plan-turn.js";

const now = 10_000_000;

function turn(turnId: string, state: TurnState, attempt = "same", ageMs = 1000) {
  return create(TurnSchema, { turnId, state, labels: { attempt }, createdAt: timestampFromMs(now - ageMs) });
}

const { QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED } = TurnState;

it.each([
  ["the last, which was answered", [turn("a", COMPLETED)], "a"],
  ["the running one", [turn("b", QUEUED, "other"), turn("a", RUNNING)], "a"],
  ["one that waits", [turn("b", QUEUED, "other"), turn("a", QUEUED), turn("c", RUNNING, "other")], "a"],
  ["none that was answered before another", [turn("b", COMPLETED, "other"), turn("a", COMPLETED)], undefined],
  ["none that failed", [turn("a", FAILED)], undefined],
  ["none that was cancelled", [turn("a", CANCELLED)], undefined],
  ["none with another body or token", [turn("a", RUNNING, "other")], undefined],
  ["none that is older than ten minutes", [turn("a", RUNNING, "same", 600_001)], undefined],
  ["none where there is none", [], undefined],
])("an SDK's repeat is about %s", (_, turns, turnId) => {
  expect(earlierTry(turns, "same", now)?.turnId).toBe(turnId);
});
