/** Backups that stay with the broker under a name, and going on from one. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { BackupResponse_Phase as Phase } from "../../gen/sessionbroker/v1/admin_pb.js";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { Interrupted_Reason, Notice_Kind, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { reasonOf } from "../support/answers.js";
import { TestBroker } from "../support/broker.js";
import { runCommand } from "../support/command.js";
import { dispatchTurn } from "../support/turns.js";

const config = `
providers:
  - { id: echo, echo: {} }
  - { id: slow, echo: { delay: 3600s } }
`;

let broker: TestBroker;

beforeEach(async () => {
  broker = await TestBroker.start({ config });
});

afterEach(() => broker.close());

const key = (externalId: string, provider = "echo") => ({ scope: "acme", externalId, provider });
const backups = () => `${broker.data}-backups`;
const names = () => (existsSync(backups()) ? readdirSync(backups()).sort() : []);
const dataFile = () => join(broker.data, "store", "data.mdb");
const chat = (externalId: string, text: string, provider?: string) =>
  dispatchTurn(broker.client(), text, { target: { case: "key", value: key(externalId, provider) } });

async function keep(name: string): Promise<void> {
  const answer = await runCommand(broker, ["backup", "--name", name]);
  expect(answer).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining(`${join(backups(), name)}: `),
  });
}

/** Ends the broker and damages its store. */
async function lose(): Promise<void> {
  await broker.kill("SIGKILL");
  truncateSync(dataFile(), 8192);
}

const serve = (...words: string[]) =>
  runCommand(broker, ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "off", ...words]);

async function noticesOf(externalId: string) {
  const events = await chat(externalId, "what now").ended;
  return events.flatMap(({ event }) =>
    event.case === "notice" && event.value.kind === Notice_Kind.STORE_RESTORED ? [event.value] : [],
  );
}

describe("a backup under a name", () => {
  it("is a directory for this user alone, without tokens, and says where it is", async () => {
    const phases: (Phase | undefined)[] = [];
    let path = "";
    for await (const answer of broker.client().backup({ name: "nightly" })) {
      phases.push(answer.phase);
      path = answer.path;
      expect(answer.data).toHaveLength(0);
    }
    expect(phases).toEqual([Phase.COPYING, Phase.VERIFYING, Phase.DONE]);
    expect(path).toBe(join(backups(), "nightly"));
    expect([statSync(backups()).mode & 0o777, statSync(path).mode & 0o777]).toEqual([0o700, 0o700]);
    expect(readdirSync(path).sort()).toEqual(["backup.json", "data.mdb"]);
    const copy = readFileSync(join(path, "data.mdb"));
    for (const secret of ["token", "admin-token", "signing-key"]) {
      expect(copy.includes(readFileSync(join(broker.data, secret)))).toBe(false);
    }
  });

  it("is never overwritten, and never made through a link", async () => {
    const refused = (name: string) => reasonOf(broker.client().backup({ name }));
    await keep("nightly");
    const before = statSync(join(backups(), "nightly", "data.mdb")).mtimeMs;
    expect(await refused("nightly")).toBe("AlreadyExists BACKUP_EXISTS");
    expect(statSync(join(backups(), "nightly", "data.mdb")).mtimeMs).toBe(before);
    const elsewhere = join(broker.folder, "elsewhere");
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, join(backups(), "link"));
    symlinkSync(elsewhere, join(backups(), "half.partial"));
    expect(await refused("link")).toBe("AlreadyExists BACKUP_EXISTS");
    expect(await refused("half")).toBe("AlreadyExists BACKUP_EXISTS");
    for (const name of ["latest", "a.partial"])
      expect(await refused(name)).toBe("InvalidArgument INVALID_FIELD");
    for (const name of ["../up", ".hidden", "a/b", "x".repeat(129)]) {
      expect(await refused(name)).toMatch(/^InvalidArgument/);
    }
    rmSync(backups(), { recursive: true });
    symlinkSync(elsewhere, backups());
    expect(await refused("nightly")).toBe("InvalidArgument INVALID_FIELD");
    expect(readdirSync(elsewhere)).toEqual([]);
    expect(lstatSync(backups()).isSymbolicLink()).toBe(true);
  });

  it("that a kill cut short is only a .partial, which nothing takes for a backup", async () => {
    const client = broker.client();
    await Promise.all(Array.from({ length: 2000 }, (_, i) => client.reserve({ key: key(`chat-${i}`) })));
    for await (const { phase } of client.backup({ name: "nightly" })) {
      if (phase !== Phase.COPYING) continue;
      await expect.poll(names, { interval: 2 }).toEqual(["nightly.partial"]);
      await broker.kill("SIGKILL");
      break;
    }
    expect(names()).toEqual(["nightly.partial"]);
    truncateSync(dataFile(), 8192);
    const answer = await serve("--restore", "latest");
    expect(answer).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("there is no backup in") });
    expect(await serve()).toMatchObject({ exitCode: 3 });
  });
});

describe("serve --restore", () => {
  it("goes on from the newest backup, and tells each session once", { timeout: 120_000 }, async () => {
    for (const name of ["one", "two"]) await chat(name, "hello").ended;
    await keep("first");
    const running = chat("slow", "wait", "slow");
    await running.event("started");
    const began = Date.now();
    // What is acknowledged before a backup begins is in it, whatever is written meanwhile.
    const acknowledged = await broker.client().reserve({ key: key("last minute") });
    let stop = false;
    const load = (async () => {
      for (let i = 0; !stop; i++) await chat(`load-${i % 7}`, "more").ended;
    })();
    await keep("second");
    stop = true;
    await load;
    const taken = Date.now();
    await chat("two", "forgotten").ended;
    await broker.client().reserve({ key: key("lost") });
    const fences = (await broker.client().listTurns({})).turns.map(({ fence }) => fence);
    await lose();
    const damaged = readFileSync(dataFile());

    await broker.start(["--restore", "latest"]);
    await expect
      .poll(() => broker.output.join(""))
      .toMatch(/the store was restored: what was written after \S+ until \S+ is lost/);
    const [aside = ""] = readdirSync(broker.data).filter((name) => name.startsWith("damaged-"));
    expect(readFileSync(join(broker.data, aside, "store", "data.mdb")).equals(damaged)).toBe(true);
    const client = broker.client();
    const { store } = await client.getServerInfo({});
    expect(store?.setAside).toMatchObject([{ path: join(broker.data, aside), restored: true }]);
    const backupMs = store?.restoredFrom === undefined ? 0 : timestampMs(store.restoredFrom);
    expect(backupMs).toBeGreaterThanOrEqual(began);
    expect(backupMs).toBeLessThanOrEqual(taken);

    const known = await client.reserve({ key: key("last minute") });
    expect([known.outcome, known.session?.sessionId]).toEqual([
      Outcome.EXISTING,
      acknowledged.session?.sessionId,
    ]);
    const { turn } = await client.getTurn({ turnId: running.turnId });
    expect(turn).toMatchObject({
      state: TurnState.INTERRUPTED,
      ending: { event: { case: "interrupted", value: { reason: Interrupted_Reason.RESTORED } } },
    });
    for (const name of ["one", "two", "last minute"]) {
      const [notice, ...more] = await noticesOf(name);
      expect([notice?.time && timestampMs(notice.time), more]).toEqual([backupMs, []]);
      expect(await noticesOf(name)).toEqual([]);
    }
    // A session of after the restore has lost nothing.
    expect((await client.reserve({ key: key("lost") })).outcome).toBe(Outcome.CREATED);
    expect(await noticesOf("lost")).toEqual([]);
    const highest = await highestFence();
    expect(fences.every((fence) => fence < highest)).toBe(true);

    // The same backup once more: what was granted in between is not granted again.
    await lose();
    await broker.start(["--restore", "second"]);
    expect(await noticesOf("one")).toHaveLength(1);
    expect((await broker.client().listTurns({})).turns[0]?.fence ?? 0n).toBeGreaterThan(highest);
    await broker.kill("SIGTERM");
    expect(await runCommand(broker, ["verify"])).toMatchObject({ exitCode: 0 });
  });

  it("changes nothing if the backup is damaged or is not there", async () => {
    await keep("nightly");
    truncateSync(join(backups(), "nightly", "data.mdb"), 8192);
    await lose();
    const damaged = readFileSync(dataFile());
    for (const [name, message] of [
      ["latest", "the backup nightly is damaged"],
      ["other", "there is no backup other in"],
      ["../data-backups/nightly", "there is no backup ../data-backups/nightly in"],
    ] as const) {
      const answer = await serve("--restore", name);
      expect(answer).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(message) });
      expect(answer.stderr).not.toMatch(/^ +at /m);
    }
    expect(readFileSync(dataFile()).equals(damaged)).toBe(true);
    expect(readdirSync(broker.data).filter((name) => /damaged-|partial/.test(name))).toEqual([]);
    expect(await serve("--restore", "latest", "--start-empty")).toMatchObject({ exitCode: 2 });
  });

  it("leaves a sound store alone, and makes one where there is none", async () => {
    await broker.client().reserve({ key: key("before") });
    await keep("nightly");
    await broker.client().reserve({ key: key("after") });
    await broker.kill("SIGTERM");
    await broker.start(["--restore", "latest"]);
    const outcomeOf = async (name: string) => (await broker.client().reserve({ key: key(name) })).outcome;
    expect(await outcomeOf("after")).toBe(Outcome.EXISTING);
    await broker.kill("SIGTERM");
    rmSync(join(broker.data, "store"), { recursive: true });
    await broker.start(["--restore", "latest"]);
    expect([await outcomeOf("before"), await outcomeOf("after")]).toEqual([
      Outcome.EXISTING,
      Outcome.CREATED,
    ]);
  });

  it("never takes the store from a broker that has it", async () => {
    await keep("nightly");
    // Its pages are in memory, and the file that the others see is damaged.
    const whole = readFileSync(dataFile());
    writeFileSync(join(broker.data, "store", "store.json"), "{}");
    const answer = await serve("--restore", "latest");
    expect(answer).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`in use by process ${broker.pid}`),
    });
    expect(readFileSync(dataFile()).length).toBe(whole.length);
    expect(await reasonOf(broker.client().reserve({ key: key("still") }))).toBe("none");
  });
});

describe("restore --name", () => {
  it("makes the store of a data directory that has none, and says what is lost", async () => {
    await broker.client().reserve({ key: key("before") });
    await keep("nightly");
    await broker.kill("SIGTERM");
    const there = await runCommand(broker, ["restore", "--name", "latest"]);
    expect(there).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("exists already") });
    rmSync(join(broker.data, "store"), { recursive: true });
    const answer = await runCommand(broker, ["restore", "--name", "latest"]);
    expect(answer).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/1 sessions.*written after \S+ is lost/s),
    });
    await broker.start();
    expect((await broker.client().reserve({ key: key("before") })).outcome).toBe(Outcome.EXISTING);
    expect(await runCommand(broker, ["restore"])).toMatchObject({ exitCode: 2 });
  });
});

async function highestFence(): Promise<bigint> {
  const { turns } = await broker.client().listTurns({ pageSize: 1000 });
  const [highest = 0n] = turns.map(({ fence }) => fence).sort((a, b) => (a < b ? 1 : -1));
  return highest;
}
