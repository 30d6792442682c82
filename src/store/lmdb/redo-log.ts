/**
 * The log in which a write is on disk before the store itself is. A commit of
 * LMDB writes pages all over its file, each of which a disk takes for itself; a
 * record of the log is one piece. So writes that nobody reads from the store yet
 * are answered once they are in the log, and many of them share one commit.
 *
 *     empty ── a record ──▶ in use ── more records ──▶ in use
 *     in use ── the store has committed all of them ──▶ empty: the next record overwrites the first
 *     in use ── the process dies ──▶ the next open does again what the store has not, in one transaction
 *
 * The store keeps the number of the last record that it holds, in the same
 * transaction as what the record says. A record is whole if its checksum holds,
 * and the log ends where the next number does not follow. Each begins on a
 * sector of its own, which no later record touches. The file keeps its size, so
 * that writing to it needs neither room nor a change of the file system. Its
 * first sector says which store it belongs to, and the number with which its
 * checksums begin: what a caller sends looks like a record to nobody.
 */
import { randomInt } from "node:crypto";
import { closeSync, existsSync, fdatasyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { isFull } from "./disk.js";
import { DamagedStore, replaceDurably } from "./marker.js";
import { decodeWrites, type Write } from "./redo.js";

const sectorBytes = 512;
const fileBytes = 1024 * 1024;
const magic = "session-broker redo log 1\n";
/** Of a record, before its writes: their length, the checksum of all that follows it, and the number. */
const headBytes = 16;
const checksumOffset = 4;
const numberOffset = 8;

export class RedoLog {
  #at = sectorBytes;

  private constructor(
    private readonly handle: number,
    private readonly seed: number,
  ) {}

  /** Made if it is missing. Undefined if there is no room for it: the store does without. */
  static open(path: string, storeId: string): RedoLog | undefined {
    const file = fileOf(path);
    try {
      if (!existsSync(file)) replaceDurably(file, blank(storeId));
      return new RedoLog(openSync(file, "r+"), seedOf(path, readFileSync(file), storeId));
    } catch (error) {
      if (isFull(error)) return undefined;
      throw error;
    }
  }

  /**
   * Returns once the record is on disk.
   *
   * @param writes as `encodeWrites` made them
   * @returns false if there is no room for it
   * @throws Error if the disk fails: nobody knows then what it holds
   */
  append(number: number, writes: Buffer): boolean {
    const record = encodeRecord(number, writes, this.seed);
    if (this.#at + record.length > fileBytes) return false;
    try {
      writeAll(this.handle, record, this.#at);
    } catch (error) {
      if (isFull(error)) return false;
      throw error;
    }
    fdatasyncSync(this.handle);
    this.#at += inSectors(record.length);
    return true;
  }

  /** The store has all that it holds. */
  restart(): void {
    this.#at = sectorBytes;
  }

  close(): void {
    closeSync(this.handle);
  }
}

/**
 * What the log of a store holds beyond a record, in order.
 *
 * @param through number of the last record that the store has
 * @throws DamagedStore if a record is missing that was answered
 */
export function readRedoLog(path: string, storeId: string, through: number): readonly Write[] {
  const file = fileOf(path);
  if (!existsSync(file)) return [];
  const bytes = readFileSync(file);
  const seed = seedOf(path, bytes, storeId);
  const writes: Write[] = [];
  let last: number | undefined;
  let at = sectorBytes;
  for (let record = recordAt(bytes, at, seed); record !== undefined; record = recordAt(bytes, at, seed)) {
    if (last === undefined && record.number > through + 1) {
      throw new DamagedStore(path, "data.mdb is older than its log");
    }
    if (last !== undefined && record.number !== last + 1) break;
    last = record.number;
    if (last > through) writes.push(...decodeWrites(record.writes));
    at += inSectors(headBytes + record.writes.length);
  }
  const next = Math.max(last ?? 0, through) + 1;
  for (; at < bytes.length; at += sectorBytes) {
    const later = recordAt(bytes, at, seed);
    // The one before it was answered.
    if (later !== undefined && later.number > next) {
      throw new DamagedStore(path, "a record of its log fails its checksum");
    }
  }
  return writes;
}

interface LogRecord {
  readonly number: number;
  readonly writes: Buffer;
}

function encodeRecord(number: number, writes: Buffer, seed: number): Buffer {
  const record = Buffer.allocUnsafe(headBytes + writes.length);
  record.writeUInt32LE(writes.length, 0);
  record.writeDoubleLE(number, numberOffset);
  writes.copy(record, headBytes);
  record.writeUInt32LE(crc32(record.subarray(numberOffset), seed), checksumOffset);
  return record;
}

/** Undefined if no whole record begins there. */
function recordAt(bytes: Buffer, at: number, seed: number): LogRecord | undefined {
  if (at + headBytes > bytes.length) return undefined;
  const length = bytes.readUInt32LE(at);
  const end = at + headBytes + length;
  if (length === 0 || end > bytes.length) return undefined;
  const checked = bytes.subarray(at + numberOffset, end);
  if (bytes.readUInt32LE(at + checksumOffset) !== crc32(checked, seed)) return undefined;
  return { number: bytes.readDoubleLE(at + numberOffset), writes: bytes.subarray(at + headBytes, end) };
}

function blank(storeId: string): Buffer {
  const bytes = Buffer.alloc(fileBytes);
  bytes.write(`${magic}${randomInt(2 ** 32)}\n${storeId}\n`, "latin1");
  return bytes;
}

/** @throws DamagedStore if it is not the log of this store */
function seedOf(path: string, bytes: Buffer, storeId: string): number {
  const [, seed, owner] = bytes.toString("latin1", magic.length - 1, sectorBytes).split("\n");
  const isWhole = bytes.length === fileBytes && bytes.toString("latin1", 0, magic.length) === magic;
  if (!isWhole || !/^\d+$/.test(seed ?? "")) throw new DamagedStore(path, "redo.log cannot be read");
  if (owner !== storeId) throw new DamagedStore(path, "redo.log belongs to another store");
  return Number(seed);
}

function fileOf(path: string): string {
  return join(path, "redo.log");
}

function inSectors(bytes: number): number {
  return Math.ceil(bytes / sectorBytes) * sectorBytes;
}

function writeAll(handle: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(handle, bytes, done, bytes.length - done, position + done);
  }
}
