import { readFileSync } from "node:fs";
import { asRecord, asString, type JsonRecord } from "../../src/providers/json.js";
import type { ChildExit } from "../../src/providers/process.js";

/**
 * What the real command line said in one run against the model server of the
 * fixtures: the records of `codex exec`, or the messages of an app server about
 * one conversation. Paths and ports are replaced.
 */
export interface CodexCapture extends ChildExit {
  readonly name: string;
  readonly mode: "exec" | "app-server";
  readonly version: string;
  readonly stderr: string;
  readonly records: readonly JsonRecord[];
}

export function codexCapture(mode: CodexCapture["mode"], name: string): CodexCapture {
  const file = new URL("captures/codex-0.169.0.jsonl", import.meta.url);
  const all = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line): CodexCapture => JSON.parse(line));
  const found = all.find((each) => each.mode === mode && each.name === name);
  if (found === undefined) throw new Error(`no capture "${name}" of ${mode}`);
  return found;
}

/** The parameters of the messages with this method. */
export function paramsOf({ records }: CodexCapture, method: string): JsonRecord[] {
  return records
    .filter((record) => asString(record.method) === method)
    .map(({ params }) => asRecord(params) ?? {});
}
