/** Stores that were damaged while no broker had them, through the real process. */
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { type Database, open } from "lmdb";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { environmentOptions, schemaVersion } from "../../src/store/lmdb/schema.js";
import { setAside } from "../../src/store/lmdb/set-aside.js";
import { TestBroker } from "../support/broker.js";
import { type CommandAnswer, runCommand } from "../support/command.js";
import { dispatchTurn } from "../support/turns.js";

const rows = 400;

/** Whose data directory each test begins with. */
const sound = new TestBroker();
let broker: TestBroker;
/** Of the last turn before the damage. */
let fence: bigint;

beforeAll(async () => {
  await sound.start();
  const client = sound.client();
  const names = Array.from({ length: rows }, (_, i) => `chat-${i}`);
  await Promise.all(names.map((name) => client.reserve({ key: key(name) })));
  await dispatchTurn(client, "hello", { target: { case: "key", value: key("chat-0") } }).ended;
  fence = (await client.listTurns({})).turns[0]?.fence ?? 0n;
  await sound.kill("SIGTERM");
});

afterAll(() => sound.close());

beforeEach(() => {
  broker = new TestBroker({ metrics: true });
  cpSync(sound.data, broker.data, { recursive: true });
});

afterEach(() => broker.close());

const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });
const store = () => join(broker.data, "store");
const dataFile = () => join(store(), "data.mdb");
const logFile = () => join(store(), "redo.log");
const asideOf = (data: string) => readdirSync(data).filter((name) => name.startsWith("damaged-"));
const serve = (...words: string[]) =>
  runCommand(broker, ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "off", ...words]);
const lastLine = ({ stderr }: CommandAnswer) => stderr.split("\n").at(-1);
const verify = () => runCommand(broker, ["verify"]);

function overwrite(at: number, bytes: Buffer): void {
  const handle = openSync(dataFile(), "r+");
  writeSync(handle, bytes, 0, bytes.length, at);
  closeSync(handle);
}

function rewriteMarker(version: number): void {
  const file = join(store(), "store.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), schemaVersion: version }));
}

/** Changes the store as the library would, behind the broker's back. */
async function change(edit: (root: ReturnType<typeof open>) => void): Promise<void> {
  const root = open(environmentOptions(store()));
  edit(root);
  await root.close();
}

async function metric(): Promise<string | undefined> {
  const text = await (await fetch(broker.metricsUrl)).text();
  return text.split("\n").find((line) => line.startsWith("session_broker_stores_set_aside"));
}

async function healthOf(service: string): Promise<Status> {
  return (await createClient(Health, broker.transport()).check({ service })).status;
}

/** What is there and how it looks, to see that nothing was touched. */
const snapshot = () =>
  readdirSync(store())
    .filter((name) => name !== "lock.mdb")
    .map((name) => [name, statSync(join(store(), name)).size, statSync(join(store(), name)).mtimeMs]);

const damages: readonly (readonly [string, () => void])[] = [
  ["is truncated to a hundred bytes", () => truncateSync(dataFile(), 100)],
  ["is truncated to two pages", () => truncateSync(dataFile(), 8192)],
  [
    "is truncated to half",
    () => truncateSync(dataFile(), Math.floor(statSync(dataFile()).size / 8192) * 4096),
  ],
  ["is empty", () => truncateSync(dataFile(), 0)],
  ["is missing", () => rmSync(dataFile())],
  ["has a zeroed head", () => overwrite(0, Buffer.alloc(8192))],
  ["has garbage for pages", () => overwrite(8192, Buffer.alloc(statSync(dataFile()).size - 8192, 0xa5))],
  ["is a text file", () => writeFileSync(dataFile(), "no store\n".repeat(5_000))],
  [
    "is a database of another kind",
    () => writeFileSync(dataFile(), `SQLite format 3\0${"\0".repeat(65_536)}`),
  ],
  ["has no note that says whose it is", () => rmSync(join(store(), "store.json"))],
  ["has a log that is cut off", () => truncateSync(logFile(), 1000)],
  [
    "has the log of another store",
    () => writeFileSync(logFile(), readFileSync(logFile(), "latin1").replace(/-4.*\n/, "-4\n"), "latin1"),
  ],
];

describe("a damaged store", () => {
  it.each(damages)("that %s is refused, again and again, and stays as it is", async (_, damage) => {
    damage();
    const before = snapshot();
    const first = await serve();
    expect([first.exitCode, first.stdout]).toEqual([3, ""]);
    expect(first.stderr).toMatch(
      /store \S+ is damaged: .*Nothing was changed.*--restore latest.*--start-empty/,
    );
    expect(first.stderr).not.toMatch(/^ +at /m);
    expect(lastLine(await serve())).toBe(lastLine(first));
    expect(snapshot()).toEqual(before);
    expect(asideOf(broker.data)).toEqual([]);
    expect(await verify()).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("is damaged") });
    expect(snapshot()).toEqual(before);
  });

  it("is set aside whole with --start-empty, which everything says until it is taken away", {
    timeout: 60_000,
  }, async () => {
    truncateSync(dataFile(), 8192);
    const damaged = readFileSync(dataFile());
    await broker.start(["--start-empty"]);
    const [name = ""] = asideOf(broker.data);
    expect(readFileSync(join(broker.data, name, "store", "data.mdb")).equals(damaged)).toBe(true);
    await expect.poll(() => broker.output.join("")).toContain("the store was damaged and was set aside");
    const client = broker.client();
    const { store: told } = await client.getServerInfo({});
    expect(told?.sessions).toBe(0n);
    expect(told?.setAside).toMatchObject([
      { path: join(broker.data, name), problem: expect.stringMatching(/./), restored: false },
    ]);
    expect(await metric()).toBe("session_broker_stores_set_aside 1");
    expect(await healthOf("store")).toBe(Status.NOT_SERVING);
    expect(await healthOf("")).toBe(Status.SERVING);
    expect((await client.reserve({ key: key("chat-1") })).outcome).toBe(Outcome.CREATED);
    // Fences go on above those of the store that is gone.
    await dispatchTurn(client, "hello", { target: { case: "key", value: key("chat-1") } }).ended;
    expect((await client.listTurns({})).turns[0]?.fence ?? 0n).toBeGreaterThan(fence);

    // A sound store is used whatever the command line says.
    await broker.kill("SIGTERM");
    await broker.start(["--start-empty"]);
    expect((await broker.client().reserve({ key: key("chat-1") })).outcome).toBe(Outcome.EXISTING);
    expect(asideOf(broker.data)).toEqual([name]);
    rmSync(join(broker.data, name), { recursive: true });
    expect((await broker.client().getServerInfo({})).store?.setAside).toEqual([]);
    expect(await healthOf("store")).toBe(Status.SERVING);
    expect(await metric()).toBe("session_broker_stores_set_aside 0");
  });

  it("is replaced by one with higher fences also if nothing is known of the last run", async () => {
    rmSync(join(broker.data, "last-run.json"));
    truncateSync(dataFile(), 100);
    await broker.start(["--start-empty"]);
    const client = broker.client();
    await dispatchTurn(client, "hello", { target: { case: "key", value: key("chat-1") } }).ended;
    expect((await client.listTurns({})).turns[0]?.fence ?? 0n).toBeGreaterThan(fence);
  });

  it("that was set aside by a start that then died is not replaced by an empty one unasked", async () => {
    setAside(store(), { atMs: 0, what: "a test", successor: "empty" });
    const answer = await serve();
    expect(answer).toMatchObject({ exitCode: 3, stderr: expect.stringContaining("set aside, and lies in") });
    expect(existsSync(store())).toBe(false);
    await broker.start(["--start-empty"]);
    expect((await broker.client().getServerInfo({})).store?.sessions).toBe(0n);
  });

  it("with a missing table is refused", async () => {
    await change((root) => root.openDB({ name: "ids", encoding: "binary" }).dropSync());
    const answer = await serve();
    expect(answer).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining("the database ids is missing"),
    });
    expect(await verify()).toMatchObject({
      exitCode: 1,
      stdout: expect.stringMatching(/^ids +the table is missing$/m),
    });
  });

  it("with a changed byte in a record is found by verify, and opened after it if it is whole again", async () => {
    const place: [string, string, string] = ["acme", "chat-7", "echo"];
    let whole: Buffer = Buffer.alloc(0);
    const put = (value: Buffer) =>
      change((root) => {
        root.openDB<Buffer, string[]>({ name: "sessions", encoding: "binary" }).putSync(place, value);
      });
    await change((root) => {
      const table = root.openDB<Buffer, string[]>({ name: "sessions", encoding: "binary" });
      whole = Buffer.from(table.getBinary(place) ?? []);
    });
    const flipped = Buffer.from(whole);
    flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] ?? 0) ^ 0x10;
    await put(flipped);
    const found = await verify();
    expect(found.exitCode).toBe(1);
    expect(found.stdout).toMatch(
      /^sessions +\["acme","chat-7","echo"\] +a record of sessions fails its checksum/m,
    );
    // The index entries of the row that cannot be read have no row.
    expect(found.stdout).toMatch(/^activity .*no row has it/m);
    writeFileSync(join(broker.data, "verify-needed"), "somebody saw a crash\n");
    expect(await serve()).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining("fails its checksum"),
    });
    expect(existsSync(join(broker.data, "verify-needed"))).toBe(true);
    await put(whole);
    await broker.start();
    await expect.poll(() => broker.output.join("")).toContain("somebody saw a crash");
    expect(existsSync(join(broker.data, "verify-needed"))).toBe(false);
  });

  it("with damage that only the turns of the last run meet is refused from then on", async () => {
    await change((root) => {
      const turns = root.openDB<Buffer, number>({ name: "turns", encoding: "binary" });
      const [[turnNo, record] = [0, Buffer.alloc(0)]] = [...turns.getRange({})].map(
        ({ key: no, value }) => [no, Buffer.from(value)] as const,
      );
      record[record.length - 1] = (record.at(-1) ?? 0) ^ 1;
      turns.putSync(turnNo, record);
      const lanes = root.openDB<Buffer, (string | number)[]>({ name: "lanes", encoding: "binary" });
      lanes.putSync(["acme", "chat-0", "echo", turnNo], Buffer.from("1 turn"));
    });
    for (const _ of ["met", "looked for"]) {
      const answer = await serve();
      expect(answer).toMatchObject({ exitCode: 3, stderr: expect.stringContaining("fails its checksum") });
      expect(answer.stderr).not.toMatch(/^ +at /m);
      expect(existsSync(join(broker.data, "verify-needed"))).toBe(true);
    }
    await broker.start(["--start-empty"]);
    expect((await broker.client().getServerInfo({})).store?.setAside).toHaveLength(1);
  });

  it.each([
    [
      "an index without its row",
      "ids",
      (table: Table) => table.putSync(["acme", "s", "x", "gone", "echo", 9], Buffer.from([1])),
      /^ids .*no row has it/m,
    ],
    [
      "a row without its index",
      "turn-order",
      (table: Table) => table.clearSync(),
      /^turns .*no entry in turn-order/m,
    ],
    [
      "a count that is wrong",
      "scopes",
      (table: Table) => table.removeSync(["acme", "echo"]),
      /^scopes .*no entry for 400 rows/m,
    ],
  ])("with %s is found by verify", async (_, name, edit, line) => {
    await change((root) => edit(root.openDB<Buffer, (string | number)[]>({ name, encoding: "binary" })));
    expect(await verify()).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(line) });
  });
});

describe("a store that is not damaged", () => {
  it("is sound to verify, in use or not, as words and as JSON", async () => {
    expect(await verify()).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/is sound: \d+ entries were read, of 400 sessions and 1 turns/),
    });
    await broker.start();
    expect(await verify()).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining(`is in use by process ${broker.pid}`),
    });
    const { stdout, exitCode } = await runCommand(broker, ["verify", "--json"]);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      sound: true,
      inUseBy: broker.pid,
      entries: { sessions: rows },
    });
  });

  it("is sound to verify while it is written", async () => {
    await broker.start();
    const client = broker.client();
    let stop = false;
    const writing = (async () => {
      for (let i = 0; !stop; i++) {
        await dispatchTurn(client, "more", { target: { case: "key", value: key(`chat-${i % 50}`) } }).ended;
      }
    })();
    for (let i = 0; i < 5; i++) expect(await verify()).toMatchObject({ exitCode: 0 });
    stop = true;
    await writing;
  });

  it("of a newer version is refused in one line, and of an older one is brought up", async () => {
    rewriteMarker(1_000_000);
    const answer = await serve("--start-empty");
    expect(answer).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/version 1000000.*use a newer one$/),
    });
    expect(answer.stderr.split("\n")).toHaveLength(1);
    expect((await verify()).stderr).toMatch(/version 1000000.*use a newer one$/);
    expect(asideOf(broker.data)).toEqual([]);
    rewriteMarker(schemaVersion - 1);
    await broker.start();
    expect((await broker.client().getServerInfo({})).store).toMatchObject({ schemaVersion, sessions: 400n });
  });

  it("but cannot be read is refused in one line, and is not set aside", async () => {
    rmSync(dataFile());
    mkdirSync(dataFile());
    const answer = await serve("--start-empty");
    expect(answer).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("cannot be used: EISDIR") });
    expect(answer.stderr.split("\n")).toHaveLength(1);
    expect(asideOf(broker.data)).toEqual([]);
  });

  it("starts although the note about the run cannot be written", async () => {
    mkdirSync(join(broker.data, "last-run.json.new"));
    await broker.start();
    await expect.poll(() => broker.output.join("")).toContain("the note about this run cannot be written");
    expect(await broker.kill("SIGTERM")).toBe(0);
  });

  it("is read as a whole after two kills in a row, and not after one", async () => {
    const said = () => broker.output.splice(0).join("");
    await broker.start();
    await broker.restart("SIGKILL");
    expect(said()).not.toContain("all of the store is read");
    await broker.restart("SIGKILL");
    await expect.poll(() => broker.output.join("")).toContain("all of the store is read");
    broker.output.splice(0);
    await broker.restart("SIGTERM");
    expect(said()).not.toContain("all of the store is read");
  });
});

type Table = Database<Buffer, (string | number)[]>;
