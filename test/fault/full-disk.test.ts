import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, it } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { reasonOf } from "../support/answers.js";
import { TestBroker } from "../support/broker.js";

/** Mounting a small disk needs a mount namespace of our own. */
const canMount = spawnSync("unshare", ["--mount", "true"]).status === 0;
if (!canMount) console.warn("SKIPPED: a small disk cannot be mounted here (unshare --mount failed)");

let broker: TestBroker | undefined;

afterEach(() => broker?.close());

describe.skipIf(!canMount)("a full disk", () => {
  it("is an error to the caller; what was acknowledged stays, and writing goes on when there is room", async () => {
    const wanted = new TestBroker({
      config: "limits: { diskReserveBytes: 1 }",
      wrapper: [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mkdir -p data && mount -t tmpfs -o size=3m tmpfs data && exec "$@"',
        "small-disk",
      ],
    });
    broker = wanted;
    await wanted.start();
    const token = inNamespace(wanted, "cat", "data/admin-token");
    const client = wanted.client("connect-h2", token);
    const acknowledged = new Map<string, string>();
    let failure: ConnectError | undefined;
    for (let i = 0; failure === undefined && i < 20_000; i++) {
      const key = { scope: "disk", externalId: `chat-${i}-${"x".repeat(500)}`, provider: "echo" };
      try {
        const { session } = await client.reserve({ key });
        acknowledged.set(key.externalId, session?.sessionId ?? "");
      } catch (error) {
        failure = ConnectError.from(error);
      }
    }
    expect([failure && Code[failure.code], failure?.rawMessage]).toEqual([
      Code[Code.ResourceExhausted],
      expect.stringContaining("full"),
    ]);
    for (const [externalId, sessionId] of [...acknowledged].slice(-20)) {
      const answer = await client.reserve({ key: { scope: "disk", externalId, provider: "echo" } });
      expect([answer.outcome, answer.session?.sessionId]).toEqual([Outcome.EXISTING, sessionId]);
    }
    inNamespace(wanted, "mount", "-o", "remount,size=16m", "data");
    const after = await client.reserve({
      key: { scope: "disk", externalId: "there is room", provider: "echo" },
    });
    expect(after.outcome).toBe(Outcome.CREATED);
  });

  it("for the backups refuses one that has a name before it is begun", async () => {
    const mount = "mkdir -p data-backups && mount -t tmpfs -o size=64k tmpfs data-backups";
    broker = new TestBroker({
      wrapper: ["unshare", "--mount", "sh", "-c", `${mount} && exec "$@"`, "small-disk"],
    });
    await broker.start();
    const reason = await reasonOf(broker.client().backup({ name: "nightly" }));
    expect(reason).toBe("ResourceExhausted DISK_LOW");
    expect(inNamespace(broker, "ls", "data-backups")).toBe("");
  });
});

/** Runs a command where the broker sees its disk. */
function inNamespace(target: TestBroker, ...command: string[]): string {
  const there = ["sh", "-c", 'cd "$0" && exec "$@"', target.folder, ...command];
  const args = ["--target", String(target.pid), "--mount", ...there];
  const { status, stdout, stderr } = spawnSync("nsenter", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

describe("a directory that cannot be used", () => {
  it("ends the start with a message that names it", () => {
    const folder = new TestBroker().folder;
    const file = join(folder, "file");
    writeFileSync(file, "");
    const main = new URL("../../dist/src/main.js", import.meta.url).pathname;
    const { status, stderr } = spawnSync(process.execPath, [
      main,
      "serve",
      "--data",
      file,
      "--listen",
      "127.0.0.1:0",
    ]);
    expect([status, String(stderr)]).toEqual([1, expect.stringContaining(file)]);
    expect(String(stderr).trim().split("\n")).toHaveLength(1);
    rmSync(folder, { recursive: true });
  });
});
