/** Whoever has an id is found by it, whatever came and went before. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { IdQuery, ReserveCall } from "../../sessions/session-store.js";
import { addIdEntry, deleteIdEntry, hasIdEntry, type IdEntry, type IdOwner, visitIdOwners } from "./ids.js";
import { openStore } from "./open.js";
import { scanStore } from "./scan.js";
import { environmentOptions, schemaVersion } from "./schema.js";
import { Tables } from "./tables.js";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ids-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

function owners(tables: Tables, query: IdQuery, scope = "acme"): IdOwner[] {
  const found: IdOwner[] = [];
  visitIdOwners(tables, scope, query, (owner) => found.push(owner) > 0);
  return found;
}

describe("the index", () => {
  let tables: Tables;
  let root: ReturnType<typeof openLmdb>;

  beforeEach(() => {
    root = openLmdb(environmentOptions(folder));
    tables = new Tables(root, folder);
  });

  afterEach(() => root.close());

  const owner = (externalId: string, recordNo = 1) => ({ externalId, provider: "echo", recordNo });
  const nameOf = ({ externalId, provider, recordNo }: IdOwner) => `${externalId}\n${provider}\n${recordNo}`;
  const alias = (id: string, who: IdOwner): IdEntry => ({ id: ["acme", "a", id], owner: who });
  const query = (id: string): IdQuery => ({ kind: "alias", id });

  it("finds exactly those that have an id, in the order of their keys", () => {
    const ids = ["x", "xy", "x\u00e9"];
    const chats = ["a", "a b", "\u00e9", "b"];
    const step = fc.tuple(fc.boolean(), fc.constantFrom(...ids), fc.constantFrom(...chats), fc.nat(1));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const has = new Map(ids.map((id) => [id, new Map<string, IdOwner>()]));
        root.transactionSync(() => {
          for (const { key } of [...tables.all("ids")]) tables.delete("ids", key);
          for (const [adds, id, chat, recordNo] of steps) {
            const who = owner(chat, recordNo);
            const name = nameOf(who);
            if (adds) {
              addIdEntry(tables, alias(id, who));
              has.get(id)?.set(name, who);
            } else {
              deleteIdEntry(tables, alias(id, who));
              has.get(id)?.delete(name);
            }
          }
          const expected = (id: string) => [...(has.get(id)?.values() ?? [])];
          const names = (list: readonly IdOwner[]) => list.map(nameOf).sort();
          for (const id of ids) {
            const found = owners(tables, query(id));
            expect(names(found)).toEqual(names(expected(id)));
            const keys = found.map(nameOf);
            expect(keys).toEqual([...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
            for (const chat of chats) {
              const who = owner(chat, 1);
              expect(hasIdEntry(tables, alias(id, who))).toBe(has.get(id)?.has(nameOf(who)));
            }
          }
          const left = ids.flatMap(expected).length;
          const several = ids.filter((id) => expected(id).length > 1).length;
          // One for each owner, and one more for each id that several have.
          expect([...tables.all("ids")]).toHaveLength(left + several);
        });
      }),
      { numRuns: 300 },
    );
  });

  it("keeps kinds and scopes apart", () => {
    root.transactionSync(() => {
      addIdEntry(tables, alias("x", owner("chat")));
      expect(owners(tables, query("x"), "beta")).toEqual([]);
      expect(owners(tables, { kind: "native-id", id: "x" })).toEqual([]);
      deleteIdEntry(tables, { id: ["beta", "a", "x"], owner: owner("chat") });
      deleteIdEntry(tables, alias("x", owner("other")));
      expect(owners(tables, query("x"))).toEqual([owner("chat")]);
    });
  });

  it("finds by the start of a session id, one owner's or several owners'", () => {
    const [one, two] = ["3b241101-e2bb-4255-8caf-4136c566a962", "3b241101-e2bb-4255-8caf-4136c566a963"];
    const entry = (id: string, who: IdOwner): IdEntry => ({
      id: ["acme", "s", id.replaceAll("-", "")],
      owner: who,
    });
    root.transactionSync(() => {
      addIdEntry(tables, entry(one, owner("a")));
      addIdEntry(tables, entry(two, owner("b")));
      addIdEntry(tables, entry(two, owner("c")));
      const found = (id: string) =>
        owners(tables, { kind: "short-id", id }).map(({ externalId }) => externalId);
      expect(found("3b241101")).toEqual(["a", "b", "c"]);
      expect(found("3b2411012")).toEqual([]);
      expect(owners(tables, { kind: "session-id", id: one })).toEqual([owner("a")]);
      expect(owners(tables, { kind: "session-id", id: two })).toEqual([owner("b"), owner("c")]);
    });
  });

  it("is asked no further once it is enough", () => {
    root.transactionSync(() => {
      for (const chat of ["a", "b", "c"]) addIdEntry(tables, alias("x", owner(chat)));
      let asked = 0;
      expect(visitIdOwners(tables, "acme", query("x"), () => ++asked < 2)).toBe(false);
      expect(asked).toBe(2);
    });
  });
});

describe("a store of the version before", () => {
  const path = () => join(folder, "s");
  const open = () =>
    openStore({
      path: path(),
      now: Date.now,
      writer: "inline",
      onLost: (error) => {
        throw error;
      },
    });

  function call(externalId: string, sessionId: string, alias: string): ReserveCall {
    const rest = { internal: false, scopeResetPolicy: {}, workspace: "", labels: {} };
    const key = { scope: "acme", externalId, provider: "echo" };
    const aliases = [alias];
    return {
      reservation: { key, aliases, sessionId, ...rest },
      ...{ nowMs: 1_000, clockBelieved: true, newSessionId: sessionId },
    };
  }

  /** As it was before ids had entries of their own. */
  async function takeBack(): Promise<void> {
    const root = openLmdb(environmentOptions(path()));
    const tables = new Tables(root, path());
    root.transactionSync(() => {
      const entries = [...tables.all("ids")].map(
        ({ key, value }) => [key as string[], value.toString()] as const,
      );
      for (const [key, value] of entries) {
        if (key.length > 3) continue;
        tables.delete("ids", key);
        if (value === "*") continue;
        const [recordNo, provider = "", externalId = ""] = value.split("\n");
        tables.put("ids", [...key, externalId, provider, Number(recordNo)], Buffer.from([1]));
      }
    });
    await root.close();
    const file = join(path(), "store.json");
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), schemaVersion: 2 }));
  }

  it("is sound as it is, and is brought up when it is opened", async () => {
    const first = await open();
    for (let i = 0; i < 20; i++) await first.store.reserve(call(`chat-${i}`, `id-${i % 15}`, `alias-${i}`));
    const ids = [...Array(15).keys()].map((i) => `id-${i}`);
    const where = { scopes: ["acme"] };
    const found = (store: typeof first.store) =>
      Promise.all(
        ids.map(async (id) => (await store.byId({ kind: "session-id", id }, where, 9)).map(({ row }) => row)),
      );
    const before = await found(first.store);
    expect(before.map(({ length }) => length)).toEqual(ids.map((_, i) => (i < 5 ? 2 : 1)));
    await first[Symbol.asyncDispose]();

    await takeBack();
    expect(await scanStore(path(), 2)).toMatchObject({ found: 0 });
    expect((await scanStore(path(), schemaVersion)).found).toBeGreaterThan(0);
    for (const _ of ["brought up", "as it is"]) {
      const second = await open();
      expect(await found(second.store)).toEqual(before);
      await second[Symbol.asyncDispose]();
      expect(await scanStore(path(), schemaVersion)).toMatchObject({ found: 0 });
    }
  });
});
