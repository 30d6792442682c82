/** Stores with damage anywhere: verify never breaks, and what it calls sound is what it was. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { open } from "lmdb";
import { afterAll, beforeAll, expect, it } from "vitest";
import { scanStore } from "../../src/store/lmdb/scan.js";
import { databaseNames, environmentOptions, schemaVersion } from "../../src/store/lmdb/schema.js";
import { TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";
import { parameters, timeoutFor } from "./fuzzing.js";

const runs = 25;
const pageBytes = 4096;
/** Their keys are in nothing else of the store; their records have checksums. */
const keysOfTheirOwn: ReadonlySet<string> = new Set(["tombstones", "changes", "chains", "usage"]);

const broker = new TestBroker();
const folder = mkdtempSync(join(tmpdir(), "damaged-"));
const file = join(folder, "data.mdb");
let sound: Buffer;

beforeAll(async () => {
  await broker.start();
  const client = broker.client();
  const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });
  for (let i = 0; i < 60; i++) {
    const target = { case: "key" as const, value: key(`chat-${i % 20}`) };
    await dispatchTurn(client, `message ${i} ${"x".repeat(i * 20)}`, { target }).ended;
  }
  await client.resetSession({ selector: { case: "key", value: key("chat-1") }, expectedGeneration: 1 });
  await client.deleteSession({ selector: { case: "key", value: key("chat-2") } });
  await broker.kill("SIGTERM");
  cpSync(join(broker.data, "store", "data.mdb"), file);
  sound = readFileSync(file);
}, 60_000);

afterAll(async () => {
  rmSync(folder, { recursive: true });
  await broker.close();
});

const part = fc.noBias(fc.nat({ max: 999_999 })).map((millionths) => millionths / 1_000_000);
const damage = fc.oneof(
  fc.record({ kind: fc.constant("flip" as const), at: part, mask: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ kind: fc.constantFrom("zero" as const, "garbage" as const, "cut" as const), at: part }),
  fc.record({ kind: fc.constant("copy" as const), at: part, from: part }),
);

it("damage is found, or has hit nothing", { timeout: timeoutFor(runs, 20_000) }, async () => {
  expect(await scanStore(folder, schemaVersion)).toMatchObject({ found: 0 });
  const before = await dump();
  let found = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 5 }), async (damages) => {
      writeFileSync(file, damages.reduce(apply, sound));
      const report = await scanStore(folder, schemaVersion);
      if (report.found > 0) found += 1;
      else expect(await dump()).toEqual(before);
    }),
    parameters(runs),
  );
  expect(found).toBeGreaterThan(0);
});

function apply(bytes: Buffer, change: typeof damage extends fc.Arbitrary<infer D> ? D : never): Buffer {
  if (bytes.length === 0) return bytes;
  const pages = bytes.length / pageBytes;
  const page = (at: number) => Math.floor(at * pages) * pageBytes;
  const damaged = Buffer.from(bytes);
  switch (change.kind) {
    case "flip": {
      const at = Math.floor(change.at * bytes.length);
      damaged[at] = (damaged[at] ?? 0) ^ change.mask;
      return damaged;
    }
    case "zero":
      return damaged.fill(0, page(change.at), page(change.at) + pageBytes);
    case "garbage":
      return damaged.fill(0xa5, page(change.at), page(change.at) + pageBytes);
    case "copy":
      bytes.copy(damaged, page(change.at), page(change.from), page(change.from) + pageBytes);
      return damaged;
    case "cut":
      return damaged.subarray(0, page(change.at));
  }
}

/** Everything in the store, as text. */
async function dump(): Promise<Readonly<Record<string, readonly string[]>>> {
  const root = open({ ...environmentOptions(folder), readOnly: true });
  try {
    return Object.fromEntries(
      Object.values(databaseNames).map((name) => {
        const table = root.openDB<Buffer, string[]>({ name, encoding: "binary" });
        const entries = [...table.getRange({})].map(({ key, value }) =>
          keysOfTheirOwn.has(name)
            ? value.toString("hex")
            : `${JSON.stringify(key)} ${value.toString("hex")}`,
        );
        return [name, entries];
      }),
    );
  } finally {
    await root.close();
  }
}
