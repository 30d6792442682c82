/** What a transaction wrote and deleted, as bytes from which it is done again. */
import { readKey, writeKey } from "ordered-binary";
import type { DatabaseName } from "./schema.js";
import type { StoredKey } from "./tables.js";

export interface Write {
  readonly table: DatabaseName;
  readonly key: StoredKey;
  /** Absent: the entry was deleted. */
  readonly value?: Buffer;
}

/** Stands for the length of a value where there is none. */
const deleted = 0xffff_ffff;
/** Of a name, a key with its lengths, and what lmdb's encoding may write behind a key. */
const mostBesideValue = 8 * 1024;

let scratch = Buffer.allocUnsafeSlow(256 * 1024);

/**
 * Each as the name of its table, its key in lmdb's ordered encoding, and its
 * value, with their lengths (1, 2 and 4 bytes) before them.
 *
 * @returns a part of a buffer that the next call uses again
 */
export function encodeWrites(writes: readonly Write[]): Buffer {
  let at = 0;
  for (const { table, key, value } of writes) {
    const needed = at + mostBesideValue + (value?.length ?? 0);
    if (needed > scratch.length) scratch = Buffer.concat([scratch.subarray(0, at)], 2 * needed);
    at = scratch.writeUInt8(table.length, at);
    at += scratch.write(table, at, "latin1");
    const end = writeKey(key as (string | number)[], scratch, at + 2);
    scratch.writeUInt16LE(end - at - 2, at);
    at = scratch.writeUInt32LE(value?.length ?? deleted, end);
    if (value !== undefined) at += value.copy(scratch, at);
  }
  return scratch.subarray(0, at);
}

/** @param bytes as `encodeWrites` made them */
export function decodeWrites(bytes: Buffer): Write[] {
  const writes: Write[] = [];
  let at = 0;
  const skip = (length: number) => {
    at += length;
    return at - length;
  };
  while (at < bytes.length) {
    const nameLength = bytes.readUInt8(skip(1));
    const table = bytes.toString("latin1", skip(nameLength), at) as DatabaseName;
    const keyLength = bytes.readUInt16LE(skip(2));
    const key = readKey(bytes, skip(keyLength), at) as StoredKey;
    const length = bytes.readUInt32LE(skip(4));
    if (length === deleted) writes.push({ table, key });
    else writes.push({ table, key, value: Buffer.from(bytes.subarray(skip(length), at)) });
  }
  return writes;
}
