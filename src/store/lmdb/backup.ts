/**
 * A backup is one file: the store as it was at one moment, compacted.
 *
 *     store ──copy, verify, send──▶ file ──copy, verify, settle──▶ a store of its own
 *
 * A restored store has an id of its own, so that the processes of the one it
 * was taken from are not its own; its fences go on far above every earlier one;
 * and what had not ended in it ends INTERRUPTED, since nobody knows what became
 * of it.
 */
import { randomUUID } from "node:crypto";
import { constants, copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { open as openFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { open } from "lmdb";
import { Interrupted_Reason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { interrupted } from "../../turns/endings.js";
import { endWithoutRun } from "../../turns/restart.js";
import { sealJson, unsealJson } from "./codec.js";
import { DamagedStore, writeMarker } from "./marker.js";
import { openStore } from "./open.js";
import { releaseOwnership } from "./owner.js";
import { requireSound } from "./scan.js";
import { dataFileName, environmentOptions, schemaVersion } from "./schema.js";
import { Tables } from "./tables.js";

const partialEnd = ".partial";
/** No store grants so many lanes between a backup and its loss. */
const fenceGap = 2 ** 32;
/** Databases that the earliest version has; those that came later are told by the store itself. */
const earliestVersion = 1;

/** An empty directory beside the store, gone with the next start if not before. */
export function makePartial(data: string, what: string): string {
  const directory = join(data, `${what}-${randomUUID()}${partialEnd}`);
  mkdirSync(directory, { mode: 0o700 });
  return directory;
}

/** Removes what a broker left that was killed in the middle of a backup. */
export function removePartials(data: string): void {
  for (const name of readdirSync(data)) {
    if (/^(?:backup|restore)-[0-9a-f-]{36}\.partial$/.test(name)) {
      rmSync(join(data, name), { recursive: true, force: true });
    }
  }
}

/** Reads all of a copy, as a data.mdb in a directory of its own. @throws DamagedStore */
export function verifyCopy(directory: string): Promise<void> {
  return requireSound(directory, earliestVersion);
}

export interface Restored {
  readonly sessions: number;
  /** Turns that had not ended. */
  readonly interrupted: number;
}

/**
 * Makes a store of a backup.
 *
 * @param path of the store to be, which must not exist
 * @throws DamagedStore if the file is not a whole backup; then nothing is left
 */
export async function restoreStore(file: string, path: string, nowMs: number): Promise<Restored> {
  if (existsSync(path)) throw new Error(`${path} exists already`);
  const directory = makePartial(dirname(path), "restore");
  try {
    copyFileSync(file, join(directory, dataFileName), constants.COPYFILE_FICLONE);
    await verifyCopy(directory);
    await beginAnew(directory, file);
    const restored = await settle(directory, nowMs);
    rmSync(join(directory, "lock.mdb"), { force: true });
    await syncFile(join(directory, dataFileName));
    renameSync(directory, path);
    await syncFile(dirname(path));
    return restored;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Takes away the owner that the store had, and moves the fences on. */
async function beginAnew(directory: string, file: string): Promise<void> {
  const root = open(environmentOptions(directory));
  try {
    const tables = new Tables(root, directory);
    const sealed = tables.get("meta", "schema");
    if (sealed === undefined) throw new DamagedStore(file, "it is no backup of session-broker");
    const { schemaVersion: version } = unsealJson(sealed, "meta") as { schemaVersion: number };
    if (version > schemaVersion) {
      throw new Error(`${file} has schema version ${version}, and this version knows ${schemaVersion}`);
    }
    root.transactionSync(() => {
      releaseOwnership(tables);
      const counters = tables.counters();
      tables.put("meta", "counters", sealJson({ ...counters, fence: counters.fence + fenceGap }));
    });
    writeMarker(directory, {
      product: "session-broker",
      state: "ready",
      storeId: randomUUID(),
      schemaVersion: version,
    });
  } finally {
    await root.close();
  }
}

async function settle(path: string, nowMs: number): Promise<Restored> {
  let lost: Error | undefined;
  const onLost = (error: Error) => {
    lost = error;
  };
  const opened = await openStore({ path, now: () => nowMs, writer: "inline", onLost });
  try {
    const turns = await opened.store.active();
    for (const turn of turns) {
      const ending = interrupted(Interrupted_Reason.RESTORED, turn.lastSequence);
      await opened.store.end(endWithoutRun(turn, ending, nowMs));
    }
    if (lost !== undefined) throw lost;
    return { sessions: opened.store.liveSessions(), interrupted: turns.length };
  } finally {
    await opened[Symbol.asyncDispose]();
  }
}

/** A file, or a directory with the names in it. */
export async function syncFile(path: string): Promise<void> {
  const handle = await openFile(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
