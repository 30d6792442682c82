/** `session-broker verify`: whether a store is sound, without a broker and without changing anything. */
import { existsSync } from "node:fs";
import type { Settings } from "../config/config.js";
import { storePath } from "../opening.js";
import { holderOf } from "../store/lmdb/holder.js";
import { DamagedStore, explainSystemError, type Marker, readMarker } from "../store/lmdb/marker.js";
import { type ScanReport, scanStore } from "../store/lmdb/scan.js";
import { schemaVersion } from "../store/lmdb/schema.js";
import type { TableProgress } from "../store/lmdb/verify.js";
import { CommandError } from "./command-error.js";
import { writeLines, writeText } from "./output.js";
import { cell, tableLines } from "./table.js";

/** Lines of the table of what is wrong; `--json` shows more. */
const shownFindings = 50;
const progressEveryMs = 2_000;

/** 0: sound; 1: damaged. */
export async function verify({ data }: Pick<Settings, "data">, json: boolean): Promise<number> {
  const path = storePath(data);
  if (!existsSync(path)) throw new CommandError(`${path} does not exist: name the directory with --data`);
  const inUseBy = holderOf(path);
  let report: ScanReport;
  try {
    report = await scan(path, inUseBy !== undefined, progressLine());
  } catch (error) {
    const explained = explainSystemError(error, path);
    throw explained instanceof Error ? new CommandError(explained.message) : explained;
  }
  const { findings, found, entries } = report;
  const sound = found === 0;
  if (json) {
    const answer = { path, sound, ...(inUseBy === undefined ? {} : { inUseBy }), found, findings, entries };
    await writeText(`${JSON.stringify(answer)}\n`);
  } else {
    if (inUseBy !== undefined) {
      await writeLines([`${path} is in use by process ${inUseBy}; it is read as it is at one moment.`]);
    }
    await writeLines(sound ? soundLines(path, entries) : damageLines(path, report));
  }
  return sound ? 0 : 1;
}

async function scan(
  path: string,
  isInUse: boolean,
  onProgress: (progress: TableProgress) => void,
): Promise<ScanReport> {
  let marker: Marker | undefined;
  try {
    marker = readMarker(path);
  } catch (error) {
    if (!(error instanceof DamagedStore)) throw error;
    return { findings: [{ table: "", key: "", problem: error.what }], found: 1, entries: {} };
  }
  if (marker === undefined || marker.state === "creating") {
    throw new CommandError(`${path} holds no store yet`);
  }
  if (marker.schemaVersion > schemaVersion) {
    throw new CommandError(
      `${path} has schema version ${marker.schemaVersion}, and this version of session-broker knows ${schemaVersion}: use a newer one`,
    );
  }
  return scanStore(path, marker.schemaVersion, onProgress, isInUse ? undefined : marker.storeId);
}

/** On standard error, if it takes long. */
function progressLine(): (progress: TableProgress) => void {
  let toldAtMs = performance.now();
  return ({ table, read, entries }) => {
    if (performance.now() - toldAtMs < progressEveryMs) return;
    toldAtMs = performance.now();
    process.stderr.write(`reading ${table}: ${read} of ${entries}\n`);
  };
}

function soundLines(path: string, entries: ScanReport["entries"]): string[] {
  const count = Object.values(entries).reduce((sum, of) => sum + of, 0);
  const sessions = (entries.sessions ?? 0) + (entries.archive ?? 0);
  return [
    `${path} is sound: ${count} entries were read, of ${sessions} sessions and ${entries.turns ?? 0} turns.`,
  ];
}

function damageLines(path: string, { findings, found }: ScanReport): string[] {
  const columns = [{ name: "TABLE" }, { name: "ENTRY" }, { name: "PROBLEM" }];
  const rows = findings.slice(0, shownFindings).map(({ table, key, problem }) => [table, cell(key), problem]);
  const more = found > rows.length ? [`… and ${found - rows.length} more; --json shows up to 1000.`] : [];
  return [
    `${path} is damaged: ${found} ${found === 1 ? "problem" : "problems"}. Nothing was changed.`,
    ...tableLines(columns, rows),
    ...more,
  ];
}
