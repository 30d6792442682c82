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
import {
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { open as openFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { open } from "lmdb";
import { Interrupted_Reason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { interrupted } from "../../turns/endings.js";
import { endWithoutRun } from "../../turns/restart.js";
import { sealJson, unsealJson } from "./codec.js";
import { DamagedStore, StoreUnusable, writeMarker } from "./marker.js";
import { openStore } from "./open.js";
import { releaseOwnership } from "./owner.js";
import { noteRestored, takenAtMs } from "./restored.js";
import { requireSound } from "./scan.js";
import { dataFileName, environmentOptions, schemaVersion } from "./schema.js";
import { Tables } from "./tables.js";

const partialEnd = ".partial";
/** No store grants so many lanes between a backup and its loss. */
const fenceGap = 2 ** 32;
/** Grants in one second that fences of a later restore are ahead of: more than the disk can do. */
const fencesPerSecond = 2 ** 20;
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

export interface RestoredStore {
  readonly sessions: number;
  /** Turns that had not ended. */
  readonly interrupted: number;
  /** When the backup was taken. */
  readonly takenAtMs: number;
}

/**
 * Makes a store of a backup.
 *
 * @param path of the store to be, which must not exist
 * @throws DamagedStore if the file is not a whole backup; then nothing is left
 */
export async function restoreStore(
  file: string,
  path: string,
  nowMs: number,
  /** What is there already is taken out of the way, once the new store is whole. */
  makeWay: () => void = () => {},
): Promise<RestoredStore> {
  const directory = makePartial(dirname(path), "restore");
  try {
    copyFileSync(file, join(directory, dataFileName), constants.COPYFILE_FICLONE);
    await verifyCopy(directory);
    const takenAtMs = await beginAnew(directory, file, nowMs);
    const settled = await settle(directory, nowMs);
    rmSync(join(directory, "lock.mdb"), { force: true });
    await syncFile(join(directory, dataFileName));
    await syncFile(directory);
    makeWay();
    if (existsSync(path)) throw new Error(`${path} exists already`);
    renameSync(directory, path);
    await syncFile(dirname(path));
    return { ...settled, takenAtMs };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Takes away the owner that the store had, moves the fences on, and notes of when it is. */
async function beginAnew(directory: string, file: string, nowMs: number): Promise<number> {
  const root = open(environmentOptions(directory));
  try {
    const tables = new Tables(root, directory);
    const sealed = tables.get("meta", "schema");
    if (sealed === undefined) throw new DamagedStore(file, "it is no backup of session-broker");
    const { schemaVersion: version } = unsealJson(sealed, "meta") as { schemaVersion: number };
    if (version > schemaVersion) {
      throw new StoreUnusable(
        `${file} has schema version ${version}, and this version knows ${schemaVersion}`,
      );
    }
    const taken = takenAtMs(tables) ?? statSync(file).mtimeMs;
    root.transactionSync(() => {
      releaseOwnership(tables);
      const { fence, recordNo, ...counters } = tables.counters();
      const fencesThrough = Math.max(fence + fenceGap, fencesBefore(nowMs));
      tables.put("meta", "counters", sealJson({ ...counters, recordNo, fence: fencesThrough }));
      noteRestored(tables, {
        takenAtMs: taken,
        restoredAtMs: nowMs,
        recordsThrough: recordNo,
        fencesThrough,
      });
    });
    writeMarker(directory, {
      product: "session-broker",
      state: "ready",
      storeId: randomUUID(),
      schemaVersion: version,
    });
    return taken;
  } finally {
    await root.close();
  }
}

/** More than any store has granted by then: a second restore does not grant what the first one has. */
export function fencesBefore(nowMs: number): number {
  return Math.floor(nowMs / 1000) * fencesPerSecond;
}

async function settle(path: string, nowMs: number): Promise<Omit<RestoredStore, "takenAtMs">> {
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
