import { readFileSync } from "node:fs";
import type { JsonRecord } from "../../src/providers/json.js";
import type { ChildExit } from "../../src/providers/process.js";

/**
 * One run of Gemini CLI with `--output-format stream-json`, against the model
 * server of the fixtures. Paths and the longer texts of the CLI are shortened.
 */
export interface GeminiCapture extends ChildExit {
  readonly name: string;
  readonly version: string;
  readonly stderr: string;
  readonly records: readonly JsonRecord[];
}

export function geminiCapture(name: string): GeminiCapture {
  const file = new URL("captures/gemini-0.61.0.jsonl", import.meta.url);
  const found = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as GeminiCapture)
    .find((each) => each.name === name);
  if (found === undefined) throw new Error(`no capture "${name}"`);
  return found;
}
