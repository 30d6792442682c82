/**
 * Opening the store of a data directory, and what becomes of one that is damaged.
 *
 *     sound ──▶ opened
 *     damaged, or gone after it was set aside
 *         ├── nothing was asked for ──▶ refused, everything stays as it is
 *         ├── --start-empty ──▶ set aside ──▶ an empty store
 *         └── --restore NAME ──▶ the backup is read and made a store ──▶ set aside ──▶ opened
 *
 * What was asked for is done with a damaged store alone, so that it may stand
 * in the command line for good: a sound store is never replaced.
 */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import type { Settings } from "./config/config.js";
import { fencesBefore, restoreStore } from "./store/lmdb/backup.js";
import { holderOf } from "./store/lmdb/holder.js";
import {
  type LastRun,
  livedMs,
  readLastRun,
  uncleanStopsBefore,
  verified,
  verifyNeeded,
  whyVerify,
  writeLastRun,
} from "./store/lmdb/last-run.js";
import { DamagedStore, explainSystemError, readMarker, StoreUnusable } from "./store/lmdb/marker.js";
import { findBackup, latest } from "./store/lmdb/named-backups.js";
import { type OpenedStore, type OpenStoreOptions, openStore } from "./store/lmdb/open.js";
import { StoreInUse } from "./store/lmdb/owner.js";
import { dataFileName } from "./store/lmdb/schema.js";
import { listSetAside, type SetAside, setAside } from "./store/lmdb/set-aside.js";
import type { TableProgress } from "./store/lmdb/verify.js";

/** What the operator wants if the store is damaged. */
export type Recovery =
  | { readonly kind: "refuse" }
  | { readonly kind: "start-empty" }
  /** A backup by its name, or the newest as `latest`. */
  | { readonly kind: "restore"; readonly name: string };

export interface OpenDataOptions extends Pick<OpenStoreOptions, "now" | "onLost" | "onCommitted"> {
  readonly settings: Pick<Settings, "data" | "backups">;
  readonly recovery: Recovery;
  readonly log: Pick<Logger, "info" | "warn" | "error">;
}

const progressEveryMs = 10_000;
/** No life grants so many lanes. */
const fencesOfOneLife = 2 ** 32;

/** @throws DamagedStore, StoreInUse, StoreUnusable */
export async function openData(options: OpenDataOptions): Promise<OpenedStore> {
  const path = storePath(options.settings.data);
  try {
    return await openOrRecover(options, path);
  } catch (error) {
    throw explainSystemError(error, path);
  }
}

async function openOrRecover(options: OpenDataOptions, path: string): Promise<OpenedStore> {
  try {
    refuseIfGone(options, path);
    const opened = await open(options, path);
    if (options.recovery.kind !== "refuse") options.log.info("the store is sound and is used as it is");
    return opened;
  } catch (error) {
    if (!(error instanceof DamagedStore) || options.recovery.kind === "refuse") throw error;
    await recover(options, path, error.what);
    return open(options, path);
  }
}

export function storePath(data: string): string {
  return join(data, "store");
}

/** A store that was set aside and never replaced, or is to be restored, must not come back as an empty one. */
function refuseIfGone({ settings, recovery }: OpenDataOptions, path: string): void {
  if (existsSync(path)) return;
  const [last] = listSetAside(settings.data).slice(-1);
  if (last !== undefined) throw new DamagedStore(path, `it was set aside, and lies in ${last.path}`);
  if (recovery.kind === "restore") throw new DamagedStore(path, "it is missing");
}

async function open(options: OpenDataOptions, path: string): Promise<OpenedStore> {
  const { settings, log, now, onLost, onCommitted } = options;
  const { data } = settings;
  const last = readLastRun(data);
  const why = whyVerify(last, verifyNeeded(data));
  const isSameStore = existsSync(path) && readMarker(path)?.storeId === last?.storeId;
  const opened = await openStore({
    path,
    now,
    onLost,
    ...(onCommitted === undefined ? {} : { onCommitted }),
    ...(why === undefined ? {} : { readAll: why }),
    onReadAll: (reason) => log.warn({ reason }, "all of the store is read before it is used"),
    onReading: progressTo(log),
    fencesAbove: isSameStore ? 0 : Math.max(last?.fencesThrough ?? 0, fencesOfLostStores(data, now())),
  });
  verified(data);
  return accompany(options, opened, last);
}

/** Of a store that was set aside nobody may know any more what it had granted. */
function fencesOfLostStores(data: string, nowMs: number): number {
  return listSetAside(data).length === 0 ? 0 : fencesBefore(nowMs);
}

function progressTo(log: OpenDataOptions["log"]): (progress: TableProgress) => void {
  let toldAtMs = performance.now();
  return (progress) => {
    if (performance.now() - toldAtMs < progressEveryMs) return;
    toldAtMs = performance.now();
    log.info(progress, "the store is being read");
  };
}

/** Keeps the note of this life beside the store. */
function accompany(
  { settings: { data }, log }: OpenDataOptions,
  opened: OpenedStore,
  last: LastRun | undefined,
): OpenedStore {
  const fencesThrough = Math.max(last?.fencesThrough ?? 0, opened.firstFence + fencesOfOneLife);
  const note = (state: LastRun["state"], uncleanStops: number) => {
    try {
      writeLastRun(data, { storeId: opened.storeId, fencesThrough, state, uncleanStops });
    } catch (error) {
      // A full disk stops nothing that can go on; the note before this one still holds.
      log.warn({ err: error }, "the note about this run cannot be written");
    }
  };
  note("running", uncleanStopsBefore(last));
  const lived = setTimeout(() => note("running", 0), livedMs).unref();
  return {
    ...opened,
    async [Symbol.asyncDispose]() {
      clearTimeout(lived);
      await opened[Symbol.asyncDispose]();
      if (!opened.isLost()) note("closed", 0);
    },
  };
}

async function recover(options: OpenDataOptions, path: string, what: string): Promise<void> {
  const { settings, recovery, log, now } = options;
  const pid = existsSync(path) ? holderOf(path) : undefined;
  if (pid !== undefined) throw new StoreInUse(pid, path);
  const away = (successor: SetAside["successor"]) => {
    if (!existsSync(path)) return;
    const aside = setAside(path, { atMs: now(), what, successor });
    log.error({ ...aside }, "the store was damaged and was set aside");
  };
  if (recovery.kind !== "restore") {
    away("empty");
    log.error("an empty store is begun: every session of before is unknown now");
    return;
  }
  const backup = findBackup(settings.backups, recovery.name);
  if (backup === undefined) {
    const which = recovery.name === latest ? "no backup" : `no backup ${recovery.name}`;
    throw new StoreUnusable(
      `the store ${path} is damaged: ${what}; there is ${which} in ${settings.backups}, and nothing was changed`,
    );
  }
  const lostUntilMs = lastWrite(path);
  const restored = await restoreStore(backup.file, path, now(), () => away("restored")).catch(
    (error: unknown) => {
      if (!(error instanceof DamagedStore)) throw error;
      throw new StoreUnusable(`the backup ${backup.name} is damaged: ${error.what}; nothing was changed`);
    },
  );
  log.error(
    { backup: backup.name, sessions: restored.sessions, interrupted: restored.interrupted },
    `the store was restored: ${describeLoss(restored.takenAtMs, lostUntilMs)}`,
  );
}

/** Which time range is lost. */
export function describeLoss(takenAtMs: number, untilMs: number | undefined): string {
  const time = (ms: number) => new Date(ms).toISOString();
  const until = untilMs === undefined ? "" : ` until ${time(untilMs)}`;
  return `what was written after ${time(takenAtMs)}${until} is lost`;
}

/** The last time that the data file was written; undefined if there is none. */
function lastWrite(path: string): number | undefined {
  return statSync(join(path, dataFileName), { throwIfNoEntry: false })?.mtimeMs;
}
