/** The recipes of docs/clients, as they stand there; that of LiteLLM is tried where LiteLLM is installed. */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { available, installMs, prepareNpm } from "../polyglot/programs.js";
import { preparePython } from "../polyglot/python.js";
import { TestBroker } from "../support/broker.js";
import { placed, recipesOf } from "../support/recipes.js";

let broker: TestBroker;
let adapter: string;

beforeAll(async () => {
  broker = await TestBroker.start();
  adapter = await broker.startAdapter();
  symlinkSync(broker.data, join(broker.folder, ".session-broker"));
});

afterAll(() => broker.close());

async function run(program: string, args: readonly string[], environment = {}): Promise<string> {
  const env = { PATH: process.env.PATH ?? "", HOME: broker.folder, ...environment };
  const { stdout } = await execa(program, args, { cwd: broker.folder, env, extendEnv: false });
  return stdout;
}

describe("openclaw", () => {
  it("has a chat by its key", async () => {
    const [code = "", ...others] = recipesOf("openclaw", "sh");
    expect(others).toEqual([]);
    expect(await run("sh", ["-eu", "-c", placed(code, adapter)])).toMatch(
      /turn 1: My name is Ada\..*turn 2: What is my name\?/s,
    );
    const key = { scope: "openclaw", externalId: "agent:main:discord:channel:42", provider: "echo" };
    const { session } = await broker.client().getSession({ selector: { case: "key", value: key } });
    expect(session?.turnCount).toBe(2);
  });
});

describe("curl", () => {
  const expected = [
    /turn 1: My name is Ada\..*turn 2: What is my name\?/s,
    /response\.completed.*"status":"completed"/s,
  ];
  it.each(recipesOf("curl", "sh").map((code, i) => [i + 1, code]))("%i", async (index, code) => {
    expect(await run("sh", ["-eu", "-c", placed(code, adapter)])).toMatch(expected[index - 1] ?? /^$/);
  });

  it("has as many recipes as are tried", () => expect(recipesOf("curl", "sh")).toHaveLength(expected.length));
});

describe("typescript", () => {
  const expected = [
    "turn 2: What is my name?",
    "turn 1: My name is Ada.",
    "turn 2: What is my name?",
    "turn 2: What is my name?",
  ];
  it.each(recipesOf("typescript", "ts").map((code, i) => [i + 1, code]))("%i", async (index, code) => {
    const folder = join(broker.folder, `recipe-${index}`);
    mkdirSync(folder);
    symlinkSync(fileURLToPath(new URL("../../node_modules", import.meta.url)), join(folder, "node_modules"));
    // Without a type in them they are JavaScript, too.
    const file = join(folder, "recipe.mjs");
    writeFileSync(file, placed(code, adapter));
    expect(await run(process.execPath, [file])).toBe(expected[index - 1]);
  });

  it("has as many recipes as are tried", () =>
    expect(recipesOf("typescript", "ts")).toHaveLength(expected.length));
});

describe("python", async () => {
  const requirements = fileURLToPath(new URL("../polyglot/python/clients.txt", import.meta.url));
  const python = await preparePython("Python", requirements);
  const expected = [
    "turn 2: What is my name?",
    "turn 1: My name is Ada.\nturn 2: What is my name?",
    "turn 1: My name is Ada.",
  ];
  it.skipIf("missing" in python).each(recipesOf("python", "python").map((code, i) => [i + 1, code]))(
    "%i",
    async (index, code) => {
      const interpreter = "value" in python ? python.value : "";
      expect(await run(interpreter, ["-c", placed(code, adapter)])).toBe(expected[index - 1]);
    },
    installMs,
  );

  it("has as many recipes as are tried", () =>
    expect(recipesOf("python", "python")).toHaveLength(expected.length));
});

describe("continue", async () => {
  const folder = await prepareNpm("Continue", "@continuedev/cli@1.5.47");

  it.skipIf("missing" in folder)("has a chat by its history", { timeout: installMs }, async () => {
    const [config = ""] = recipesOf("continue", "yaml");
    const [code = "", ...others] = recipesOf("continue", "sh");
    expect(others).toEqual([]);
    writeFileSync(join(broker.folder, "config.yaml"), placed(config, adapter));
    const environment = {
      PATH: `${join(available(folder), "node_modules", ".bin")}:${process.env.PATH ?? ""}`,
      // Nothing of this machine's own.
      CONTINUE_GLOBAL_DIR: join(broker.folder, "continue"),
      CONTINUE_TELEMETRY_ENABLED: "0",
    };
    // As npx does, but never from the network.
    const installed = code.replaceAll("npx cn", "cn");
    const output = await run("sh", ["-eu", "-c", installed], environment);
    expect(output).toBe("turn 1: My name is Ada.\nturn 2: What is my name?");
  });
});

/** It compiles for minutes the first time. */
describe.skipIf(!process.env.SESSION_BROKER_TEST_OPENAI_GO)("go", () => {
  it("has a chat by its key", { timeout: 2 * installMs }, async () => {
    const [code = "", ...others] = recipesOf("go", "go");
    expect(others).toEqual([]);
    const folder = join(broker.folder, "go");
    mkdirSync(folder);
    writeFileSync(join(folder, "go.mod"), goModule);
    writeFileSync(join(folder, "main.go"), placed(code, adapter));
    const options = { cwd: folder, env: { GOFLAGS: "-mod=mod" } };
    await execa("go", ["build", "-o", "recipe", "."], options);
    expect(await run(join(folder, "recipe"), [])).toBe("turn 1: My name is Ada.\nturn 2: What is my name?");
  });
});

const goModule = "module recipe\n\ngo 1.26.0\n\nrequire github.com/openai/openai-go/v3 v3.96.0\n";
