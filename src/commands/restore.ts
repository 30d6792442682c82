/** `session-broker restore`: a store of a backup, where there is none. */
import { existsSync } from "node:fs";
import type { Settings } from "../config/config.js";
import { prepareData } from "../config/tokens.js";
import { describeLoss, storePath } from "../opening.js";
import { restoreStore } from "../store/lmdb/backup.js";
import { DamagedStore } from "../store/lmdb/marker.js";
import { findBackup } from "../store/lmdb/named-backups.js";
import { CommandError } from "./command-error.js";
import { writeLines } from "./output.js";

/** A file, or a backup that the broker keeps, by its name or as `latest`. */
export type BackupSource =
  | { readonly kind: "file"; readonly file: string }
  | { readonly kind: "name"; readonly name: string };

export async function restore(
  { data, backups }: Pick<Settings, "data" | "backups">,
  source: BackupSource,
): Promise<void> {
  const file = source.kind === "file" ? source.file : findBackup(backups, source.name)?.file;
  if (file === undefined) throw new CommandError(`there is no such backup in ${backups}`);
  if (!existsSync(file)) throw new CommandError(`${file} does not exist`);
  const path = storePath(data);
  if (existsSync(path)) {
    throw new CommandError(`${path} exists already: move it away first, or name another --data`);
  }
  prepareData(data);
  const restored = await restoreStore(file, path, Date.now()).catch((error: unknown) => {
    if (!(error instanceof DamagedStore)) throw error;
    throw new CommandError(`${file} is no whole backup: ${error.what}`);
  });
  await writeLines([
    `${path}: ${restored.sessions} sessions; ${restored.interrupted} turns that had not ended are interrupted`,
    `Of the store that is replaced, ${describeLoss(restored.takenAtMs, undefined)}, and agents may know more than the store.`,
  ]);
}
