/** A disk that fails or is taken away under a running broker, and one that cannot be written at all. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { TestBroker } from "../support/broker.js";
import { runCommand } from "../support/command.js";

const source = fileURLToPath(new URL("../fixtures/failing-disk.c", import.meta.url));
const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const canCompile = process.platform === "linux" && spawnSync("gcc", ["--version"]).status === 0;
if (!canCompile) console.warn("SKIPPED: writes cannot be made to fail here (no gcc, or no Linux)");
const canMount = spawnSync("unshare", ["--mount", "true"]).status === 0;
if (!canMount) console.warn("SKIPPED: nothing can be mounted here (unshare --mount failed)");

let broker: TestBroker;
const key = (externalId: string) => ({ scope: "disk", externalId, provider: "echo" });

describe.skipIf(!canCompile)("a disk that fails", () => {
  const folder = mkdtempSync(join(tmpdir(), "failing-disk-"));
  const library = join(folder, "failing-disk.so");
  const control = join(folder, "error");
  /** @param only the file of the store that fails. Default: all do */
  const fail = (error: number, only = "") => writeFileSync(control, `${error} ${only}`);

  beforeAll(() => {
    const { status, stderr } = spawnSync("gcc", ["-shared", "-fPIC", "-o", library, source, "-ldl"]);
    expect([status, String(stderr)]).toEqual([0, ""]);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  beforeEach(async () => {
    broker = await TestBroker.start({ environment: { LD_PRELOAD: library, FAILING_DISK: control } });
  });

  afterEach(async () => {
    rmSync(control, { force: true });
    await broker.close();
  });

  it("with an input/output error ends the broker, and the next start reads all of the store", async () => {
    const before = await broker.client().reserve({ key: key("before") });
    const ended = broker.ended();
    fail(constants.errno.EIO);
    const outcome = await broker
      .client()
      .reserve({ key: key("never") })
      .then(
        () => "acknowledged",
        () => "failed",
      );
    expect([outcome, await ended]).toEqual(["failed", 1]);
    const said = broker.output.splice(0).join("");
    expect(said).toMatch(/"level":60.*the disk that holds the store failed/);
    expect(readFileSync(join(broker.data, "verify-needed"), "utf8")).toContain("failed");

    // As long as the disk fails, each start says so and ends.
    const again = await runFailing(broker, library, control);
    expect(again).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/cannot be used: .*nput\/output error/),
    });
    expect(existsSync(join(broker.data, "verify-needed"))).toBe(true);

    rmSync(control);
    await broker.start();
    await expect
      .poll(() => broker.output.join(""))
      .toMatch(/failed.*all of the store is read before it is used/);
    expect(existsSync(join(broker.data, "verify-needed"))).toBe(false);
    const after = await broker.client().reserve({ key: key("before") });
    expect([after.outcome, after.session?.sessionId]).toEqual([Outcome.EXISTING, before.session?.sessionId]);
    expect(await runCommand(broker, ["verify"])).toMatchObject({ exitCode: 0 });
  });

  it("keeps what was answered from the log when the commit fails, and ends the broker", async () => {
    const ended = broker.ended();
    fail(constants.errno.EIO, "data.mdb");
    const calls = ["one", "two", "three"].map((name) => broker.client().reserve({ key: key(name) }));
    // The broker may end before it answers all of them.
    const answered = (await Promise.allSettled(calls)).flatMap((call) =>
      call.status === "fulfilled" ? [call.value] : [],
    );
    expect(answered).not.toEqual([]);
    expect(await ended).toBe(1);
    expect(broker.output.splice(0).join("")).toMatch(/"level":60.*the disk that holds the store failed/);

    rmSync(control);
    await broker.start();
    for (const { session } of answered) {
      const again = await broker.client().reserve({ key: key(session?.key?.externalId ?? "") });
      expect([again.outcome, again.session?.sessionId]).toEqual([Outcome.EXISTING, session?.sessionId]);
    }
    expect(await runCommand(broker, ["verify"])).toMatchObject({ exitCode: 0 });
  });

  it("keeps what was answered from the log while there is no room for the commit", async () => {
    fail(constants.errno.ENOSPC, "data.mdb");
    const { session } = await broker.client().reserve({ key: key("one") });
    // Reading by its id asks for the commit.
    const found = () =>
      broker.client().getSession({ selector: { case: "sessionId", value: session?.sessionId ?? "" } });
    const refused = await found().then(() => undefined, ConnectError.from);
    expect([refused?.code, refused?.rawMessage]).toEqual([
      Code.ResourceExhausted,
      expect.stringContaining("is full"),
    ]);
    const same = await broker.client().reserve({ key: key("one") });
    expect([same.outcome, same.session?.sessionId]).toEqual([Outcome.EXISTING, session?.sessionId]);
    rmSync(control);
    expect((await found()).session?.key?.externalId).toBe("one");
    expect(await runCommand(broker, ["verify"])).toMatchObject({ exitCode: 0 });
  });

  it.each([
    ["full", constants.errno.ENOSPC, "is full"],
    ["read-only", 30, "is read-only"],
  ])("as %s is an error that can be tried again, and passes without a restart", async (_, error, message) => {
    fail(error);
    const refused = await broker
      .client()
      .reserve({ key: key("first") })
      .then(() => undefined, ConnectError.from);
    expect([refused?.code, refused?.rawMessage]).toEqual([
      Code.ResourceExhausted,
      expect.stringContaining(message),
    ]);
    rmSync(control);
    expect((await broker.client().reserve({ key: key("first") })).outcome).toBe(Outcome.CREATED);
    expect(await runCommand(broker, ["verify"])).toMatchObject({ exitCode: 0 });
  });
});

/** A start on a disk that goes on failing. */
async function runFailing(target: TestBroker, library: string, control: string) {
  const words = [main, "serve", "--data", target.data, "--listen", "127.0.0.1:0", "--metrics-listen", "off"];
  const { status, stderr } = spawnSync(process.execPath, words, {
    encoding: "utf8",
    env: { PATH: process.env.PATH, HOME: target.folder, LD_PRELOAD: library, FAILING_DISK: control },
  });
  return { status, stderr };
}

describe.skipIf(!canMount)("a data directory that is read-only", () => {
  afterEach(() => broker.close());

  it("ends the start in one line that names it, and can be verified", async () => {
    broker = await TestBroker.start();
    await broker.client().reserve({ key: key("chat") });
    await broker.kill("SIGTERM");
    const run = (...words: string[]) =>
      spawnSync(
        "unshare",
        [
          "--mount",
          "sh",
          "-c",
          'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"',
          broker.data,
          process.execPath,
          main,
          ...words,
          "--data",
          broker.data,
        ],
        { encoding: "utf8", cwd: broker.folder, env: { PATH: process.env.PATH, HOME: broker.folder } },
      );
    for (const more of [[], ["--start-empty"]]) {
      const { status, stderr } = run("serve", "--listen", "127.0.0.1:0", "--metrics-listen", "off", ...more);
      expect([status, stderr.trim().split("\n").length]).toEqual([1, 1]);
      expect(stderr).toContain(`the store ${join(broker.data, "store")} cannot be used: `);
      expect(stderr).toMatch(/read-only/i);
    }
    expect(run("verify")).toMatchObject({ status: 0, stdout: expect.stringContaining("is sound") });
  });
});
