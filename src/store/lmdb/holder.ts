/** Which process has a store open, without reading the store. Known on Linux alone. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** LMDB holds a lock on lock.mdb for as long as the store is open. */
export function holderOf(path: string): number | undefined {
  const inode = inodeOf(join(path, "lock.mdb"));
  const locks = inode === undefined ? "" : (readText("/proc/locks") ?? "");
  for (const line of locks.split("\n")) {
    const lock = /^\d+: \S+\s+\S+\s+\S+ (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line);
    if (lock?.[2] === inode && Number(lock?.[1]) > 0) return Number(lock?.[1]);
  }
  return undefined;
}

function inodeOf(file: string): string | undefined {
  return statSync(file, { throwIfNoEntry: false })?.ino.toString();
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
