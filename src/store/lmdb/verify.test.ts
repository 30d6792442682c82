/** What verify finds that no single entry tells. Damage of other kinds: test/fault and test/fuzz. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { open } from "lmdb";
import { afterEach, beforeEach, expect, it } from "vitest";
import { TombstoneRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { sealMessage } from "./codec.js";
import { environmentOptions, schemaVersion } from "./schema.js";
import { Tables } from "./tables.js";
import { type Finding, verifyTables } from "./verify.js";

const pageBytes = 4096;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "verify-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

async function inside<T>(act: (tables: Tables) => T): Promise<T> {
  const root = open(environmentOptions(folder));
  try {
    return act(new Tables(root, folder));
  } finally {
    await root.close();
  }
}

/** Where the pages that list chats lie, each with those it lists. */
function pagesOf(bytes: Buffer): Map<number, string[]> {
  const pages = new Map<number, string[]>();
  for (let at = 0; at < bytes.length; at += pageBytes) {
    const chats = bytes.toString("latin1", at, at + pageBytes).match(/chat-\d{4}/g) ?? [];
    if (chats.length > 10) pages.set(at, chats);
  }
  return pages;
}

it("finds a page in the place of another that lists as many", async () => {
  await inside((tables) => {
    const sealed = sealMessage(TombstoneRecordSchema, create(TombstoneRecordSchema, { generation: 1 }));
    tables.root.transactionSync(() => {
      for (let n = 0; n < 1_000; n++)
        tables.put("tombstones", ["acme", `chat-${`${n}`.padStart(4, "0")}`, "echo"], sealed);
    });
  });
  const file = join(folder, "data.mdb");
  const sound = readFileSync(file);
  const pages = [...pagesOf(sound)];
  const [first, other] = pages.filter(([, chats]) => chats.length === pages[1]?.[1].length);
  if (first === undefined || other === undefined) throw new Error("no two pages list as many");
  const damaged = Buffer.from(sound);
  sound.copy(damaged, first[0], other[0], other[0] + pageBytes);
  writeFileSync(file, damaged);

  const findings: Finding[] = [];
  await inside((tables) => verifyTables(tables, schemaVersion, (finding) => findings.push(finding)));
  expect(findings).toEqual([
    { table: "tombstones", key: expect.any(String), problem: "it does not follow the entry before it" },
  ]);
});
