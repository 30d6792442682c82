import { readFileSync } from "node:fs";
import type { ClaudeRecord } from "../../src/providers/claude/records.js";
import type { ChildExit } from "../../src/providers/process.js";

/**
 * One run of the real command line against the model server of the fixtures.
 * Paths, port and the longer texts of the CLI are shortened.
 */
export interface Capture extends ChildExit {
  readonly name: string;
  readonly version: string;
  readonly inputUuid: string;
  readonly stderr: string;
  readonly records: readonly ClaudeRecord[];
}

export const capturedVersions = ["2.1.329", "2.1.197"] as const;

export function readCaptures(version: (typeof capturedVersions)[number]): ReadonlyMap<string, Capture> {
  const file = new URL(`captures/claude-${version}.jsonl`, import.meta.url);
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return new Map(lines.map((line) => JSON.parse(line) as Capture).map((capture) => [capture.name, capture]));
}

export function capture(version: (typeof capturedVersions)[number], name: string): Capture {
  const found = readCaptures(version).get(name);
  if (found === undefined) throw new Error(`no capture "${name}" of ${version}`);
  return found;
}
