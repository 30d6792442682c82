/** Agents that the chats of the suite are held with, each with a home of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export interface Agent {
  readonly executable: string;
  /** Added to the agent's environment by the broker's configuration. */
  readonly environment: Readonly<Record<string, string>>;
  /** Words in a prompt that let the model's service fail with this HTTP status. */
  failing(status: number): string;
  /** The agent's own file of a conversation. */
  transcriptOf(nativeId: string): string;
  close(): Promise<void>;
}

/** Begins to answer, and says nothing more until it is told to stop. */
export const hanging = "[[hang]]";

/** The program of the fixtures, which asks no model. */
export async function openFakeAgent(): Promise<Agent> {
  const home = makeHome();
  return {
    executable: fixture("fake-claude.mjs"),
    environment: home.environment,
    failing: (status) => `[[fail ${status}]]`,
    transcriptOf: home.transcriptOf,
    close: async () => home.remove(),
  };
}

/** Claude Code itself, with a model service on loopback. */
export async function openRealAgent(executable: string): Promise<Agent> {
  const home = makeHome();
  const server = spawn(process.execPath, [fixture("model-server.mjs")], {
    env: {},
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface(server.stdout), "line");
  return {
    executable,
    environment: {
      ...home.environment,
      ANTHROPIC_BASE_URL: `http://127.0.0.1:${JSON.parse(line).port}`,
      ANTHROPIC_API_KEY: "test",
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      CLAUDE_CODE_MAX_RETRIES: "0",
    },
    failing: (status) => `[[status ${status} refused]]`,
    transcriptOf: home.transcriptOf,
    async close() {
      server.kill();
      await once(server, "exit");
      home.remove();
    },
  };
}

/** What the agent had been told, oldest first, as its answer lists it. */
export function historyOf(answer: string): string[] {
  return JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
}

function makeHome() {
  const root = mkdtempSync(join(tmpdir(), "agent-"));
  const configuration = join(root, "config");
  for (const folder of ["home", "tmp"]) mkdirSync(join(root, folder));
  return {
    environment: {
      HOME: join(root, "home"),
      TMPDIR: join(root, "tmp"),
      CLAUDE_CODE_TMPDIR: join(root, "tmp"),
      CLAUDE_CONFIG_DIR: configuration,
    },
    transcriptOf(nativeId: string): string {
      const projects = join(configuration, "projects");
      const files = readdirSync(projects).map((folder) => join(projects, folder, `${nativeId}.jsonl`));
      const [file, ...others] = files.filter((each) => existsSync(each));
      if (file === undefined || others.length > 0) throw new Error(`no single transcript of ${nativeId}`);
      return file;
    },
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}

function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
}
