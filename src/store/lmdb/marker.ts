/**
 * The file beside the database that says what the directory is. LMDB opens an
 * empty or missing data file as an empty store; with the marker that is seen as
 * the loss it would be.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { BrokerError } from "../../errors.js";

export interface Marker {
  readonly product: "session-broker";
  /** `creating` until the first transaction is on disk. */
  readonly state: "creating" | "ready";
  readonly storeId: string;
  readonly schemaVersion: number;
}

export class DamagedStore extends Error {
  override readonly name = "DamagedStore";

  constructor(
    path: string,
    readonly what: string,
  ) {
    super(
      `the store ${path} is damaged: ${what}. Nothing was changed. ` +
        "session-broker verify says more; start with --restore latest to go on from a backup, " +
        "or with --start-empty to begin anew: both keep the damaged files aside",
    );
  }
}

/** The store may be sound, but cannot be used here and as it is. */
export class StoreUnusable extends Error {
  override readonly name = "StoreUnusable";
}

/** A record that fails its checksum, met while a store is opened. */
export function explainDamage(error: unknown, path: string): unknown {
  const isDamage = error instanceof BrokerError && error.reason === "STORE_DAMAGED";
  return isDamage ? new DamagedStore(path, error.message.split(";")[0] ?? error.message) : error;
}

/** What the system says about a file, as one clear line; any other error stays as it is. */
export function explainSystemError(error: unknown, path: string): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  const isSystems = error instanceof Error && (typeof code === "number" || /^E[A-Z]+$/.test(String(code)));
  if (!isSystems) return error;
  return new StoreUnusable(
    `the store ${path} cannot be used: ${message}. See to the permissions and the disk of its directory`,
    { cause: error },
  );
}

/** What is in the directory: a store, the beginnings of one, or nothing. @throws DamagedStore */
export function readMarker(path: string): Marker | undefined {
  const file = markerFile(path);
  const dataFile = join(path, "data.mdb");
  if (!existsSync(file)) {
    if (existsSync(dataFile))
      throw new DamagedStore(path, "it holds a data.mdb that session-broker did not make");
    return undefined;
  }
  const marker = parseMarker(readFileSync(file, "utf8"));
  if (marker === undefined) throw new DamagedStore(path, "store.json cannot be read");
  if (marker.state === "creating") return marker;
  if (!existsSync(dataFile)) throw new DamagedStore(path, "data.mdb is missing");
  if (statSync(dataFile).size === 0) throw new DamagedStore(path, "data.mdb is empty");
  return marker;
}

/** Removes the beginnings of a store: nothing was ever acknowledged from it. */
export function clearUnfinished(path: string): void {
  for (const name of ["data.mdb", "lock.mdb", "redo.log"]) rmSync(join(path, name), { force: true });
}

export function writeMarker(path: string, marker: Marker): void {
  writeDurably(markerFile(path), marker);
}

/** A file of JSON that is on disk, whole, or not there at all. */
export function writeDurably(file: string, content: object): void {
  replaceDurably(file, `${JSON.stringify(content)}\n`);
}

/** The same of any content. What there is no room for leaves nothing. */
export function replaceDurably(file: string, content: string | Buffer): void {
  const temporary = `${file}.new`;
  try {
    writeFileSync(temporary, content, { mode: 0o600, flush: true });
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  renameSync(temporary, file);
  syncDirectory(dirname(file));
}

function markerFile(path: string): string {
  return join(path, "store.json");
}

function parseMarker(text: string): Marker | undefined {
  try {
    const marker = JSON.parse(text) as Partial<Marker>;
    const whole =
      marker.product === "session-broker" &&
      (marker.state === "creating" || marker.state === "ready") &&
      typeof marker.storeId === "string" &&
      typeof marker.schemaVersion === "number";
    return whole ? (marker as Marker) : undefined;
  } catch {
    return undefined;
  }
}

/** The names in it. */
export function syncDirectory(path: string): void {
  const handle = openSync(path, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
