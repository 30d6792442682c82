/**
 * A public suite for servers that speak OpenAI's Chat Completions, run as its
 * users run it: `openai_test conformance` of https://github.com/webai-at-home/webai-at-home.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { available, prepareNpm } from "../polyglot/programs.js";
import { TestBroker } from "../support/broker.js";

const pinned = "webai-at-home@0.1.8";
const program = join("node_modules", "webai-at-home", "dist", "cli.js");
const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

interface Report {
  readonly summary: { readonly passed: number };
  readonly tests: readonly { readonly id: string; readonly status: string; readonly detail?: string }[];
}

const suite = await prepareNpm("conformance", pinned);

describe.skipIf("missing" in suite)(pinned, () => {
  let home: string;
  let broker: TestBroker;
  let baseUrl: string;

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), "conformance-"));
    const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
    const providers = [
      { id: "echo", echo: {} },
      { id: "claude", claude: { executable, environment } },
    ];
    broker = await TestBroker.start({ config: JSON.stringify({ providers }) });
    baseUrl = `${await broker.startAdapter()}/v1`;
  });

  afterAll(async () => {
    await broker?.close();
    rmSync(home, { recursive: true, force: true });
  });

  describe.each(["echo", "claude"])("with the model %s", (model) => {
    it.each(["core", "streaming", "sdk"])("finds nothing wrong in the profile %s", async (profile) => {
      const options = ["--base_url", baseUrl, "--api_key", broker.token, "--model", model];
      const { stdout } = await execa(process.execPath, [
        ...[join(available(suite), program), "openai_test", "conformance", ...options],
        ...["--profile", profile, "--format", "json", "--ci"],
      ]);
      const { summary, tests }: Report = JSON.parse(stdout);
      const lines = tests.map(({ id, status, detail = "" }) => `  ${status} ${id} ${detail}`.trimEnd());
      console.log([`${pinned}, profile ${profile}, model ${model}:`, ...lines].join("\n"));
      const withStatus = (wanted: string) => tests.filter(({ status }) => status === wanted);
      expect(withStatus("fail")).toEqual([]);
      // No agent takes tools of the caller's, and the adapter says so.
      expect(withStatus("skip").map(({ id }) => id)).toEqual(profile === "sdk" ? ["sdk.node.tools"] : []);
      expect(summary.passed).toBeGreaterThanOrEqual(3);
    });
  });
});
