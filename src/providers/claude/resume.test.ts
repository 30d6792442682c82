import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { chooseStart, hasTranscript, isNativeId, startAfterIdInUse } from "./resume.js";

const nativeId = "11111111-1111-4111-8111-111111111111";

test.each([
  ["fresh", false, "session-id"],
  ["fresh", true, "session-id"],
  ["provisional", false, "session-id"],
  ["provisional", true, "resume"],
  ["bound", false, "resume"],
  ["bound", true, "resume"],
] as const)("a %s id whose transcript exists: %s → --%s", (state, exists, flag) => {
  expect(chooseStart(nativeId, state, () => exists)).toEqual({ flag, nativeId });
});

test.each([
  ["provisional", "session-id", "resume"],
  ["provisional", "resume", undefined],
  ["fresh", "session-id", undefined],
  ["bound", "resume", undefined],
] as const)("a %s id that --%s finds in use: then %s", (state, flag, next) => {
  expect(startAfterIdInUse({ flag, nativeId }, state)?.flag).toBe(next);
});

test("only a UUID is an id", () => {
  expect(isNativeId(nativeId)).toBe(true);
  for (const value of ["", "a title", "../../x", `${nativeId} `, `--${nativeId}`, `${nativeId}\n`]) {
    expect(isNativeId(value)).toBe(false);
  }
});

test("the transcript is looked for where the agent keeps it", () => {
  const root = mkdtempSync(join(tmpdir(), "claude-resume-"));
  try {
    const workspace = join(root, "a work_space.é");
    const config = join(root, "config");
    mkdirSync(workspace);
    const folder = join(config, "projects", workspace.replace(/[^a-zA-Z0-9]/g, "-"));
    mkdirSync(folder, { recursive: true });
    expect(hasTranscript({ CLAUDE_CONFIG_DIR: config }, workspace, nativeId)).toBe(false);
    writeFileSync(join(folder, `${nativeId}.jsonl`), "");
    expect(hasTranscript({ CLAUDE_CONFIG_DIR: config }, workspace, nativeId)).toBe(true);
    expect(hasTranscript({ HOME: root }, workspace, nativeId)).toBe(false);
    expect(hasTranscript({}, workspace, nativeId)).toBe(false);
    symlinkSync(workspace, join(root, "link"));
    expect(hasTranscript({ CLAUDE_CONFIG_DIR: config }, join(root, "link"), nativeId)).toBe(true);
    expect(hasTranscript({ CLAUDE_CONFIG_DIR: config }, join(root, "missing"), nativeId)).toBe(false);
  } finally {
    rmSync(root, { recursive: true });
  }
});
