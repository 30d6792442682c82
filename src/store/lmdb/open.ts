/**
 * Opening a store.
 *
 *     nothing ──▶ creating ──▶ ready ──▶ checked in a child ──▶ owned by this process, with what its log has beyond it
 *                               │         └── both ends of each table, or all of it where there is a reason
 *                               └── of an earlier version ──▶ brought up to this one
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { open, type RootDatabase } from "lmdb";
import { encodeSession, sealJson } from "./codec.js";
import { bringUpIds } from "./ids.js";
import {
  clearUnfinished,
  explainDamage,
  explainSystemError,
  type Marker,
  readMarker,
  StoreUnusable,
  writeMarker,
} from "./marker.js";
import { heartbeatEveryMs, takeOwnership } from "./owner.js";
import { checkHead, preflight } from "./preflight.js";
import { readRedoLog } from "./redo-log.js";
import { type Restored, readRestored } from "./restored.js";
import { requireSound } from "./scan.js";
import { environmentOptions, schemaVersion } from "./schema.js";
import { LmdbStore } from "./store.js";
import { type Key, sessionKey, Tables } from "./tables.js";
import { Transaction } from "./transaction.js";
import { countAllUsage } from "./usage.js";
import type { TableProgress } from "./verify.js";
import { inlineRunner, threadRunner, Writer } from "./writer.js";

export interface OpenStoreOptions {
  /** Directory of the store; made if it is missing. */
  readonly path: string;
  readonly now: () => number;
  /** `thread` (default) for a server, `inline` for a tool that serves nobody. */
  readonly writer?: "thread" | "inline";
  /** Called once if the store can no longer be written by this process. */
  readonly onLost: (error: Error) => void;
  /** Told of each batch of commands that is on disk. */
  readonly onCommitted?: (commands: number, tookMs: number) => void;
  /** Why all of the store is read before it is opened. Default: only the ends of its tables are. */
  readonly readAll?: string;
  /** Told before all of the store is read. */
  readonly onReadAll?: (why: string) => void;
  /** Told meanwhile, often. */
  readonly onReading?: (progress: TableProgress) => void;
  /** Fences of this life are above this one, and above every one of the store. Default: 0 */
  readonly fencesAbove?: number;
}

export interface OpenedStore extends AsyncDisposable {
  readonly store: LmdbStore;
  /** Names the directory for as long as it exists. */
  readonly storeId: string;
  /** Names this opening. */
  readonly instance: string;
  /** The fences that this opening grants are above this one. */
  readonly firstFence: number;
  /** What the store was restored from, if it was. */
  readonly restored?: Restored;
  /** Another process has the store now, or it can no longer be written. */
  isLost(): boolean;
  /** Size of the data file in bytes. */
  bytes(): number;
  /** Writes a consistent copy into an empty directory, as its data.mdb, while all goes on; answers of when it is. */
  copyTo(directory: string): Promise<number>;
}

/** A reader of a killed process pins old pages until somebody looks. */
const readerCheckEveryMs = 30_000;

/**
 * @throws DamagedStore if the files are not a whole store
 * @throws StoreInUse if another process owns it
 * @throws StoreUnusable if it is of a newer version, or the system does not let it be read and written
 */
export async function openStore(options: OpenStoreOptions): Promise<OpenedStore> {
  try {
    return await openUnexplained(options);
  } catch (error) {
    throw explainSystemError(error, options.path);
  }
}

async function openUnexplained(options: OpenStoreOptions): Promise<OpenedStore> {
  const { path, now } = options;
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const marker = readMarker(path) ?? startCreating(path);
  if (marker.state === "ready") await lookFirst(marker, options);
  else clearUnfinished(path);
  const root = open(environmentOptions(path));
  try {
    const tables = new Tables(root, path);
    const instance = randomUUID();
    own(tables, instance, options, now(), marker);
    if (marker.state === "creating" || marker.schemaVersion < schemaVersion) {
      writeMarker(path, { ...marker, state: "ready", schemaVersion });
    }
    return serve(root, tables, marker, instance, options);
  } catch (error) {
    await root.close();
    throw error;
  }
}

async function lookFirst(
  { schemaVersion: found }: Marker,
  { path, readAll, onReadAll, onReading }: OpenStoreOptions,
): Promise<void> {
  if (found > schemaVersion) {
    throw new StoreUnusable(
      `the store ${path} has schema version ${found}, and this version of session-broker knows ${schemaVersion}: use a newer one`,
    );
  }
  const { isShort } = checkHead(path);
  const why = readAll ?? (isShort ? "data.mdb is shorter than it says" : undefined);
  if (why === undefined) return preflight(path, found);
  onReadAll?.(why);
  await requireSound(path, found, onReading);
}

function startCreating(path: string): Marker {
  const marker: Marker = {
    product: "session-broker",
    state: "creating",
    storeId: randomUUID(),
    schemaVersion,
  };
  writeMarker(path, marker);
  return marker;
}

function own(
  tables: Tables,
  instance: string,
  { path, fencesAbove = 0 }: OpenStoreOptions,
  nowMs: number,
  marker: Marker,
): void {
  tables.root.transactionSync(() => {
    try {
      takeOwnership(tables, instance, path, nowMs);
    } catch (error) {
      throw explainDamage(error, path);
    }
    tables.apply(readRedoLog(path, marker.storeId, tables.loggedThrough()));
    // The marker says so as well; this one goes with a copy of the data file.
    tables.put("meta", "schema", sealJson({ schemaVersion }));
    // Done again if the marker could not be written afterwards.
    if (marker.schemaVersion < 2) countAllUsage(tables);
    if (marker.schemaVersion < 3) {
      markUsedLanes(tables);
      bringUpIds(tables);
    }
    // Fences of an earlier life stay behind every one of this life.
    const tx = new Transaction(tables, nowMs);
    tx.raise("fence", fencesAbove);
    tx.next("fence");
    tx.finish();
  });
}

/** Rows of earlier versions do not say that turns run or wait. */
function markUsedLanes(tables: Tables): void {
  for (const { key } of [...tables.all("lanes")]) {
    const [scope, externalId, provider] = key as Key;
    const row = tables.current({
      scope: String(scope),
      externalId: String(externalId),
      provider: String(provider),
    });
    if (row === undefined) continue;
    tables.put("sessions", sessionKey(row.key), encodeSession({ ...row, laneUsed: true }));
  }
}

function serve(
  root: RootDatabase,
  tables: Tables,
  marker: Marker,
  instance: string,
  options: OpenStoreOptions,
): OpenedStore {
  const { path, now } = options;
  const { storeId } = marker;
  const runner =
    options.writer === "inline" ? inlineRunner(tables, instance) : threadRunner({ path, instance, storeId });
  let lost = false;
  const onLost = (error: Error) => {
    if (!lost) options.onLost(error);
    lost = true;
  };
  const writer = new Writer(runner, onLost, options.onCommitted);
  const every = (ms: number, task: () => void) => setInterval(task, ms).unref();
  const beat = () => {
    // A full disk passes, and the next beat tries again; a lost store is told through onLost.
    writer.run("heartbeat", now()).catch(() => {});
  };
  const restored = readRestored(tables);
  const timers = [every(heartbeatEveryMs, beat), every(readerCheckEveryMs, () => root.readerCheck())];
  return {
    store: new LmdbStore(tables, writer),
    storeId,
    instance,
    firstFence: tables.counters().fence,
    ...(restored === undefined ? {} : { restored }),
    isLost: () => lost,
    bytes: () => statSync(join(path, "data.mdb")).size,
    async copyTo(directory) {
      const nowMs = now();
      await writer.run("noteBackup", nowMs);
      // Compacted: what is free in the store takes no room in the copy.
      await root.backup(directory, true);
      return nowMs;
    },
    async [Symbol.asyncDispose]() {
      for (const timer of timers) clearInterval(timer);
      await writer.close(!lost);
      await root.close();
    },
  };
}
