/** Where Codex CLI keeps its login, as `doctor` reads it and, if it is there, as the CLI itself says. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { codexLoginOf } from "../../src/providers/codex/diagnose.js";
import { realCodexExecutable } from "./real-codex.js";

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "codex-login-"));
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

const key = JSON.stringify({ OPENAI_API_KEY: "sk-y" });
// What the CLI reads of it is in its middle, as JSON.
const idToken = ["e30", Buffer.from('{"email":"a@b.c"}').toString("base64url"), "e30"].join(".");
const account = JSON.stringify({
  OPENAI_API_KEY: null,
  tokens: { id_token: idToken, access_token: "a", refresh_token: "r", account_id: "x" },
  last_refresh: "2999-01-01T00:00:00Z",
});
const service = 'model_provider = "local"\n';

/** What is logged in: files of the home, and variables; `~` is the home. */
const situations: readonly [string, Record<string, string>, Record<string, string>, "yes" | "no"][] = [
  ["nothing", {}, {}, "no"],
  ["a key among the variables, which it does not read", {}, { OPENAI_API_KEY: "sk-x" }, "no"],
  ["a key that was logged in with", { ".codex/auth.json": key }, {}, "yes"],
  ["an account", { ".codex/auth.json": account }, {}, "yes"],
  ["another folder", { "c/auth.json": key }, { CODEX_HOME: "~/c" }, "yes"],
  ["a file that does not count there", { ".codex/auth.json": key, "c/x": "" }, { CODEX_HOME: "~/c" }, "no"],
  ["a file that is no JSON", { ".codex/auth.json": "x{" }, {}, "no"],
];

function environmentOf(files: Record<string, string>, variables: Record<string, string> = {}) {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(home, name)), { recursive: true });
    writeFileSync(join(home, name), content);
  }
  const added = Object.entries(variables).map(([name, value]) => [name, value.replace("~", home)]);
  return { HOME: home, ...Object.fromEntries(added) } as Record<string, string>;
}

const loginOf = (environment: Record<string, string>, more = {}) =>
  codexLoginOf({ environment, exec: false, extraArgs: [], ...more });

describe.each(situations)("with %s", (_, files, variables, expected) => {
  it(`the answer is ${expected}`, () => {
    expect(loginOf(environmentOf(files, variables)).state).toBe(expected);
  });

  it.skipIf(realCodexExecutable === "")("the CLI agrees", async () => {
    const { exitCode } = await execa(realCodexExecutable, ["login", "status"], {
      env: { PATH: process.env.PATH ?? "", ...environmentOf(files, variables) },
      extendEnv: false,
      cwd: home,
      reject: false,
    });
    expect(exitCode).toBe(expected === "yes" ? 0 : 1);
  });
});

it("a file without a key and without an account is no login", () => {
  expect(loginOf(environmentOf({ ".codex/auth.json": '{"OPENAI_API_KEY":null}' })).state).toBe("no");
});

it("codex exec takes its key from the variables, an app server does not", () => {
  const environment = environmentOf({}, { CODEX_API_KEY: "sk-x" });
  expect(loginOf(environment, { exec: true })).toEqual({ state: "yes", by: "CODEX_API_KEY" });
  expect(loginOf(environment)).toEqual({ state: "no" });
});

it.each([
  ["arguments", {}, ["-c", "model_provider=local"]],
  ["arguments in one", {}, ["-cmodel_provider=local"]],
  ["settings", { ".codex/config.toml": service }, []],
  ["settings that name the keyring", { ".codex/config.toml": 'cli_auth_credentials_store = "keyring"' }, []],
])("nobody can tell of a service or a place of %s", (_, files, extraArgs) => {
  expect(loginOf(environmentOf(files), { extraArgs }).state).toBe("unknown");
});
