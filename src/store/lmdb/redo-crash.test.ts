/** A process that is killed between the answer and the commit. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "lmdb";
import { afterEach, beforeEach, expect, it } from "vitest";
import { compiledSibling } from "./compiled.js";
import { openStore } from "./open.js";
import { environmentOptions } from "./schema.js";
import { Tables } from "./tables.js";

let folder: string;
const path = () => join(folder, "s");
const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "store-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

/** Reserves keys, says so, and does nothing more: the commit is asked for by a timer that never comes. */
const program = `
  import { writeSync } from "node:fs";
  import { openStore } from ${JSON.stringify(compiledSibling("open").href)};
  const [path, ...names] = process.argv.slice(2);
  const opened = await openStore({ path, now: Date.now, onLost: (error) => { throw error; } });
  const rest = { aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} };
  const answers = await Promise.all(names.map((externalId) => opened.store.reserve({
    reservation: { key: { scope: "acme", externalId, provider: "echo" }, ...rest },
    nowMs: 1_000, clockBelieved: true, newSessionId: "id of " + externalId,
  })));
  writeSync(1, JSON.stringify(answers.map(({ outcome }) => outcome)) + "\\n");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
`;

/** What the process answered before it was killed. */
async function reserveAndDie(...names: readonly string[]): Promise<string[]> {
  const file = join(folder, "program.mjs");
  writeFileSync(file, program);
  const child = spawn(process.execPath, [file, path(), ...names], { stdio: ["ignore", "pipe", "inherit"] });
  const [said] = await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  return JSON.parse(String(said));
}

/** Of which keys the store itself has a session, without its log. */
async function inStore(...names: readonly string[]): Promise<string[]> {
  const root = open({ ...environmentOptions(path()), readOnly: true });
  const tables = new Tables(root, path());
  const found = names.filter((name) => tables.current(key(name)) !== undefined);
  await root.close();
  return found;
}

const reopen = () =>
  openStore({
    path: path(),
    now: Date.now,
    onLost: (error) => {
      throw error;
    },
  });

it("has made sessions that the next one has, with all that finds them", async () => {
  expect(await reserveAndDie("one", "two")).toEqual(["CREATED", "CREATED"]);
  expect(await inStore("one", "two")).toEqual([]);
  const opened = await reopen();
  try {
    const { store } = opened;
    expect((await store.byKey(key("one")))?.row.sessionId).toBe("id of one");
    const found = await store.byId({ kind: "session-id", id: "id of two" }, { scopes: ["acme"] }, 9);
    expect(found.map(({ row }) => row.key.externalId)).toEqual(["two"]);
    const all = await store.list({ scopes: ["*"], live: true, archived: true }, undefined, 9);
    expect(all.map(({ row }) => row.key.externalId)).toEqual(["one", "two"]);
    expect(store.liveSessions()).toBe(2);
  } finally {
    await opened[Symbol.asyncDispose]();
  }
  const scanned = execFileSync(process.execPath, [
    compiledSibling("preflight-child").pathname,
    ...[path(), "3", "all", opened.storeId],
  ]);
  expect(`${scanned}`).not.toContain("finding");
});

it("is followed by one that is killed as well, and none of both is lost", async () => {
  await reserveAndDie("one");
  expect(await reserveAndDie("one", "two")).toEqual(["EXISTING", "CREATED"]);
  await reserveAndDie("three");
  expect(await inStore("one", "two", "three")).toEqual(["one", "two"]);
  const opened = await reopen();
  expect((await opened.store.byKey(key("three")))?.row.sessionId).toBe("id of three");
  await opened[Symbol.asyncDispose]();
  expect(await inStore("one", "two", "three")).toEqual(["one", "two", "three"]);
});
