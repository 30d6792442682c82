import { expect, it } from "vitest";
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { failureOf } from "../ending.js";
import { judge, type RunEnd } from "./outcome.js";

const exited = (code: number | null, signal: NodeJS.Signals | null = null) => ({ exit: { code, signal } });
const run = (end: Partial<RunEnd>): RunEnd => ({
  survivors: [],
  text: "answer",
  isEnded: undefined,
  lingered: false,
  isUnnamed: false,
  errorOutput: "",
  ...exited(0),
  ...end,
});
const cancelled = { status: "cancelled" } as const;
const fault = failureOf("OUTPUT_LIMIT", "too much");

it.each<[string, Partial<RunEnd>, boolean, string]>([
  ["with text and code 0", {}, false, "completed"],
  ["without text", { text: "" }, false, "CRASHED"],
  ["with another code", exited(1), false, "CRASHED"],
  ["by a signal", exited(null, "SIGKILL"), false, "CRASHED"],
  ["not at all", { exit: undefined } as never, false, "CRASHED"],
  ["after its terminal record", { isEnded: true, text: "" }, false, "completed"],
  ["with another code after its terminal record", { isEnded: true, ...exited(1) }, false, "CRASHED"],
  [
    "because it stayed after its terminal record",
    { isEnded: true, lingered: true, ...exited(null, "SIGTERM") },
    false,
    "completed",
  ],
  ["because it stayed, without one", { lingered: true, ...exited(null, "SIGTERM") }, false, "CRASHED"],
  ["before its terminal record", { isEnded: false }, false, "CRASHED"],
  ["without a name for its conversation", { isUnnamed: true }, false, "PROVIDER_ERROR"],
  ["with a fault", { fault }, false, "OUTPUT_LIMIT"],
  ["when it was stopped, with code 0", {}, true, "cancelled"],
  ["when it was stopped after its terminal record", { isEnded: true }, true, "completed"],
  ["when it was stopped, with a fault", { fault }, true, "cancelled"],
])("a run that ended %s", (_, end, stopped, expected) => {
  const outcome = judge(run(end), "id", stopped ? cancelled : undefined);
  expect(outcome.status === "failed" ? TurnErrorCode[outcome.code] : outcome.status).toBe(expected);
});
