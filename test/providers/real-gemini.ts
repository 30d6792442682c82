/** The real command line in a home of its own, with the model server of the fixtures. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Empty: there is none, and its tests are skipped. */
export const realExecutable = process.env.SESSION_BROKER_TEST_GEMINI ?? "";

export interface RealGemini {
  readonly workspace: string;
  /** All of the agent's environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Bodies of the requests for an answer that the model was sent, oldest first, as JSON. */
  requests(): readonly string[];
  close(): Promise<void>;
}

/**
 * The prompts in an answer, as they were given: without the line that keeps a
 * prompt from being a command, and the backslash that keeps it from naming a file.
 */
export function promptsOfGuarded(answer: string): readonly string[] {
  const prompts: string[] = JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
  return prompts.map((prompt) => prompt.replace(/^The message of the user is:\n/, "").replace(/^\\@/, "@"));
}

/**
 * Says nothing to anybody, asks the model once, and removes no conversation
 * that another process has just begun; see docs/providers/gemini.md.
 */
const userSettings = {
  security: { auth: { selectedType: "gemini-api-key" } },
  privacy: { usageStatisticsEnabled: false },
  telemetry: { enabled: false },
  general: { enableAutoUpdate: false, maxAttempts: 1, sessionRetention: { enabled: false } },
};

export async function openRealGemini(): Promise<RealGemini> {
  const root = mkdtempSync(join(tmpdir(), "gemini-real-"));
  const workspace = join(root, "workspace");
  const requestLog = join(root, "requests.jsonl");
  for (const folder of ["workspace", "home", "home/.gemini", "tmp"]) mkdirSync(join(root, folder));
  writeFileSync(join(root, "home", ".gemini", "settings.json"), JSON.stringify(userSettings));
  const program = fileURLToPath(new URL("../fixtures/gemini-model.mjs", import.meta.url));
  const server = spawn(process.execPath, [program], {
    env: { REQUEST_LOG: requestLog },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface(server.stdout), "line");
  return {
    workspace,
    environment: {
      PATH: process.env.PATH ?? "",
      HOME: join(root, "home"),
      TMPDIR: join(root, "tmp"),
      GEMINI_API_KEY: "test",
      GOOGLE_GEMINI_BASE_URL: `http://127.0.0.1:${JSON.parse(line).port}`,
      GEMINI_CLI_NO_RELAUNCH: "true",
      GEMINI_CLI_TRUST_WORKSPACE: "true",
    },
    requests: () =>
      (existsSync(requestLog) ? readFileSync(requestLog, "utf8") : "")
        .split("\n")
        .filter((each) => each.includes('"method":"streamGenerateContent"')),
    async close() {
      server.kill();
      await once(server, "exit");
      rmSync(root, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
