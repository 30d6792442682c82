/**
 * A look at the store's files before they are mapped. The native library ends
 * the process on most damaged files, so the files are opened in a child process
 * first; the head of the file is checked here.
 */
import { execFile } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compiledSibling } from "./compiled.js";
import { DamagedStore } from "./marker.js";

/** Offsets in LMDB's meta page, data format 2. */
const magicOffset = 24;
const magic = 0xbeefc0de;
const versionOffset = 28;
const version = 2;
const pageSizeOffset = 48;
const lastPageOffset = 144;
const transactionOffset = 152;
const headBytes = 160;

/** Reads the first and the last entry of each database. @throws DamagedStore */
export async function preflight(path: string, schemaVersion: number): Promise<void> {
  checkHead(path);
  const child = fileURLToPath(compiledSibling("preflight-child"));
  const problem = await new Promise<string | undefined>((resolve) => {
    execFile(
      process.execPath,
      [child, path, String(schemaVersion), "ends"],
      { timeout: 120_000 },
      (error, _stdout, stderr) => {
        if (error === null) return resolve(undefined);
        const said = stderr.trim().split("\n").at(-1) ?? "";
        resolve(error.signal ? `reading it ended with ${error.signal}` : said || "it cannot be read");
      },
    );
  });
  if (problem !== undefined) throw new DamagedStore(path, problem);
}

/**
 * The two meta pages, without the library. A file may be a little shorter than
 * they say: pages at its end that were never needed are not written.
 *
 * @throws DamagedStore
 */
export function checkHead(path: string): { readonly isShort: boolean } {
  const head = Buffer.alloc(headBytes);
  const handle = openSync(join(path, "data.mdb"), "r");
  try {
    if (readSync(handle, head, 0, head.length, 0) < head.length)
      throw new DamagedStore(path, "data.mdb is cut off");
    const pageSize = head.readUInt32LE(pageSizeOffset);
    checkMeta(path, head);
    if (pageSize < 512 || pageSize > 65_536) throw new DamagedStore(path, "data.mdb has no valid page size");
    const second = Buffer.alloc(headBytes);
    if (readSync(handle, second, 0, second.length, pageSize) < second.length) {
      throw new DamagedStore(path, "data.mdb is cut off");
    }
    checkMeta(path, second);
    const [newest] = [head, second].sort((a, b) => Number(transactionOf(b) - transactionOf(a)));
    const pages = (newest?.readBigUInt64LE(lastPageOffset) ?? 0n) + 1n;
    return { isShort: BigInt(fstatSync(handle).size) < pages * BigInt(pageSize) };
  } finally {
    closeSync(handle);
  }
}

function transactionOf(meta: Buffer): bigint {
  return meta.readBigUInt64LE(transactionOffset);
}

function checkMeta(path: string, page: Buffer): void {
  if (page.readUInt32LE(magicOffset) !== magic || page.readUInt32LE(versionOffset) !== version) {
    throw new DamagedStore(path, "data.mdb is not an LMDB file of this version");
  }
}
