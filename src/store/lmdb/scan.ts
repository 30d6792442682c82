/** The full scan of a store, in a process of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { compiledSibling } from "./compiled.js";
import { DamagedStore } from "./marker.js";
import { checkHead } from "./preflight.js";
import type { Finding, TableProgress } from "./verify.js";

export interface ScanReport {
  /** What is wrong, at most `mostFindings`. */
  readonly findings: readonly Finding[];
  readonly found: number;
  /** Entries that were read, by database. */
  readonly entries: Readonly<Record<string, number>>;
}

const mostFindings = 1_000;
const mostErrorText = 4_000;

/**
 * Never throws for what is in the files, and never ends this process.
 *
 * @param storeId whose log is read, too. Default: none is, as of a store that is being written
 */
export async function scanStore(
  path: string,
  schemaVersion: number,
  onProgress: (progress: TableProgress) => void = () => {},
  storeId?: string,
): Promise<ScanReport> {
  try {
    checkHead(path);
  } catch (error) {
    if (!(error instanceof DamagedStore)) throw error;
    return { findings: [{ table: "", key: "", problem: error.what }], found: 1, entries: {} };
  }
  const findings: Finding[] = [];
  const entries: Record<string, number> = {};
  let found = 0;
  let at = "";
  const add = (finding: Finding) => {
    found += 1;
    if (findings.length < mostFindings) findings.push(finding);
  };
  const child = spawn(
    process.execPath,
    [
      ...[fileURLToPath(compiledSibling("preflight-child")), path, String(schemaVersion), "all"],
      ...(storeId === undefined ? [] : [storeId]),
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let complaint = "";
  child.stderr.on("data", (chunk) => {
    complaint = `${complaint}${chunk}`.slice(-mostErrorText);
  });
  const ended = once(child, "close");
  for await (const line of createInterface({ input: child.stdout })) {
    const said = parse(line);
    if (said?.finding !== undefined) add(said.finding);
    if (said?.progress === undefined) continue;
    at = said.progress.table;
    entries[at] = said.progress.read;
    onProgress(said.progress);
  }
  const [code, signal] = await ended;
  if (signal !== null) add({ table: at, key: "", problem: `reading it ended with ${signal}` });
  else if (code !== 0) add({ table: at, key: "", problem: reasonIn(complaint) });
  return { findings, found, entries };
}

/** @throws DamagedStore with the first of what is wrong */
export async function requireSound(
  path: string,
  schemaVersion: number,
  onProgress?: (progress: TableProgress) => void,
): Promise<void> {
  const { findings, found } = await scanStore(path, schemaVersion, onProgress);
  const [first] = findings;
  if (first === undefined) return;
  const more = found === 1 ? "" : `, and ${found - 1} more problems`;
  throw new DamagedStore(path, `${describeFinding(first)}${more}`);
}

export function describeFinding({ table, key, problem }: Finding): string {
  return [table, key, problem].filter((part) => part !== "").join(": ");
}

interface Said {
  readonly finding?: Finding;
  readonly progress?: TableProgress;
}

/** A process that crashes may leave half a line. */
function parse(line: string): Said | undefined {
  try {
    return JSON.parse(line) as Said;
  } catch {
    return undefined;
  }
}

/** The message of an uncaught error, without its trace. */
function reasonIn(complaint: string): string {
  const line = complaint.split("\n").find((text) => /^\w*Error: /.test(text));
  return line ?? "it cannot be read";
}
