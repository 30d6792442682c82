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

it.each(["--help", "-h"])("%s lists the commands, each of which has a help of its own", async (flag) => {
  const { exitCode, stdout, stderr } = await run(flag);
  expect([exitCode, stderr]).toEqual([0, ""]);
  const options = ["--config", "--data", "--listen", "--openai-listen", "--metrics-listen"];
  for (const option of options) expect(stdout).toContain(option);
  const listed = /^Commands.*\n((?: {2}.*\n)+)/m.exec(stdout)?.[1] ?? "";
  const commands = [...listed.matchAll(/^ {2}(\w+(?: [a-z]+)?)/gm)].map(([, name = ""]) => name);
  expect(commands).toEqual(expect.arrayContaining(["start", "serve", "openai", "usage", "import"]));
  const helps = await Promise.all(commands.map((command) => run(...command.split(" "), flag)));
  for (const [index, help] of helps.entries()) {
    expect(help).toMatchObject({ exitCode: 0, stderr: "" });
    expect(help.stdout).toMatch(new RegExp(`^Usage: session-broker ${commands[index]} `));
    for (const option of options) expect(help.stdout).toContain(option);
    expect(Math.max(...help.stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(100);
  }
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
    [["serve", "--since", "2026-01-31"], "serve has no option --since"],
    [["--since", "2026-01-31", "serve"], "serve has no option --since"],
    [["import"], "import needs FILE"],
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
