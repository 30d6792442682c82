/** Where Claude Code keeps its login, as `doctor` reads it and, if it is there, as the CLI itself says. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loginOf } from "../../src/providers/claude/diagnose.js";
import { realExecutable } from "./real-claude.js";

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "claude-login-"));
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

const oauth = {
  accessToken: "a",
  refreshToken: "r",
  expiresAt: 9_999_999_999_999,
  scopes: ["user:inference"],
};

/** What is logged in: files of the home, and variables; `~` is the home. */
const situations: readonly [string, Record<string, object>, Record<string, string>, "yes" | "no"][] = [
  ["nothing", {}, {}, "no"],
  ["an empty key", {}, { ANTHROPIC_API_KEY: "" }, "no"],
  ["a key", {}, { ANTHROPIC_API_KEY: "sk-x" }, "yes"],
  ["a token", {}, { ANTHROPIC_AUTH_TOKEN: "x" }, "yes"],
  ["a token of an account", {}, { CLAUDE_CODE_OAUTH_TOKEN: "x" }, "yes"],
  ["an account", { ".claude/.credentials.json": { claudeAiOauth: oauth } }, {}, "yes"],
  ["a key that was logged in with", { ".claude.json": { primaryApiKey: "sk-y" } }, {}, "yes"],
  ["a helper", { ".claude/settings.json": { apiKeyHelper: "/bin/echo k" } }, {}, "yes"],
  [
    "another folder",
    { "c/.credentials.json": { claudeAiOauth: oauth } },
    { CLAUDE_CONFIG_DIR: "~/c" },
    "yes",
  ],
  [
    "a key in another folder",
    { "c/.claude.json": { primaryApiKey: "sk-y" } },
    { CLAUDE_CONFIG_DIR: "~/c" },
    "yes",
  ],
  [
    "files that do not count there",
    { ".claude.json": { primaryApiKey: "sk-y" } },
    { CLAUDE_CONFIG_DIR: "~/c" },
    "no",
  ],
  ["files without a login", { ".claude.json": {}, ".claude/.credentials.json": {} }, {}, "no"],
];

describe.each(situations)("with %s", (_, files, variables, expected) => {
  let environment: Record<string, string>;

  beforeEach(() => {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(home, name)), { recursive: true });
      writeFileSync(join(home, name), JSON.stringify(content));
    }
    const added = Object.entries(variables).map(([name, value]) => [name, value.replace("~", home)]);
    environment = { HOME: home, ...Object.fromEntries(added) };
  });

  it(`the answer is ${expected}`, () => {
    expect(loginOf(environment, "linux").state).toBe(expected);
  });

  it.skipIf(realExecutable === "")("the CLI agrees", async () => {
    const { stdout } = await execa(realExecutable, ["auth", "status"], {
      env: {
        PATH: process.env.PATH ?? "",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
        DISABLE_TELEMETRY: "1",
        // Nothing listens there.
        ANTHROPIC_BASE_URL: "http://127.0.0.1:9",
        ...environment,
      },
      extendEnv: false,
      cwd: home,
      reject: false,
    });
    expect(JSON.parse(stdout).loggedIn).toBe(expected === "yes");
  });
});

it("on macOS, where a keychain may hold it, nobody can tell", () => {
  expect(loginOf({ HOME: home }, "darwin")).toEqual({ state: "unknown", by: "the keychain" });
});

it("a file that is no JSON is no login", () => {
  writeFileSync(join(home, ".claude.json"), "{");
  expect(loginOf({ HOME: home }, "linux")).toEqual({ state: "no" });
});
