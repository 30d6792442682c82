/** The directories that agents work in. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, realpathSync, symlinkSync } from "node:fs";
import { realpath, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Logger } from "pino";
import type { Settings } from "./config/config.js";
import { giveTo, makePassable, type RunAs } from "./providers/run-as.js";
import type { TurnRow } from "./turns/turn.js";
import type { Grant } from "./turns/turn-store.js";

/** Within the directory of workspaces: those of processes that were started before their session. */
export const aheadFolder = ".ahead";

/**
 * The directory that a session's agent works in. Synchronous: four short calls
 * take less time than waiting for each in turn.
 *
 * @param user whose directory it is. Default: the broker's own
 * @param prepared becomes the directory of a session that has none yet
 */
export async function workspaceOf(
  settings: Settings,
  { session }: Grant,
  prepared?: string,
  user?: RunAs,
): Promise<string> {
  if (session.workspace !== "") {
    const named = settings.scope(session.key.scope).workspaces.get(session.workspace);
    if (named === undefined) throw new Error(`the workspace ${session.workspace} is no longer configured`);
    return realpathSync(named);
  }
  mkdirSync(settings.workspaces, { recursive: true, mode: 0o700 });
  const root = realpathSync(settings.workspaces);
  const directory = join(root, directoryName(session.sessionId, session.recordNo));
  if (prepared !== undefined && !existsSync(directory)) symlinkSync(prepared, directory);
  else {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    giveTo(user, directory);
  }
  const real = realpathSync(directory);
  if (real !== directory && dirname(real) !== join(root, aheadFolder))
    throw new Error(`the workspace ${directory} leads elsewhere, to ${real}`);
  return real;
}

/** Agents that run as other users come to theirs through the directories around them. */
export function openWorkspaces({ workspaces }: Settings): void {
  for (const directory of [workspaces, join(workspaces, aheadFolder)]) makePassable(directory);
}

/** Of a session that nobody can come back to. A configured workspace stays. */
export function removeWorkspace(settings: Settings, { sessionId, recordNo }: TurnRow, log: Logger): void {
  const directory = join(settings.workspaces, directoryName(sessionId, recordNo));
  const remove = async () => {
    const real = await realpath(directory).catch(() => directory);
    await rm(real, { recursive: true, force: true });
    await rm(directory, { recursive: true, force: true });
  };
  remove().catch((error: unknown) => {
    log.warn({ err: error }, "the directory of an internal turn could not be removed");
  });
}

/** Explicit session ids may hold anything, and may name several sessions. */
function directoryName(sessionId: string, recordNo: number): string {
  const safe = /^[A-Za-z0-9-]{1,64}$/.test(sessionId);
  return `${safe ? sessionId : createHash("sha256").update(sessionId).digest("hex").slice(0, 32)}.${recordNo}`;
}
