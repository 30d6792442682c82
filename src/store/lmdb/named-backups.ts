/**
 * Backups that stay on the broker's side, each a directory under one root.
 *
 *     <name>.partial ──copied, verified, on disk──▶ <name>
 *
 * Nothing is ever overwritten. What a crash cut short stays as `.partial`, and
 * is never taken for a backup.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { BrokerError } from "../../errors.js";
import { syncFile } from "./backup.js";
import { writeDurably } from "./marker.js";
import { dataFileName } from "./schema.js";

export interface NamedBackup {
  readonly name: string;
  readonly file: string;
  readonly takenAtMs: number;
}

/** Stands for the newest one, and is the name of none. */
export const latest = "latest";

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const partialEnd = ".partial";
const noteName = "backup.json";

/**
 * An empty directory in which the backup is made.
 *
 * @throws BrokerError INVALID_FIELD, BACKUP_EXISTS
 */
export function beginBackup(root: string, name: string): string {
  if (!namePattern.test(name) || name === latest || name.endsWith(partialEnd)) {
    throw new BrokerError(
      "INVALID_FIELD",
      `name: ${JSON.stringify(name)} is no name for a backup: letters, digits, ".", "_" and "-", not "latest", and no ".partial" at the end`,
    );
  }
  mkdirSync(dirname(root), { recursive: true });
  if (!existsSync(root)) mkdirSync(root, { mode: 0o700 });
  requireDirectory(root);
  const directory = join(root, name);
  if (isThere(directory)) throw exists(directory, "a backup of this name is there");
  const partial = `${directory}${partialEnd}`;
  try {
    mkdirSync(partial, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw exists(partial, "a backup of this name is being made, or was cut short: then delete it");
  }
  return partial;
}

/** Puts a verified copy in its place. */
export async function finishBackup(partial: string, takenAtMs: number): Promise<NamedBackup> {
  const directory = partial.slice(0, -partialEnd.length);
  rmSync(join(partial, "lock.mdb"), { force: true });
  writeDurably(join(partial, noteName), { takenAtMs });
  await syncFile(join(partial, dataFileName));
  await syncFile(partial);
  // A rename would go over an empty directory.
  if (isThere(directory)) throw exists(directory, "a backup of this name is there");
  renameSync(partial, directory);
  await syncFile(dirname(directory));
  const name = directory.slice(dirname(directory).length + 1);
  return { name, file: join(directory, dataFileName), takenAtMs };
}

/** The newest first. */
export function listBackups(root: string): readonly NamedBackup[] {
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .flatMap((name) => readBackup(root, name) ?? [])
    .sort((a, b) => b.takenAtMs - a.takenAtMs);
}

/** One by its name, or the newest as `latest`. */
export function findBackup(root: string, name: string): NamedBackup | undefined {
  return name === latest ? listBackups(root)[0] : readBackup(root, name);
}

function readBackup(root: string, name: string): NamedBackup | undefined {
  if (!namePattern.test(name) || name.endsWith(partialEnd)) return undefined;
  const directory = join(root, name);
  try {
    requireDirectory(directory);
    const { takenAtMs } = JSON.parse(readFileSync(join(directory, noteName), "utf8")) as Partial<NamedBackup>;
    if (typeof takenAtMs !== "number" || !lstatSync(join(directory, dataFileName)).isFile()) return undefined;
    return { name, file: join(directory, dataFileName), takenAtMs };
  } catch {
    return undefined;
  }
}

/** Not through a link. */
function requireDirectory(path: string): void {
  if (lstatSync(path).isDirectory()) return;
  throw new BrokerError("INVALID_FIELD", `backups: ${path} is no directory`);
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function exists(path: string, what: string): BrokerError {
  return new BrokerError("BACKUP_EXISTS", `name: ${what} (${path})`);
}
