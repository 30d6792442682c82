import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClaudeProvider } from "../../src/providers/claude/index.js";
import { describeConformance, fakeWords, openFolders, promptsOf, type Subject } from "./conformance.js";
import { openRealClaude, realExecutable } from "./real-claude.js";

/** Transcripts are files named after the conversation, in a folder for each directory. */
function removeTranscripts(config: string, nativeId: string): void {
  const projects = join(config, "projects");
  for (const folder of readdirSync(projects))
    rmSync(join(projects, folder, `${nativeId}.jsonl`), { force: true });
}

async function openFake(processes: number): Promise<Subject> {
  const { root, workspace, close } = openFolders("claude");
  const config = join(root, "config");
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
    words: fakeWords,
    lose: (nativeId) => removeTranscripts(config, nativeId),
    close,
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
