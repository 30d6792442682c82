import { expect, test } from "vitest";
import { claudeEnvironment } from "./environment.js";

test.each([
  ["2.1.329 (Claude Code)", undefined],
  ["2.1.330 (Claude Code)", undefined],
  ["2.2.0 (Claude Code)", undefined],
  ["10.0.0", undefined],
  ["2.1.197 (Claude Code)", "1"],
  ["2.0.400", "1"],
  ["1.9.999", "1"],
  ["nightly", "1"],
  [undefined, "1"],
])("attachments of version %s: off is %s", (version, off) => {
  const environment = claudeEnvironment({}, [], {}, version);
  expect(environment.CLAUDE_CODE_DISABLE_FILE_MENTIONS).toBe("1");
  expect(environment.CLAUDE_CODE_DISABLE_ATTACHMENTS).toBe(off);
});

test("the agent's own variables are inherited, other providers' and those of an outer agent are not", () => {
  const parent = {
    ANTHROPIC_API_KEY: "key",
    CLAUDE_CONFIG_DIR: "/config",
    CLAUDECODE: "1",
    CLAUDE_CODE_ENTRYPOINT: "cli",
    CLAUDE_CODE_DISABLE_FILE_MENTIONS: "0",
    GEMINI_API_KEY: "other",
    MY_TOKEN: "mine",
    SESSION_BROKER_TOKEN: "the broker's",
  };
  expect(claudeEnvironment(parent, ["MY_*"], { CLAUDE_CONFIG_DIR: "/mine" }, "2.1.329")).toEqual({
    ANTHROPIC_API_KEY: "key",
    CLAUDE_CONFIG_DIR: "/mine",
    MY_TOKEN: "mine",
    CLAUDE_CODE_DISABLE_FILE_MENTIONS: "1",
    CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: "1",
    DISABLE_AUTOUPDATER: "1",
    BUN_GC_TIMER_INTERVAL: "10000",
  });
});

test("what the configuration names is inherited, too, but no secret of the broker", () => {
  const parent = { AWS_REGION: "here", AWS_PROFILE: "mine", SESSION_BROKER_TOKEN: "secret", OTHER: "x" };
  expect(claudeEnvironment(parent, ["AWS_*", "SESSION_BROKER_*"], {}, "2.1.329")).toEqual({
    AWS_REGION: "here",
    AWS_PROFILE: "mine",
    CLAUDE_CODE_DISABLE_FILE_MENTIONS: "1",
    CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: "1",
    DISABLE_AUTOUPDATER: "1",
    BUN_GC_TIMER_INTERVAL: "10000",
  });
});

test("the configuration wins over every setting", () => {
  const configured = { BUN_GC_TIMER_INTERVAL: "1000", CLAUDE_CODE_DISABLE_FILE_MENTIONS: "0" };
  expect(claudeEnvironment({}, [], configured, "2.1.329")).toMatchObject(configured);
});
