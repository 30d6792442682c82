/** `session-broker doctor`: what it says of the providers of a configuration, and of none. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterEach, beforeEach, expect, it } from "vitest";
import { freePort } from "../support/broker.js";
import { ModelService, sendError } from "../support/model-service.js";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const fakeClaude = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "doctor-"));
  mkdirSync(join(folder, "bin"));
  // The fixtures are started by the name of their interpreter.
  symlinkSync(process.execPath, join(folder, "bin", "node"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function doctor(
  providers: readonly unknown[] | undefined,
  environment: Record<string, string> = {},
  ...args: readonly string[]
) {
  const config = join(folder, "config.yaml");
  writeFileSync(config, JSON.stringify(providers === undefined ? {} : { providers }));
  const { exitCode, stdout, stderr } = await execa(
    process.execPath,
    [main, "doctor", "--config", config, ...args],
    {
      env: { PATH: `${join(folder, "bin")}:/usr/bin:/bin`, HOME: folder, ...environment },
      extendEnv: false,
      reject: false,
      cwd: folder,
    },
  );
  return { exitCode, lines: stdout.split("\n"), stderr };
}

const claude = { id: "claude", claude: { executable: fakeClaude } };

const sharing = (ids: string) =>
  `The agents of ${ids} run as the broker's own user and can read its tokens; see run_as.`;

it("without a configuration it looks for agents", async () => {
  expect(await doctor(undefined)).toEqual({
    exitCode: 0,
    lines: ["ok    echo [default]: in process", "No agent is configured, and none was found on the PATH."],
    stderr: "",
  });
  symlinkSync(fakeClaude, join(folder, "bin", "claude"));
  const { exitCode, lines } = await doctor(undefined, { ANTHROPIC_API_KEY: "sk-secret" });
  expect(exitCode).toBe(0);
  expect(lines).toEqual([
    `ok    claude [default]: ${join(folder, "bin", "claude")}; 2.1.329 (Claude Code), tested; logged in (ANTHROPIC_API_KEY)`,
    "ok    echo: in process",
    sharing("claude"),
  ]);
});

it("an agent that is not logged in cannot work, and the line says what to do", async () => {
  const { exitCode, lines } = await doctor([claude]);
  expect(exitCode).toBe(1);
  expect(lines.slice(0, 3)).toEqual([
    `bad   claude [default]: ${fakeClaude}; 2.1.329 (Claude Code), tested; not logged in`,
    "      It is not logged in.",
    expect.stringMatching(/^ {6}→ Run .*ANTHROPIC_API_KEY\.$/),
  ]);
});

it("an agent that is given its key by the configuration can, and the key is not shown", async () => {
  const { exitCode, lines } = await doctor([
    { id: "claude", claude: { executable: fakeClaude, environment: { ANTHROPIC_API_KEY: "sk-secret" } } },
  ]);
  expect(exitCode).toBe(0);
  expect(lines.join("\n")).not.toContain("sk-secret");
});

it("an agent gets what inherit names, and is judged by it", async () => {
  const inherit = ["CLAUDE_CODE_USE_*"];
  const { exitCode, lines } = await doctor([{ ...claude, inherit }], { CLAUDE_CODE_USE_BEDROCK: "1" });
  expect([exitCode, lines[0]]).toEqual([
    0,
    expect.stringContaining("login not known (CLAUDE_CODE_USE_BEDROCK)"),
  ]);
});

it("an old version is pointed out", async () => {
  const environment = { FAKE_CLAUDE_VERSION: "2.0.1", ANTHROPIC_API_KEY: "x" };
  const { exitCode, lines } = await doctor([
    { id: "claude", claude: { executable: fakeClaude, environment } },
  ]);
  expect(exitCode).toBe(0);
  expect(lines[0]).toMatch(/^look {2}claude \[default\]: .*2\.0\.1 \(Claude Code\), too old/);
});

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const fakeCodex = fixture("fake-codex.mjs");
const fakeGemini = fixture("fake-gemini.mjs");
const fakeAcp = fixture("fake-acp.mjs");

it("codex is logged in by its file, or with exec by a variable", async () => {
  const codex = { id: "codex", codex: { executable: fakeCodex } };
  const without = await doctor([codex], { OPENAI_API_KEY: "sk-secret" });
  expect(without.exitCode).toBe(1);
  expect(without.lines.slice(0, 3)).toEqual([
    `bad   codex [default]: ${fakeCodex}; codex-cli 0.169.0, tested; not logged in`,
    "      It is not logged in.",
    `      → Run ${fakeCodex} login as the broker's user.`,
  ]);
  const exec = { id: "codex", codex: { executable: fakeCodex, exec: true } };
  expect((await doctor([exec], { CODEX_API_KEY: "sk-secret" })).lines[0]).toBe(
    `ok    codex [default]: ${fakeCodex}; codex-cli 0.169.0, tested; logged in (CODEX_API_KEY)`,
  );
  const home = join(folder, "codex");
  mkdirSync(home);
  writeFileSync(join(home, "auth.json"), JSON.stringify({ OPENAI_API_KEY: "sk-secret" }));
  const { exitCode, lines } = await doctor([codex], { CODEX_HOME: home });
  expect(exitCode).toBe(0);
  expect(lines[0]).toContain(`logged in (${join(home, "auth.json")})`);
  expect(lines.join("\n")).not.toContain("sk-secret");
});

it("gemini is logged in by a variable, and told what to do otherwise", async () => {
  const gemini = { id: "gemini", gemini: { executable: fakeGemini } };
  const without = await doctor([gemini]);
  expect(without.exitCode).toBe(1);
  expect(without.lines.slice(1, 3)).toEqual([
    "      It is not logged in.",
    expect.stringMatching(/^ {6}→ Give the broker GEMINI_API_KEY, or run /),
  ]);
  const { exitCode, lines } = await doctor([gemini], { GEMINI_API_KEY: "secret" });
  expect(exitCode).toBe(0);
  expect(lines[0]).toBe(`ok    gemini [default]: ${fakeGemini}; 0.61.0, tested; logged in (GEMINI_API_KEY)`);
});

it("an agent of the Agent Client Protocol is asked what it is", async () => {
  const acp = (command: string[], environment = {}) => ({ id: "agent", acp: { command, environment } });
  expect(await doctor([acp([fakeAcp])])).toMatchObject({
    exitCode: 0,
    lines: [
      `ok    agent (acp) [default]: ${fakeAcp}; fake 1.2.3; login not known`,
      "ok    echo: in process",
      sharing("agent"),
    ],
  });
  const missing = await doctor([acp([join(folder, "missing")])]);
  expect([missing.exitCode, missing.lines[1]]).toEqual([1, `      There is no ${join(folder, "missing")}.`]);
  for (const [start, said] of [
    ["exit", "no such model: nothing"],
    ["version", "version 7 of the Agent Client Protocol"],
  ] as const) {
    const { exitCode, lines } = await doctor([acp([fakeAcp], { FAKE_ACP_START: start })]);
    expect(exitCode).toBe(1);
    expect(lines[1]).toContain(said);
    expect(lines[2]).toContain("→ Correct command");
  }
  const silent = await doctor([acp(["/bin/cat"])]);
  expect(silent.exitCode).toBe(1);
});

it("only the default provider decides the exit code", async () => {
  const missing = { id: "missing", command: { first: [join(folder, "missing")] } };
  const shout = { id: "shout", command: { first: ["node"] } };
  const first = await doctor([shout, missing, claude]);
  expect(first.exitCode).toBe(0);
  expect(first.lines).toEqual([
    `ok    shout (command) [default]: ${join(folder, "bin", "node")}`,
    "bad   missing (command)",
    `      There is no program ${join(folder, "missing")}.`,
    "      → Install it, or name another one in first and resumed.",
    expect.stringMatching(/^bad {3}claude: /),
    "      It is not logged in.",
    expect.stringContaining("→ "),
    "ok    echo: in process",
    sharing("shout, missing, claude"),
  ]);
  expect((await doctor([missing, shout])).exitCode).toBe(1);
});

it("a program that is there and cannot be run is not found", async () => {
  const file = join(folder, "plain");
  writeFileSync(file, "");
  chmodSync(file, 0o644);
  expect((await doctor([{ id: "plain", command: { first: [file] } }])).exitCode).toBe(1);
  const broken = await doctor([{ id: "claude", claude: { executable: file } }]);
  expect(broken).toMatchObject({ exitCode: 1 });
  expect(broken.lines[1]).toBe(`      There is no ${file}.`);
});

it("an agent that does not say its version cannot work", async () => {
  const file = join(folder, "bad-claude");
  writeFileSync(file, "#!/bin/sh\necho broken >&2\nexit 3\n", { mode: 0o755 });
  const { exitCode, lines } = await doctor([{ id: "claude", claude: { executable: file } }]);
  expect([exitCode, lines[1]]).toEqual([1, expect.stringContaining("broken")]);
});

it("a model service is asked for its models, with the key", async () => {
  await using service = await ModelService.start((call) => {
    if (call.headers.authorization !== "Bearer sk-right")
      return sendError(call, 401, { message: "no such key" });
    return call.response.end('{"data":[{"id":"small"}]}');
  });
  const openai = {
    id: "local",
    openai: { baseUrl: service.url, keyVariable: "LOCAL_KEY" },
    models: ["small"],
  };
  expect(await doctor([openai], { LOCAL_KEY: "sk-right" })).toMatchObject({
    exitCode: 0,
    lines: [
      `ok    local (openai) [default]: ${service.url}; logged in (LOCAL_KEY)`,
      "ok    echo: in process",
    ],
  });
  const wrong = await doctor([openai], { LOCAL_KEY: "sk-wrong" });
  expect(wrong.exitCode).toBe(1);
  expect(wrong.lines.slice(0, 3)).toEqual([
    `bad   local (openai) [default]: ${service.url}; not logged in (LOCAL_KEY)`,
    "      The model's service answered 401: no such key",
    "      → Give LOCAL_KEY a key that the service takes.",
  ]);
  expect(wrong.lines.join("\n")).not.toContain("sk-wrong");
  const asked = service.calls.length;
  const none = await doctor([openai]);
  expect(none.exitCode).toBe(1);
  expect(none.lines[2]).toBe("      → Set LOCAL_KEY where the broker is started.");
  expect(service.calls).toHaveLength(asked);
  expect(service.paths.every((path) => path === "/v1/models")).toBe(true);
});

it("a model service that is not there is told from one that refuses", async () => {
  const baseUrl = `http://127.0.0.1:${await freePort()}/v1`;
  const { exitCode, lines } = await doctor([{ id: "local", openai: { baseUrl }, models: ["small"] }]);
  expect(exitCode).toBe(1);
  expect(lines.slice(0, 3)).toEqual([
    "bad   local (openai) [default]",
    expect.stringContaining("cannot be reached"),
    "      → Start the service, or correct base_url.",
  ]);
});

it("programs get one JSON object a line", async () => {
  const { exitCode, lines } = await doctor([claude], { ANTHROPIC_API_KEY: "x" }, "--json");
  expect(exitCode).toBe(0);
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    {
      id: "claude",
      kind: "claude",
      default: true,
      usable: true,
      found: fakeClaude,
      version: "2.1.329 (Claude Code)",
      support: "tested",
      login: { state: "yes", by: "ANTHROPIC_API_KEY" },
    },
    { id: "echo", kind: "echo", default: false, usable: true, found: "in process" },
  ]);
});

it("a configuration that cannot be read ends it with 2", async () => {
  expect(await doctor([{ id: "x", command: { first: ["./x"] } }])).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("providers[0].command.first[0]"),
  });
});
