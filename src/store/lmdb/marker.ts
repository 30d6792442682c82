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
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";

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
      `the store ${path} is damaged: ${what}. ` +
        "Move the directory away and restore a backup, or start with another --data",
    );
  }
}

/** What is in the directory: a store, the beginnings of one, or nothing. */
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
  if (marker.state === "creating") {
    // Nothing was ever acknowledged from it.
    rmSync(dataFile, { force: true });
    rmSync(join(path, "lock.mdb"), { force: true });
    return marker;
  }
  if (!existsSync(dataFile)) throw new DamagedStore(path, "data.mdb is missing");
  if (statSync(dataFile).size === 0) throw new DamagedStore(path, "data.mdb is empty");
  return marker;
}

export function writeMarker(path: string, marker: Marker): void {
  const file = markerFile(path);
  const temporary = `${file}.new`;
  const handle = openSync(temporary, "w", 0o600);
  try {
    writeSync(handle, `${JSON.stringify(marker)}\n`);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
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

function syncDirectory(path: string): void {
  const handle = openSync(path, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
