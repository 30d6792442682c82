/** `session-broker restore`: a store of a backup, where there is none. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Settings } from "../config/config.js";
import { prepareData } from "../config/tokens.js";
import { restoreStore } from "../store/lmdb/backup.js";
import { DamagedStore } from "../store/lmdb/marker.js";
import { CommandError } from "./command-error.js";
import { writeLines } from "./output.js";

export async function restore({ data }: Pick<Settings, "data">, file: string): Promise<void> {
  if (!existsSync(file)) throw new CommandError(`${file} does not exist`);
  const path = join(data, "store");
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
    "What was written after the backup is lost, and agents may know more than the store.",
  ]);
}
