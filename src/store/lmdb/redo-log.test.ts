/** What a log says after its process, or its disk, was cut off. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DamagedStore } from "./marker.js";
import { decodeWrites, encodeWrites, type Write } from "./redo.js";
import { RedoLog, readRedoLog } from "./redo-log.js";

let path: string;
let log: RedoLog;

const storeId = "a store";
const sector = 512;

beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), "redo-"));
  log = openLog();
});

afterEach(() => {
  log.close();
  rmSync(path, { recursive: true });
});

function openLog(): RedoLog {
  const opened = RedoLog.open(path, storeId);
  if (opened === undefined) throw new Error("there is no room");
  return opened;
}

/** What the record with a number says. */
const write = (number: number, bytes = 10): Write => ({
  table: "ids",
  key: ["acme", "s", number],
  value: Buffer.alloc(bytes, number),
});

function append(...numbers: readonly number[]): void {
  for (const number of numbers) expect(log.append(number, encodeWrites([write(number)]))).toBe(true);
}

/** Numbers of the records that the log has beyond one. */
function found(through: number): number[] {
  return readRedoLog(path, storeId, through).map(({ key }) => Number((key as readonly unknown[])[2]));
}

/** Overwrites a part of the file, counted from the first record. */
function spoil(at: number, bytes: Buffer): void {
  const file = readFileSync(join(path, "redo.log"));
  bytes.copy(file, sector + at);
  writeFileSync(join(path, "redo.log"), file);
}

describe("writes as bytes", () => {
  const key = fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 40 }),
    fc.integer(),
    fc.array(fc.oneof(fc.string({ unit: "binary", maxLength: 300 }), fc.integer()), {
      minLength: 2,
      maxLength: 6,
    }),
  );
  const value = fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes));
  const table = fc.constantFrom("sessions", "ids", "meta", "replayExpiry");
  const writes = fc.array(fc.record({ table, key, value }, { requiredKeys: ["table", "key"] }));

  it("are the same when they are read", () => {
    fc.assert(
      fc.property(writes as fc.Arbitrary<Write[]>, (given) => {
        expect(decodeWrites(Buffer.from(encodeWrites(given)))).toEqual(given);
      }),
    );
  });

  it("may be longer than any before", () => {
    const given = [write(1, 700_000), write(2), write(3, 3_000_000)];
    const read = decodeWrites(encodeWrites(given));
    const same = read.map(({ value }, index) => given[index]?.value?.equals(value ?? Buffer.alloc(0)));
    expect(same).toEqual([true, true, true]);
  });
});

describe("a log", () => {
  it("has what was appended, in order, beyond what the store has", () => {
    expect(found(0)).toEqual([]);
    append(1, 2, 3);
    expect([found(0), found(2), found(3), found(9)]).toEqual([[1, 2, 3], [3], [], []]);
  });

  it("is the same for the next process", () => {
    append(1, 2);
    log.close();
    log = openLog();
    expect(found(0)).toEqual([1, 2]);
  });

  it("begins anew once the store has all of it, and what lies behind is over", () => {
    append(1, 2, 3);
    log.restart();
    append(4);
    expect(found(3)).toEqual([4]);
    append(5, 6, 7);
    expect(found(3)).toEqual([4, 5, 6, 7]);
  });

  it("takes no record that is larger than itself", () => {
    expect(log.append(1, encodeWrites([write(1, 5_000_000)]))).toBe(false);
    append(1);
    expect(found(0)).toEqual([1]);
  });

  it("fills up, and is empty again once the store has it", () => {
    let number = 0;
    while (log.append(number + 1, encodeWrites([write(number + 1, 100_000)]))) number += 1;
    expect(number).toBe(Math.floor((2048 - 1) / Math.ceil(100_100 / sector)));
    expect(found(number - 2)).toEqual([number - 1, number]);
    log.restart();
    append(number + 1);
    expect(found(number)).toEqual([number + 1]);
  });

  it("ends before a record that was not written whole", () => {
    append(1, 2, 3);
    // Of the third, which begins with its length, anything may be missing.
    for (const bytes of [1, 3, 8, 20]) {
      spoil(2 * sector, Buffer.alloc(sector));
      spoil(2 * sector, Buffer.from([bytes]));
      expect(found(0)).toEqual([1, 2]);
    }
  });

  it("ends before one that was to overwrite another and did not", () => {
    append(1, 2, 3);
    log.restart();
    spoil(0, Buffer.alloc(20, 1));
    expect(found(3)).toEqual([]);
  });

  it.each([0, 4, 9, 17, 25])("is damaged if a byte of a record before the last is wrong: %i", (at) => {
    append(1, 2, 3);
    const byte = readFileSync(join(path, "redo.log"))[2 * sector + at] ?? 0;
    spoil(sector + at, Buffer.from([byte ^ 0x10]));
    expect(() => found(1)).toThrow("a record of its log fails its checksum");
    expect(() => found(0)).toThrow(DamagedStore);
  });

  it("is damaged if the store is older", () => {
    append(5, 6);
    expect(() => found(3)).toThrow("data.mdb is older than its log");
  });

  it("is damaged if it is cut off, of something else, or of another store", () => {
    append(1);
    expect(() => readRedoLog(path, "another store", 0)).toThrow("redo.log belongs to another store");
    expect(() => RedoLog.open(path, "another store")).toThrow("redo.log belongs to another store");
    truncateSync(join(path, "redo.log"), 500_000);
    expect(() => found(0)).toThrow("redo.log cannot be read");
    writeFileSync(join(path, "redo.log"), Buffer.alloc(1024 * 1024));
    expect(() => found(0)).toThrow("redo.log cannot be read");
  });

  it("takes nothing in a record for another record", () => {
    append(1);
    const file = readFileSync(join(path, "redo.log"));
    // As in a label that a caller copied from elsewhere; with another seed its checksum is wrong.
    const other = mkdtempSync(join(tmpdir(), "redo-"));
    try {
      const foreign = RedoLog.open(other, storeId);
      foreign?.append(7, encodeWrites([write(7)]));
      foreign?.close();
      readFileSync(join(other, "redo.log")).copy(file, 3 * sector, sector, 2 * sector);
      writeFileSync(join(path, "redo.log"), file);
      expect(found(0)).toEqual([1]);
    } finally {
      rmSync(other, { recursive: true });
    }
  });

  it("is none in a store that never had one", () => {
    rmSync(join(path, "redo.log"));
    expect(readRedoLog(path, storeId, 4)).toEqual([]);
  });
});
