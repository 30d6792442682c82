import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readLines } from "./lines.js";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "lines-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function read(content: string, maxBytes: number): Promise<(string | undefined)[]> {
  const file = join(folder, "file");
  writeFileSync(file, content);
  const lines: (string | undefined)[] = [];
  for await (const { number, bytes } of readLines(file, maxBytes)) {
    lines.push(bytes?.toString());
    expect(number).toBe(lines.length);
  }
  return lines;
}

it.each<[string, (string | undefined)[]]>([
  ["", []],
  ["\n", [""]],
  ["a", ["a"]],
  ["a\n", ["a"]],
  ["a\n\nb", ["a", "", "b"]],
  ["1234\n12345\n1234\n12345", ["1234", undefined, "1234", undefined]],
])("%j", async (content, lines) => {
  expect(await read(content, 4)).toEqual(lines);
});

it("lines that span several reads", async () => {
  const long = "x".repeat(200_000);
  expect(await read(`a\n${long}\nb\n${long}${long}\nc`, 300_000)).toEqual(["a", long, "b", undefined, "c"]);
});
