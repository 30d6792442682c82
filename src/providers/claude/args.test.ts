import { expect, test } from "vitest";
import { claudeArguments } from "./args.js";

const nativeId = "11111111-1111-4111-8111-111111111111";

test("a first run names the id, a later one resumes it", () => {
  expect(claudeArguments({ ask: false, start: { flag: "session-id", nativeId } })).toContain(
    `--session-id=${nativeId}`,
  );
  const resumed = claudeArguments({ ask: false, start: { flag: "resume", nativeId } });
  expect(resumed).toContain(`--resume=${nativeId}`);
  expect(resumed.join(" ")).not.toContain("--session-id");
});

test("every argument is a flag with its value, so that none can swallow another", () => {
  const args = claudeArguments({
    ask: false,
    start: { flag: "resume", nativeId },
    model: "claude-haiku-4-5",
    systemFile: "/tmp/x/system.txt",
  });
  expect(args.filter((arg) => !arg.startsWith("--"))).toEqual([]);
  expect(args).toContain("--model=claude-haiku-4-5");
  expect(args).toContain("--append-system-prompt-file=/tmp/x/system.txt");
});

test("tools that act outside a turn are off, and the rest needs to be allowed", () => {
  const args = claudeArguments({ ask: false, start: { flag: "resume", nativeId } });
  const disallowed = args.find((arg) => arg.startsWith("--disallowedTools="));
  for (const tool of ["CronCreate", "CronDelete", "CronList", "ScheduleWakeup", "Monitor", "Workflow"]) {
    expect(disallowed).toContain(tool);
  }
  expect(args).toContain("--permission-mode=dontAsk");
});

test("somebody who can be asked is asked, and about permissions only", () => {
  const args = claudeArguments({ ask: true, start: { flag: "resume", nativeId } });
  expect(args).toContain("--permission-mode=default");
  expect(args).toContain("--permission-prompt-tool=stdio");
  expect(args).not.toContain("--permission-mode=dontAsk");
  expect(args.find((arg) => arg.startsWith("--disallowedTools="))).toMatch(/AskUserQuestion.*ExitPlanMode/);
});

test("the configuration's arguments come last", () => {
  const extra = ["--permission-mode=acceptEdits", "--allowedTools", "Bash(git:*)"];
  const args = claudeArguments({ ask: false, start: { flag: "resume", nativeId }, model: "m", extra });
  expect(args.slice(-3)).toEqual(extra);
});
