/** The real command line in a home of its own, with the model server of the fixtures. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type CodexOptions, createCodexProvider } from "../../src/providers/codex/index.js";
import type { Provider } from "../../src/turns/provider.js";

/** Empty: there is none, and its tests are skipped. */
export const realCodexExecutable = process.env.SESSION_BROKER_TEST_CODEX ?? "";

export interface RealCodex {
  readonly workspace: string;
  provider(options?: Partial<CodexOptions>): Provider;
  /** What the model was sent, oldest first. */
  requests(): readonly ModelRequest[];
  close(): Promise<void>;
}

interface ModelRequest {
  readonly path: string;
  readonly body: {
    readonly model: string;
    readonly tools: unknown;
    readonly text?: { readonly format?: unknown };
    readonly input: readonly { readonly type: string; readonly role?: string; readonly content: unknown }[];
  };
}

/** Arguments that name a model service of one's own, which is asked once. */
export function modelArguments(port: number): string[] {
  const service = `{name="local",base_url="http://127.0.0.1:${port}/v1",wire_api="responses",env_key="LOCAL_KEY",request_max_retries=0,stream_max_retries=0}`;
  const settings = ["model_provider=local", "model=gpt-5.5", `model_providers.local=${service}`];
  return settings.flatMap((setting) => ["-c", setting]);
}

export async function openRealCodex(): Promise<RealCodex> {
  const root = mkdtempSync(join(tmpdir(), "codex-real-"));
  const workspace = join(root, "workspace");
  const requestLog = join(root, "requests.jsonl");
  for (const folder of ["workspace", "home", "config"]) mkdirSync(join(root, folder));
  const program = fileURLToPath(new URL("../fixtures/model-server.mjs", import.meta.url));
  const server = spawn(process.execPath, [program], {
    env: { REQUEST_LOG: requestLog },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface(server.stdout), "line");
  const { port } = JSON.parse(line);
  const providers: Provider[] = [];
  return {
    workspace,
    provider(options = {}) {
      const provider = createCodexProvider({
        id: "codex",
        executable: realCodexExecutable,
        models: [],
        environment: { HOME: join(root, "home"), CODEX_HOME: join(root, "config"), LOCAL_KEY: "test" },
        parentEnvironment: { PATH: process.env.PATH },
        ...options,
        extraArgs: [...modelArguments(port), ...(options.extraArgs ?? [])],
      });
      providers.push(provider);
      return provider;
    },
    requests: () =>
      existsSync(requestLog)
        ? readFileSync(requestLog, "utf8")
            .trim()
            .split("\n")
            .map((each): ModelRequest => JSON.parse(each))
            .filter((each) => each.path.endsWith("/responses"))
        : [],
    async close() {
      for (const provider of providers) await provider.close();
      server.kill();
      await once(server, "exit");
      rmSync(root, { recursive: true, force: true });
    },
  };
}
