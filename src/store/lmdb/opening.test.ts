/** What is looked at before a store is mapped into this process. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DamagedStore } from "./marker.js";
import { openStore } from "./open.js";
import { databaseNames, environmentOptions } from "./schema.js";

let folder: string;
let path: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
  path = join(folder, "s");
});

afterEach(() => rmSync(folder, { recursive: true }));

async function open() {
  const onLost = (error: Error) => {
    throw error;
  };
  return openStore({ path, now: Date.now, writer: "inline", onLost });
}

/** A store whose table of sessions has many leaves. */
async function fill(rows: number): Promise<void> {
  const opened = await open();
  const calls = Array.from({ length: rows }, (_, i) => ({
    reservation: {
      key: { scope: "acme", externalId: `chat-${String(i).padStart(5, "0")}`, provider: "echo" },
      aliases: [],
      internal: false,
      scopeResetPolicy: {},
      workspace: "",
      labels: { filler: "x".repeat(200) },
    },
    nowMs: 1_000,
    clockBelieved: true,
    newSessionId: crypto.randomUUID(),
  }));
  await Promise.all(calls.map((call) => opened.store.reserve(call)));
  await opened[Symbol.asyncDispose]();
}

function overwrite(at: number, bytes: Buffer): void {
  const handle = openSync(join(path, "data.mdb"), "r+");
  writeSync(handle, bytes, 0, bytes.length, at);
  closeSync(handle);
}

const pageSize = () => readFileSync(join(path, "data.mdb")).readUInt32LE(48);

describe("a store is refused", () => {
  it.each([0, 1])("if its meta page %i is damaged", async (page) => {
    await fill(1);
    overwrite(page * pageSize() + 24, Buffer.alloc(8, 0x55));
    await expect(open()).rejects.toThrow(DamagedStore);
  });

  it.each(Object.values(databaseNames))("if it has no table %s", async (name) => {
    await fill(1);
    const root = openLmdb(environmentOptions(path));
    await root.openDB({ name, encoding: "binary" }).drop();
    await root.close();
    await expect(open()).rejects.toThrow(`the database ${name} is missing`);
  });

  it.each(["first", "last"])("if the %s leaf of a table cannot be read", async (which) => {
    const rows = 500;
    await fill(rows);
    const bytes = readFileSync(join(path, "data.mdb"));
    const wanted = which === "first" ? "chat-00000" : `chat-${String(rows - 1).padStart(5, "0")}`;
    const size = pageSize();
    // Wherever the key is, in whichever table or old version of one, its page is made unreadable.
    for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + 1)) {
      overwrite(Math.floor(at / size) * size + 16, Buffer.alloc(8, 0xff));
    }
    await expect(open()).rejects.toThrow(DamagedStore);
  });

  it.each([
    ["is no JSON", "{"],
    ["is of something else", '{"product":"other","state":"ready","storeId":"x","schemaVersion":1}'],
    ["lacks a field", '{"product":"session-broker","state":"ready"}'],
  ])("if its marker %s", async (_, text) => {
    await fill(1);
    writeFileSync(join(path, "store.json"), text);
    await expect(open()).rejects.toThrow("store.json");
  });

  it("if it has data and no marker", async () => {
    await fill(1);
    rmSync(join(path, "store.json"));
    await expect(open()).rejects.toThrow(DamagedStore);
  });

  it("if a newer version wrote it, which is not damage", async () => {
    await fill(1);
    const marker = JSON.parse(readFileSync(join(path, "store.json"), "utf8"));
    writeFileSync(join(path, "store.json"), JSON.stringify({ ...marker, schemaVersion: 1_000_000 }));
    await expect(open()).rejects.toThrow("use a newer one");
  });
});

it("a store whose making was cut short is made again", async () => {
  await fill(1);
  const marker = JSON.parse(readFileSync(join(path, "store.json"), "utf8"));
  writeFileSync(join(path, "store.json"), JSON.stringify({ ...marker, state: "creating" }));
  writeFileSync(join(path, "data.mdb"), "half a page");
  const opened = await open();
  expect([opened.storeId, opened.store.liveSessions()]).toEqual([marker.storeId, 0]);
  await opened[Symbol.asyncDispose]();
});
