/** `session-broker backup` and `restore`, with a broker that goes on serving. */

import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { BackupResponse_Phase as Phase } from "../../gen/sessionbroker/v1/admin_pb.js";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { Interrupted_Reason, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { reasonOf } from "../support/answers.js";
import { TestBroker } from "../support/broker.js";
import { runCommand, startCommand } from "../support/command.js";
import { attachTurn, dispatchTurn } from "../support/turns.js";

const config = `
providers:
  - { id: echo, echo: {} }
  - { id: slow, echo: { delay: 3600s } }
credentials:
  - name: acme
    role: ROLE_ADMIN
    scopes: [acme, acme/*]
    tokenSha256: ${createHash("sha256").update("acme-secret").digest("hex")}
`;

let broker: TestBroker;
let restored: TestBroker;
let file: string;

beforeEach(async () => {
  broker = await TestBroker.start({ config });
  restored = new TestBroker({ config });
  file = join(broker.folder, "copy");
});

afterEach(async () => {
  await broker.close();
  await restored.close();
});

const key = (externalId: string, provider = "echo") => ({ scope: "acme", externalId, provider });
const selector = (externalId: string, provider?: string) => ({
  selector: { case: "key" as const, value: key(externalId, provider) },
});
const leftovers = (folder: string) => readdirSync(folder).filter((name) => name.endsWith(".partial"));

function chat(from: TestBroker, externalId: string, text: string, provider = "echo") {
  const target = { case: "key" as const, value: key(externalId, provider) };
  return dispatchTurn(from.client(), text, { target });
}

async function fill(sessions: number): Promise<void> {
  const client = broker.client();
  const names = Array.from({ length: sessions }, (_, i) => `chat-${i}`);
  await Promise.all(names.map((name) => client.reserve({ key: key(name) })));
}

async function backup(into = file) {
  const answer = await runCommand(broker, ["backup", into]);
  expect(answer).toMatchObject({ exitCode: 0, stderr: "", stdout: expect.stringContaining("verified") });
}

const restore = (from = file) => runCommand(restored, ["restore", from]);

describe("a backup", () => {
  it("taken while turns run is the store of one moment, and a broker starts on it", {
    timeout: 120_000,
  }, async () => {
    const before = await broker.client().reserve({ key: key("before") });
    const done: { externalId: string; ended: boolean }[] = [];
    let stop = false;
    // Each worker has one chat, and in it one turn after another.
    const workers = Array.from({ length: 6 }, async (_, worker) => {
      for (let turn = 1; !stop; turn++) {
        await chat(broker, `chat-${worker}`, `${turn}`).ended;
        done.push({ externalId: `chat-${worker}`, ended: true });
      }
    });
    await expect.poll(() => done.length, { timeout: 20_000 }).toBeGreaterThan(20);
    const acknowledged = new Map<string, number>();
    for (const { externalId } of done) acknowledged.set(externalId, (acknowledged.get(externalId) ?? 0) + 1);
    await backup();
    stop = true;
    await Promise.all(workers);

    expect(await restore()).toMatchObject({ exitCode: 0, stderr: "" });
    await restored.start();
    const client = restored.client();
    expect((await client.getSession(selector("before"))).session?.sessionId).toBe(before.session?.sessionId);
    for (const [externalId, least] of acknowledged) {
      const { turns } = await client.listTurns({ key: key(externalId), pageSize: 1000 });
      // What was told before the copy began is in it, and nothing of it is half.
      const ended = turns.filter(({ state }) => state === TurnState.COMPLETED);
      expect(ended.length).toBeGreaterThanOrEqual(least);
      expect(turns.length - ended.length).toBeLessThanOrEqual(1);
      for (const turn of ended) {
        const { ended: read } = attachTurn(client, turn.turnId);
        const sequences = (await read).map(({ sequence }) => sequence);
        expect(sequences).toEqual(sequences.map((_, index) => index + 1));
      }
      // The chat goes on where the copy ends.
      const [last] = await chat(restored, externalId, "again").ended.then((events) => events.slice(-1));
      expect(last?.event.case).toBe("completed");
    }
    expect(leftovers(broker.data)).toEqual([]);
    expect(leftovers(broker.folder)).toEqual([]);
  });

  it("is for this user alone, and leaves a file that is there as it is", async () => {
    await backup();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    writeFileSync(file, "precious");
    const again = await runCommand(broker, ["backup", file]);
    expect(again).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("exists already") });
    expect(readFileSync(file, "utf8")).toBe("precious");
    const nowhere = await runCommand(broker, ["backup", join(broker.folder, "no", "where")]);
    expect(nowhere).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("cannot be written") });
    expect(nowhere.stderr).not.toMatch(/^ +at /m);
  });

  it("is refused to a credential that has not every scope, and to no admin", async () => {
    const outcome = (token: string) => reasonOf(broker.client("connect-h2", token).backup({}));
    expect(await outcome("acme-secret")).toBe("PermissionDenied FOREIGN_SCOPE");
    expect(await outcome(broker.token)).toBe("PermissionDenied ROLE_TOO_LOW");
    expect(await outcome(broker.adminToken)).toBe("none");
    expect(leftovers(broker.data)).toEqual([]);
  });

  it("says how far it is, and is gone beside the store when its reader leaves", async () => {
    await fill(2000);
    const phases: (Phase | undefined)[] = [];
    let sent = 0;
    for await (const { phase, bytes, data } of broker.client("grpc").backup({})) {
      if (phase !== phases.at(-1)) phases.push(phase);
      sent += data.length;
      if (phase === Phase.DONE) expect(Number(bytes)).toBe(sent);
    }
    expect(phases).toEqual([Phase.COPYING, Phase.VERIFYING, Phase.SENDING, Phase.DONE]);
    const leaving = new AbortController();
    const stream = broker.client().backup({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    while ((await stream.next()).value?.phase !== Phase.VERIFYING);
    leaving.abort();
    await expect.poll(() => leftovers(broker.data), { timeout: 20_000 }).toEqual([]);
  });

  it("that a crash cut short is removed with the next start", async () => {
    for await (const { phase } of broker.client().backup({})) {
      if (phase !== Phase.VERIFYING) continue;
      await broker.kill("SIGKILL");
      break;
    }
    // Whether or not the kill came in time, there is one that a crash left.
    mkdirSync(join(broker.data, "backup-00000000-0000-4000-8000-000000000000.partial"));
    mkdirSync(join(broker.data, "mine.partial"));
    await broker.start();
    expect(leftovers(broker.data)).toEqual(["mine.partial"]);
  });
});

describe("restore", () => {
  it("ends what had not ended, and grants fences above every earlier one", async () => {
    const running = chat(broker, "chat", "wait", "slow");
    await running.event("started");
    const waiting = chat(broker, "chat", "later", "slow");
    await waiting.event("accepted");
    await backup();
    // Granted after the backup, by the store that is lost.
    await chat(broker, "other", "hello").ended;
    const fences = (await broker.client().listTurns({})).turns.map(({ fence }) => fence);
    const answer = await restore();
    expect(answer).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("2 turns") });
    await restored.start();
    const client = restored.client();
    for (const { turnId } of [running, waiting]) {
      const { turn } = await client.getTurn({ turnId });
      expect(turn).toMatchObject({
        state: TurnState.INTERRUPTED,
        ending: { event: { case: "interrupted", value: { reason: Interrupted_Reason.RESTORED } } },
      });
    }
    const next = await chat(restored, "chat", "hello").event("started");
    expect(fences.every((fence) => fence < next.fence)).toBe(true);
    expect((await client.reserve({ key: key("new") })).outcome).toBe(Outcome.CREATED);
    // The broker that it was taken from still has its own.
    expect((await broker.client().getTurn({ turnId: running.turnId })).turn?.state).toBe(TurnState.RUNNING);
  });

  it("leaves a store that is there alone", async () => {
    await backup();
    const here = await runCommand(broker, ["restore", file]);
    expect(here).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("exists already") });
    expect(await reasonOf(broker.client().getServerInfo({}))).toBe("none");
  });

  it.each([
    ["is cut off", () => truncateSync(file, Math.floor(statSync(file).size / 2))],
    ["is empty", () => truncateSync(file, 0)],
    ["is something else", () => writeFileSync(file, "x".repeat(100_000))],
    ["is not there", () => rmSync(file)],
  ])("refuses a file that %s, and leaves nothing", async (_, damage) => {
    await fill(300);
    await backup();
    damage();
    const { exitCode, stdout, stderr } = await restore();
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(file);
    expect(stderr).not.toMatch(/^ +at /m);
    expect(existsSync(join(restored.data, "store"))).toBe(false);
    if (existsSync(restored.data)) expect(leftovers(restored.data)).toEqual([]);
  });
});

it("a backup that the broker does not finish leaves no file", async () => {
  await broker.kill("SIGKILL");
  const answer = await startCommand(broker, ["backup", file]);
  expect(answer).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("cannot be reached") });
  expect([existsSync(file), leftovers(broker.folder)]).toEqual([false, []]);
});
