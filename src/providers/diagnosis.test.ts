import { expect, it } from "vitest";
import { diagnoseByHealth, supportOf } from "./diagnosis.js";
import { createEchoProvider } from "./echo/index.js";

it.each([
  ["2.1.197 (Claude Code)", "tested"],
  ["2.1.329 (Claude Code)", "tested"],
  ["2.1.250", "untested"],
  ["3.0.0", "untested"],
  ["2.1.196", "too old"],
  ["1.9.999", "too old"],
  ["no version", "unknown"],
])("%s is %s", (version, support) => {
  expect(supportOf(version, { tested: ["2.1.197", "2.1.329"] })).toBe(support);
});

it("nothing is known of the versions of an agent that is in no table", () => {
  expect(supportOf("1.2.3", undefined)).toBe("unknown");
});

it("a kind without a diagnosis of its own is judged by its health", async () => {
  const provider = createEchoProvider({ id: "x" });
  expect(await diagnoseByHealth(provider)).toMatchObject({ usable: true, version: "in process" });
  const health = async () => ({ available: false, detail: "It is not there." });
  expect(await diagnoseByHealth({ ...provider, health })).toMatchObject({
    usable: false,
    problem: "It is not there.",
  });
});
