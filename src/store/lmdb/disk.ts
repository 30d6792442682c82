import { statfsSync } from "node:fs";

/** Bytes that are free on the disk of a path. */
export function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

/** LMDB hands on the code of the system: 28 ENOSPC, 122 EDQUOT; -30792 is a full map. */
const fullCodes = new Set<unknown>([28, 122, -30792, "ENOSPC", "EDQUOT"]);

/** Whether an error says that there is no room on a disk. */
export function isFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return fullCodes.has((error as NodeJS.ErrnoException).code) || /no space left/i.test(error.message);
}
