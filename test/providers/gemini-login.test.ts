/** Where Gemini CLI keeps its login, as `doctor` reads it and, if it is there, as the CLI itself judges it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { geminiLoginOf } from "../../src/providers/gemini/diagnose.js";
import { realExecutable } from "./real-gemini.js";

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "gemini-login-"));
});

afterEach(() => rmSync(home, { recursive: true, force: true, maxRetries: 5 }));

const settings = ".gemini/settings.json";
const chosen = (selectedType: string) => JSON.stringify({ security: { auth: { selectedType } } });
const vertex = { GOOGLE_GENAI_USE_VERTEXAI: "true" };

type Situation = readonly [string, Record<string, string>, Record<string, string>, string];

/** What is logged in: files of the home, and variables; `~` is the home. */
const situations: readonly Situation[] = [
  ["nothing", {}, {}, "no"],
  ["an empty key", {}, { GEMINI_API_KEY: "" }, "no"],
  ["a key", {}, { GEMINI_API_KEY: "x" }, "yes"],
  ["a key in a file", { ".gemini/.env": "export GEMINI_API_KEY='x'\n" }, {}, "yes"],
  ["a key in the home's file", { ".env": "GEMINI_API_KEY=x" }, {}, "yes"],
  ["a key in another home", { "c/.gemini/.env": "GEMINI_API_KEY=x" }, { GEMINI_CLI_HOME: "~/c" }, "yes"],
  ["a key that is chosen", { [settings]: chosen("gemini-api-key") }, { GEMINI_API_KEY: "x" }, "yes"],
  ["a key of Vertex AI", {}, { ...vertex, GOOGLE_API_KEY: "x" }, "yes"],
  ["Vertex AI without a key", {}, vertex, "no"],
  [
    "Vertex AI chosen, and a key of another kind",
    { [settings]: chosen("vertex-ai") },
    { GEMINI_API_KEY: "x" },
    "no",
  ],
];

/** Such that the CLI would ask somebody else, or a keychain. */
const others: readonly Situation[] = [
  ["an account", { [settings]: chosen("oauth-personal"), ".gemini/oauth_creds.json": "{}" }, {}, "yes"],
  ["an account that is chosen only", { [settings]: chosen("oauth-personal") }, {}, "no"],
  [
    "an account by its variable",
    { ".gemini/oauth_creds.json": "{}" },
    { GOOGLE_GENAI_USE_GCA: "true" },
    "yes",
  ],
  ["a key that is chosen, in the keychain", { [settings]: chosen("gemini-api-key") }, {}, "unknown"],
  ["a project", {}, { ...vertex, GOOGLE_CLOUD_PROJECT: "p", GOOGLE_CLOUD_LOCATION: "l" }, "unknown"],
  ["a gateway", {}, { GOOGLE_GEMINI_BASE_URL: "http://127.0.0.1:9" }, "unknown"],
  ["a machine of the cloud", {}, { CLOUD_SHELL: "true" }, "unknown"],
  ["settings with comments", { [settings]: "// mine\n{}" }, {}, "unknown"],
];

function environmentOf(files: Record<string, string>, variables: Record<string, string>) {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(home, name)), { recursive: true });
    writeFileSync(join(home, name), content);
  }
  const added = Object.entries(variables).map(([name, value]) => [name, value.replace("~", home)]);
  return { HOME: home, ...Object.fromEntries(added) } as Record<string, string>;
}

it.each([...situations, ...others])("with %s", (_, files, variables, expected) => {
  expect(geminiLoginOf(environmentOf(files, variables)).state).toBe(expected);
});

describe.skipIf(realExecutable === "")("the CLI agrees", () => {
  it.each(situations)("with %s", { timeout: 60_000 }, async (_, files, variables, expected) => {
    const environment = environmentOf(files, variables);
    const { exitCode } = await execa(realExecutable, ["--output-format=stream-json"], {
      env: {
        PATH: process.env.PATH ?? "",
        GEMINI_CLI_NO_RELAUNCH: "true",
        GEMINI_CLI_TRUST_WORKSPACE: "true",
        // Nothing listens there.
        HTTPS_PROXY: "http://127.0.0.1:9",
        ...environment,
      },
      extendEnv: false,
      cwd: home,
      reject: false,
      // What it says before it asks the model is enough.
      input: "",
    });
    expect(exitCode === 41).toBe(expected === "no");
  });
});
