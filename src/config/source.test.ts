import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { ConfigError, readConfig } from "./source.js";

const folder = mkdtempSync(join(tmpdir(), "config-"));
const file = join(folder, "broker.yaml");

afterAll(() => rmSync(folder, { recursive: true }));

/** What is wrong, without the name of the file. */
function problems(text: string): string[] {
  writeFileSync(file, text);
  try {
    readConfig(file);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.split("\n").map((line) => {
      expect(line.startsWith(`${file}:`)).toBe(true);
      return line.slice(file.length + 1);
    });
  }
}

it.each([
  ["", []],
  ["# nothing", []],
  ["listen: 127.0.0.1:0\nlimits:\n  runningTurns: 3\n  waiting_turns: 4", []],
  ["lisen: a\ndata: b", ["1:8: lisen: there is no such setting"]],
  ["lisen: a\nsockt: b", ["1:8: lisen: there is no such setting", "2:8: sockt: there is no such setting"]],
  ["providers:\n  - id: a\n    ecco: {}", ["3:11: providers[0].ecco: there is no such setting"]],
  ["limits:\n  running_turns: many", ["2:18: limits.running_turns: "]],
  ["limits:\n  runningTurns: many", ["2:17: limits.runningTurns: "]],
  ["hosts: a", ["1:8: hosts: "]],
  ["scopes:\n  - pattern: a\n    workspaces: { x: 3 }", ["3:17: scopes[0].workspaces: "]],
  [
    "providers:\n  - id: a\n    timeout: soon\n    echo: {}",
    ['3:14: providers[0].timeout: "soon" is no time'],
  ],
  ["providers:\n  - id: a", ["2:5: providers[0]: exactly one field"]],
  ["providers:\n  - id: A B\n    echo: {}", ["2:9: providers[0].id: does not match"]],
  [
    "credentials:\n  - name: x\n    role: ROLE_READ\n    tokenSha256: abc",
    ["4:18: credentials[0].token_sha256: "],
  ],
  [
    "providers:\n  - { id: a, echo: {} }\n  - { id: a, echo: {} }",
    ["3:11: providers[1].id: another provider"],
  ],
  [
    "scopes:\n  - pattern: a\n    resetPolicy: { daily: { hour: 4, timeZone: Mars } }",
    ["3:48: scopes[0].reset_policy.daily.time_zone: Mars"],
  ],
  [
    'providers:\n  - id: a\n    command:\n      first: [run, "{model}"]',
    ["4:20: providers[0].command.first[1]: {model}"],
  ],
  ["- a", ["1:1: settings are a map"]],
  ["a: [", [" Flow sequence"]],
  ["data: a\ndata: b", [" Map keys must be unique"]],
])("%j", (text, expected) => {
  const found = problems(text);
  expect(found).toHaveLength(expected.length);
  for (const [index, beginning] of expected.entries()) expect(found[index]).toContain(beginning);
});
