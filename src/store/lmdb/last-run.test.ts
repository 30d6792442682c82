/** When an open reads all of a store. */
import { describe, expect, it } from "vitest";
import { type LastRun, uncleanStopsBefore, whyVerify } from "./last-run.js";

const run = (state: LastRun["state"], uncleanStops: number): LastRun => ({
  storeId: "store",
  state,
  uncleanStops,
  fencesThrough: 0,
});

describe("an open reads everything", () => {
  it.each([
    ["nothing is known", undefined, undefined, 0, false],
    ["it was closed", run("closed", 0), undefined, 0, false],
    ["it was closed after kills", run("closed", 5), undefined, 0, false],
    ["it was killed once", run("running", 0), undefined, 1, false],
    ["it was killed twice", run("running", 1), undefined, 2, true],
    ["it was killed three times", run("running", 2), undefined, 3, true],
    ["somebody says so", run("closed", 0), "SIGSEGV", 0, true],
  ])("if %s", (_, last, needed, stops, reads) => {
    expect(uncleanStopsBefore(last)).toBe(stops);
    expect(whyVerify(last, needed) !== undefined).toBe(reads);
  });
});
