import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createGeminiProvider } from "../../src/providers/gemini/index.js";
import { describeConformance, fakeWords, openFolders, type Subject } from "./conformance.js";
import { openRealGemini, promptsOfGuarded, realExecutable } from "./real-gemini.js";

const warmOf = (processes: number) => ({ processes, idleMs: 60_000, ahead: 0 });

async function openFake(processes: number): Promise<Subject> {
  const { root, workspace, close } = openFolders("gemini");
  const store = join(root, "store");
  return {
    workspace,
    provider: (settings = {}) =>
      createGeminiProvider({
        id: "gemini",
        executable: fileURLToPath(new URL("../fixtures/fake-gemini.mjs", import.meta.url)),
        environment: { FAKE_ACP_STORE: store },
        parentEnvironment: process.env,
        warm: warmOf(processes),
        ...settings,
      }),
    promptsOf: promptsOfGuarded,
    words: { ...fakeWords, cut: "[[cut]]" },
    lose: (nativeId) => rmSync(join(store, `${nativeId}.json`)),
    close,
  };
}

async function openReal(processes: number): Promise<Subject> {
  const real = await openRealGemini();
  return {
    workspace: real.workspace,
    provider: (settings = {}) =>
      createGeminiProvider({
        id: "gemini",
        executable: realExecutable,
        models: ["gemini-2.5-flash"],
        environment: real.environment,
        parentEnvironment: {},
        warm: warmOf(processes),
        ...settings,
      }),
    promptsOf: promptsOfGuarded,
    ...(processes === 0 ? { losesHugePrompts: true } : {}),
    words: {
      hang: "[[hang]]",
      silent: "[[chunks 2]] [[slow 60000]]",
      fail: (status) => `[[status ${status} refused]]`,
      cut: "[[cut]]",
    },
    lose: (nativeId) => removeChats(join(real.workspace, "..", "home", ".gemini"), nativeId),
    close: real.close,
  };
}

/** A conversation is a file with the beginning of its id in its name, in a folder for each directory. */
function removeChats(config: string, nativeId: string): void {
  const files = readdirSync(config, { recursive: true, encoding: "utf8" });
  for (const file of files.filter((each) => each.includes(nativeId.slice(0, 8))))
    rmSync(join(config, file), { recursive: true, force: true });
}

for (const [name, processes] of [
  ["kept between turns", 16],
  ["started for each turn", 0],
] as const) {
  describeConformance({
    name: `the fake Gemini CLI, ${name}`,
    skip: false,
    open: () => openFake(processes),
  });
  describeConformance({
    name: `Gemini CLI itself, ${name}`,
    skip: realExecutable === "",
    isSlow: true,
    open: () => openReal(processes),
  });
}
