/** The recipes of docs/clients, as they stand there. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { installMs } from "../polyglot/programs.js";
import { preparePython } from "../polyglot/python.js";
import { TestBroker } from "../support/broker.js";

function recipesOf(page: string, language: string): string[] {
  const text = readFileSync(new URL(`../../docs/clients/${page}.md`, import.meta.url), "utf8");
  return [...text.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"))].map(([, code = ""]) => code);
}

let broker: TestBroker;
let adapter: string;

beforeAll(async () => {
  broker = await TestBroker.start();
  adapter = await broker.startAdapter();
  symlinkSync(broker.data, join(broker.folder, ".session-broker"));
});

afterAll(() => broker.close());

/** Where the recipes expect the adapter, and where it is here. */
const placed = (code: string) => code.replaceAll("http://127.0.0.1:7411", adapter);

async function run(program: string, args: readonly string[], environment = {}): Promise<string> {
  const env = { PATH: process.env.PATH ?? "", HOME: broker.folder, ...environment };
  const { stdout } = await execa(program, args, { cwd: broker.folder, env, extendEnv: false });
  return stdout;
}

describe("curl", () => {
  const expected = [
    /turn 1: My name is Ada\..*turn 2: What is my name\?/s,
    /response\.completed.*"status":"completed"/s,
  ];
  it.each(recipesOf("curl", "sh").map((code, i) => [i + 1, code]))("%i", async (index, code) => {
    expect(await run("sh", ["-eu", "-c", placed(code)])).toMatch(expected[index - 1] ?? /^$/);
  });

  it("has as many recipes as are tried", () => expect(recipesOf("curl", "sh")).toHaveLength(expected.length));
});

describe("typescript", () => {
  const expected = ["turn 2: What is my name?", "turn 1: My name is Ada."];
  it.each(recipesOf("typescript", "ts").map((code, i) => [i + 1, code]))("%i", async (index, code) => {
    const folder = join(broker.folder, `recipe-${index}`);
    mkdirSync(folder);
    symlinkSync(fileURLToPath(new URL("../../node_modules", import.meta.url)), join(folder, "node_modules"));
    // Without a type in them they are JavaScript, too.
    const file = join(folder, "recipe.mjs");
    writeFileSync(file, placed(code));
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
      expect(await run(interpreter, ["-c", placed(code)])).toBe(expected[index - 1]);
    },
    installMs,
  );

  it("has as many recipes as are tried", () =>
    expect(recipesOf("python", "python")).toHaveLength(expected.length));
});
