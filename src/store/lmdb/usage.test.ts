import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ScratchTables, turnRow } from "../../../test/support/scratch-tables.js";
import { noUsage } from "../../sessions/session.js";
import type { UsageCall } from "../../turns/usage.js";
import { openStore } from "./open.js";
import { databaseNames, environmentOptions, schemaVersion } from "./schema.js";
import { countAllUsage, countUsage, listUsage } from "./usage.js";

const dayMs = 24 * 3_600_000;
const spent = (day: number, scope: string, provider: string, inputTokens = 1) => ({
  key: { scope, provider },
  endedAtMs: day * dayMs,
  usage: { ...noUsage, inputTokens },
});

describe("the sums of a day", () => {
  let scratch: ScratchTables;
  beforeEach(() => {
    scratch = new ScratchTables();
  });
  afterEach(() => scratch.close());

  const names = (call: Partial<UsageCall> = {}) => {
    const page = listUsage(scratch.tables, {
      scopes: ["*"],
      sinceDay: 0,
      untilDay: 100,
      limit: 100,
      ...call,
    });
    return {
      rows: page.rows.map(({ day, scope, provider, turns }) => `${day} ${scope} ${provider} ${turns}`),
      next: page.next,
    };
  };
  const put = (...all: readonly ReturnType<typeof spent>[]) =>
    scratch.write((tx) => {
      for (const each of all) countUsage(tx.tables, each);
    });

  it("come by day, scope and provider, and only those that are asked for", () => {
    put(spent(2, "b", "p"), spent(10, "a", "p"), spent(2, "a", "q"), spent(2, "a", "p"), spent(2, "a", "p"));
    expect(names().rows).toEqual(["2 a p 2", "2 a q 1", "2 b p 1", "10 a p 1"]);
    expect(names({ sinceDay: 3 }).rows).toEqual(["10 a p 1"]);
    expect(names({ untilDay: 2, provider: "p" }).rows).toEqual(["2 a p 2", "2 b p 1"]);
    expect(names({ scopes: ["b"] }).rows).toEqual(["2 b p 1"]);
    expect(names({ scopes: [] }).rows).toEqual([]);
  });

  it("come in pages, none twice and none left out", () => {
    put(...["a", "ab", "b"].flatMap((scope) => ["p", "pq"].map((provider) => spent(1, scope, provider))));
    const seen: string[] = [];
    for (let after: UsageCall["after"] | "start" = "start"; after !== undefined; ) {
      const page = names({ limit: 1, ...(after === "start" ? {} : { after }) });
      seen.push(...page.rows);
      after = page.next;
    }
    expect(seen).toEqual(names().rows);
    expect(seen).toHaveLength(6);
  });

  it("keep costs apart from no costs", () => {
    const free = spent(1, "a", "p");
    put(free);
    const [row] = listUsage(scratch.tables, { scopes: ["*"], sinceDay: 1, untilDay: 1, limit: 1 }).rows;
    expect(row?.usage).toEqual({ ...noUsage, inputTokens: 1 });
    put({ ...free, usage: { ...noUsage, costUsd: 0.5 } }, { ...free, usage: { ...noUsage, costUsd: 0.25 } });
    const [more] = listUsage(scratch.tables, { scopes: ["*"], sinceDay: 1, untilDay: 1, limit: 1 }).rows;
    expect(more).toMatchObject({ turns: 3, usage: { inputTokens: 1, costUsd: 0.75 } });
  });

  it("are made anew from the turns that ran", () => {
    put(spent(1, "wrong", "p"));
    scratch.write((tx) => {
      const usage = { ...noUsage, outputTokens: 7 };
      tx.putTurn(turnRow(1, { fence: 1, endedAtMs: dayMs, usage }), undefined);
      tx.putTurn(turnRow(2, { fence: 2, endedAtMs: dayMs, usage, state: "FAILED" }), undefined);
      tx.putTurn(turnRow(3, { state: "CANCELLED", endedAtMs: dayMs }), undefined);
      tx.putTurn(turnRow(4, { state: "RUNNING", fence: 3 }), undefined);
      countAllUsage(tx.tables);
    });
    expect(names().rows).toEqual(["1 acme echo 2"]);
  });
});

it("a store of the version before them is given them, and then is of this version", async () => {
  const folder = mkdtempSync(join(tmpdir(), "store-"));
  const path = join(folder, "s");
  const markerFile = join(path, "store.json");
  const opened = () =>
    openStore({
      path,
      now: Date.now,
      writer: "inline",
      onLost: (error) => {
        throw error;
      },
    });
  try {
    await (await opened())[Symbol.asyncDispose]();
    const root = openLmdb(environmentOptions(path));
    await root.openDB({ name: databaseNames.usage, encoding: "binary" }).drop();
    await root.close();
    const marker = JSON.parse(readFileSync(markerFile, "utf8"));
    writeFileSync(markerFile, JSON.stringify({ ...marker, schemaVersion: 1 }));
    for (let time = 0; time < 2; time += 1) {
      const again = await opened();
      const call = { scopes: ["*"], sinceDay: 0, untilDay: 100_000, limit: 10 };
      expect(await again.store.listUsage(call)).toEqual({ rows: [] });
      await again[Symbol.asyncDispose]();
      expect(JSON.parse(readFileSync(markerFile, "utf8"))).toEqual({ ...marker, schemaVersion });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
