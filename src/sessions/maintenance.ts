import type { PruneCall, PruneReport, SessionStore } from "./session-store.js";

export interface MaintenanceSettings {
  /** Sessions idle for longer are archived; 0: never. */
  readonly archiveAfterMs: number;
  /** Archived sessions are purged after this much longer; 0: never. */
  readonly purgeAfterMs: number;
  readonly everyMs: number;
}

/** Clears away what is no longer wanted; the same as Prune does when it is asked. */
export async function maintain(
  store: SessionStore,
  settings: MaintenanceSettings,
  nowMs: number,
  writeActivity: () => Promise<void>,
  onPruned: (report: PruneReport) => void,
): Promise<void> {
  const prune = async (call: PruneCall) => onPruned(await store.prune(call, writeActivity));
  const everything = { scopes: ["*"], dryRun: false, nowMs };
  const { archiveAfterMs, purgeAfterMs } = settings;
  if (archiveAfterMs > 0) {
    await prune({
      ...everything,
      live: true,
      archived: false,
      purge: false,
      olderThanMs: archiveAfterMs,
    });
  }
  if (purgeAfterMs > 0) {
    const olderThanMs = archiveAfterMs + purgeAfterMs;
    await prune({ ...everything, live: false, archived: true, purge: true, olderThanMs });
  }
  await store.expire(nowMs);
}
