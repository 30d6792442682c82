import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createCodexProvider } from "../../src/providers/codex/index.js";
import { describeConformance, fakeWords, openFolders, promptsOf, type Subject } from "./conformance.js";
import { openRealCodex, realCodexExecutable } from "./real-codex.js";

async function openFake(exec: boolean): Promise<Subject> {
  const { root, workspace, close } = openFolders("codex");
  const config = join(root, "config");
  return {
    workspace,
    provider: (settings = {}) =>
      createCodexProvider({
        id: "codex",
        executable: fileURLToPath(new URL("../fixtures/fake-codex.mjs", import.meta.url)),
        models: [],
        exec,
        environment: { CODEX_HOME: config },
        parentEnvironment: process.env,
        ...settings,
      }),
    promptsOf,
    // It tells its answer as a whole.
    ...(exec ? { hangsAfter: "reasoning" } : {}),
    words: { ...fakeWords, cut: "[[cut]]" },
    lose: (nativeId) => rmSync(join(config, "threads", `${nativeId}.jsonl`)),
    close,
  };
}

async function openReal(exec: boolean): Promise<Subject> {
  const real = await openRealCodex();
  return {
    workspace: real.workspace,
    provider: (settings = {}) => real.provider({ exec, permissions: "allow", ...settings }),
    promptsOf: (answer) => promptsOf(answer.replace(/ tool=.*$/s, "")),
    ...(exec ? { hangsAfter: "reasoning" } : {}),
    words: {
      hang: exec ? "[[think hm]] [[hang]]" : "[[hang]]",
      silent: "[[chunks 2]] [[slow 60000]]",
      orphan: (file) => {
        const cmd = `setsid tail -f /dev/null >/dev/null 2>&1 & echo $! > ${file}`;
        return `[[tool exec_command ${JSON.stringify({ cmd })}]]`;
      },
      fail: (status) => `[[status ${status} refused]]`,
      cut: "[[cut]]",
    },
    lose: (nativeId) => removeRollouts(join(real.workspace, "..", "config"), nativeId),
    close: real.close,
  };
}

/** A conversation is a file with its id in its name, in a folder for each day. */
function removeRollouts(config: string, nativeId: string): void {
  const files = readdirSync(config, { recursive: true, encoding: "utf8" });
  for (const file of files.filter((each) => each.includes(nativeId))) rmSync(join(config, file));
}

for (const [way, exec] of [
  ["as app servers", false],
  ["as one exec a turn", true],
] as const) {
  describeConformance({ name: `the fake Codex CLI, ${way}`, skip: false, open: () => openFake(exec) });
  describeConformance({
    name: `Codex CLI itself, ${way}`,
    skip: realCodexExecutable === "",
    open: () => openReal(exec),
  });
}
