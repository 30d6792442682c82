import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "command-line-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: readonly string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [main, ...args], {
    cwd: folder,
    env: { PATH: folder, HOME: folder },
    extendEnv: false,
    reject: false,
  });
  return { exitCode, stdout, stderr };
}

it.each([["--help"], ["-h"], ["serve", "--help"]])("%s shows how it is called", async (...args) => {
  const { exitCode, stdout, stderr } = await run(...args);
  expect([exitCode, stderr]).toEqual([0, ""]);
  for (const word of [
    "start",
    "serve",
    "openai",
    "--config",
    "--data",
    "--listen",
    "--openai-listen",
    "--metrics-listen",
  ])
    expect(stdout).toContain(word);
});

it("--version says the version of the package", async () => {
  expect(await run("--version")).toEqual({ exitCode: 0, stdout: version, stderr: "" });
});

describe("a wrong call ends with code 2 and says why", { timeout: 60_000 }, () => {
  it.each([
    [[], "a command is needed"],
    [["dance"], 'there is no command "dance"'],
    [["serve", "twice"], 'unexpected "twice"'],
    [["serve", "--dance"], "--dance"],
    [["serve", "--data"], "--data"],
    [["start", "--openai-listen", "7411"], 'adapter_listen: "7411"'],
    [["serve", "--listen", "nonsense"], "listen"],
    [["serve", "--listen", "127.0.0.1:99999"], "listen"],
    [["serve", "--metrics-listen", "7412"], 'metrics_listen: "7412" is not host:port'],
    [["serve", "--config", "missing.yaml"], "missing.yaml"],
  ])("%j", async (args, reason) => {
    const { exitCode, stdout, stderr } = await run(...args);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^session-broker: /);
    expect(stderr).toContain(reason);
    expect(stderr.split("\n").length).toBe(1);
  });

  it.each([
    ["lisen: 127.0.0.1:0", "lisen"],
    ["metrics_listen: nowhere", "metrics_listen"],
    ["providers:\n  - id: a\n    ecco: {}", "ecco"],
    ["providers:\n  - id: a", "providers[0]"],
    ["providers:\n  - id: A B\n    echo: {}", "providers[0].id"],
    ["limits:\n  running_turns: many", "running_turns"],
    ["data: [", "line 1"],
  ])("with the settings %j", async (text, reason) => {
    const file = join(folder, "broker.yaml");
    writeFileSync(file, text);
    for (const command of ["serve", "openai", "start"]) {
      const { exitCode, stdout, stderr } = await run(command, "--config", file);
      expect([exitCode, stdout]).toEqual([2, ""]);
      expect(stderr).toContain(reason);
      expect(stderr).toContain("broker.yaml");
      expect(stderr).not.toMatch(/^ +at /m);
    }
  });
});
