/** The real command line in a home of its own, with the model server of the fixtures. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type ClaudeOptions, createClaudeProvider } from "../../src/providers/claude/index.js";
import type { Provider } from "../../src/turns/provider.js";

/** Empty: there is none, and its tests are skipped. */
export const realExecutable = process.env.SESSION_BROKER_TEST_CLAUDE ?? "";

export interface RealClaude {
  readonly workspace: string;
  provider(options?: Partial<ClaudeOptions>): Provider;
  /** What the model was sent for a conversation, oldest first. */
  requestsOf(nativeId: string): readonly ModelRequest[];
  close(): Promise<void>;
}

interface ModelRequest {
  readonly session: string;
  readonly body: {
    readonly model: string;
    readonly system: unknown;
    readonly tools: unknown;
    readonly messages: readonly { readonly role: string; readonly content: unknown }[];
  };
}

export async function openRealClaude(): Promise<RealClaude> {
  const root = mkdtempSync(join(tmpdir(), "claude-real-"));
  const workspace = join(root, "workspace");
  const requestLog = join(root, "requests.jsonl");
  for (const folder of ["workspace", "home", "tmp"]) mkdirSync(join(root, folder));
  const program = fileURLToPath(new URL("../fixtures/model-server.mjs", import.meta.url));
  const server = spawn(process.execPath, [program], {
    env: { REQUEST_LOG: requestLog },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface(server.stdout), "line");
  const environment = {
    HOME: join(root, "home"),
    TMPDIR: join(root, "tmp"),
    CLAUDE_CODE_TMPDIR: join(root, "tmp"),
    CLAUDE_CONFIG_DIR: join(root, "config"),
    ANTHROPIC_BASE_URL: `http://127.0.0.1:${JSON.parse(line).port}`,
    ANTHROPIC_API_KEY: "test",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    CLAUDE_CODE_MAX_RETRIES: "0",
  };
  return {
    workspace,
    provider: (options = {}) =>
      createClaudeProvider({
        id: "claude",
        executable: realExecutable,
        models: [],
        environment,
        parentEnvironment: { PATH: process.env.PATH },
        warm: { processes: 0 },
        ...options,
      }),
    requestsOf: (nativeId) =>
      readFileSync(requestLog, "utf8")
        .trim()
        .split("\n")
        .map((each): ModelRequest => JSON.parse(each))
        .filter((each) => each.session === nativeId),
    async close() {
      server.kill();
      await once(server, "exit");
      rmSync(root, { recursive: true, force: true });
    },
  };
}
