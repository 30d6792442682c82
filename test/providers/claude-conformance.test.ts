import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClaudeProvider } from "../../src/providers/claude/index.js";
import { describeConformance, type Subject } from "./conformance.js";
import { openRealClaude, realExecutable } from "./real-claude.js";

/** Transcripts are files named after the conversation, in a folder for each directory. */
function removeTranscripts(config: string, nativeId: string): void {
  const projects = join(config, "projects");
  for (const folder of readdirSync(projects))
    rmSync(join(projects, folder, `${nativeId}.jsonl`), { force: true });
}

const promptsOf = (answer: string) => JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");

async function openFake(processes: number): Promise<Subject> {
  const root = mkdtempSync(join(tmpdir(), "claude-conformance-"));
  const workspace = join(root, "workspace");
  const config = join(root, "config");
  mkdirSync(workspace);
  return {
    workspace,
    provider: (settings = {}) =>
      createClaudeProvider({
        id: "claude",
        executable: fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url)),
        models: [],
        environment: { CLAUDE_CONFIG_DIR: config },
        parentEnvironment: process.env,
        warm: { processes },
        ...settings,
      }),
    promptsOf,
    words: {
      hang: "[[hang]]",
      crash: "[[crash]]",
      silent: "[[silent]]",
      flood: "[[flood 2000]]",
      bytes: "[[bytes]]",
      orphan: (file) => `[[orphan ${file}]]`,
      fail: (status) => `[[fail ${status}]]`,
    },
    lose: (nativeId) => removeTranscripts(config, nativeId),
    close: async () => rmSync(root, { recursive: true, force: true }),
  };
}

async function openReal(): Promise<Subject> {
  const real = await openRealClaude();
  return {
    workspace: real.workspace,
    provider: (settings = {}) => real.provider({ warm: {}, ...settings }),
    promptsOf,
    words: {
      hang: "[[hang]]",
      silent: "[[slow 60000]] [[chunks 2]]",
      fail: (status) => `[[status ${status} refused]]`,
      cut: "[[cut]]",
    },
    lose: (nativeId) => removeTranscripts(join(real.workspace, "..", "config"), nativeId),
    close: real.close,
  };
}

describeConformance({ name: "the fake Claude Code, warm", skip: false, open: () => openFake(16) });
describeConformance({
  name: "the fake Claude Code, one process a turn",
  skip: false,
  open: () => openFake(0),
});
describeConformance({ name: "Claude Code itself", skip: realExecutable === "", open: openReal });
