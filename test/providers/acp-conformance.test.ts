import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createAcpProvider } from "../../src/providers/acp/index.js";
import { describeConformance, fakeWords, openFolders, type Subject } from "./conformance.js";
import { openRealGemini, promptsOfGuarded, realExecutable } from "./real-gemini.js";

async function openFake(resume: string, processes: number): Promise<Subject> {
  const { root, workspace, close } = openFolders("acp");
  const store = join(root, "store");
  return {
    workspace,
    provider: (settings = {}) =>
      createAcpProvider({
        id: "acp",
        command: [fileURLToPath(new URL("../fixtures/fake-acp.mjs", import.meta.url))],
        environment: { PATH: process.env.PATH ?? "", FAKE_ACP_STORE: store, FAKE_ACP_RESUME: resume },
        warm: { processes, idleMs: 60_000, ahead: 0 },
        ...settings,
      }),
    promptsOf: promptsOfGuarded,
    words: { ...fakeWords, cut: "[[cut]]" },
    lose: (nativeId) => rmSync(join(store, `${nativeId}.json`)),
    close,
  };
}

async function openReal(): Promise<Subject> {
  const real = await openRealGemini();
  return {
    workspace: real.workspace,
    provider: (settings = {}) =>
      createAcpProvider({
        id: "acp",
        command: [realExecutable, "--acp", "--model=gemini-2.5-flash"],
        environment: real.environment,
        ...settings,
      }),
    promptsOf: promptsOfGuarded,
    // It loses a conversation by loading it; see docs/providers/gemini.md.
    forgetsWithProcess: true,
    words: {
      hang: "[[hang]]",
      silent: "[[chunks 2]] [[slow 60000]]",
      fail: (status) => `[[status ${status} refused]]`,
      cut: "[[cut]]",
    },
    close: real.close,
  };
}

for (const [name, resume, processes] of [
  ["that loads conversations", "load", 16],
  ["that resumes conversations", "resume", 16],
  ["that is started for each turn", "resume", 0],
] as const) {
  describeConformance({
    name: `an agent of the Agent Client Protocol ${name}`,
    skip: false,
    open: () => openFake(resume, processes),
  });
}
describeConformance({
  name: "Gemini CLI as an agent of the Agent Client Protocol",
  skip: realExecutable === "",
  isSlow: true,
  open: openReal,
});
