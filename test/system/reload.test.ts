/** `session-broker check`, and a running broker that reads its configuration again. */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { failureOf, reasonOf } from "../support/answers.js";
import { TestBroker } from "../support/broker.js";
import { runCommand } from "../support/command.js";

const credential = (name: string, role = "ROLE_ADMIN", scopes = ["*"]) => ({
  name,
  role,
  scopes,
  tokenSha256: createHash("sha256").update(name).digest("hex"),
});
const first = { credentials: [credential("stays"), credential("goes"), credential("shrinks")] };

let broker: TestBroker;

beforeEach(async () => {
  broker = await TestBroker.start({ config: stringify(first) });
});

afterEach(() => broker.close());

const said = () => broker.output.join("");
const clientOf = (name: string) => broker.client("connect-h2", name);

/** Writes the file, tells the broker, and resolves with the lines of the log until then. */
async function reload(text: string, until: string): Promise<string> {
  const before = said().length;
  writeFileSync(join(broker.folder, "config.yaml"), text);
  process.kill(broker.pid, "SIGHUP");
  const lines = () => said().slice(before);
  await expect.poll(lines, { timeout: 15_000 }).toContain(until);
  return lines();
}

function watching(name: string) {
  const stream = clientOf(name).watchSessions({})[Symbol.asyncIterator]();
  return { begun: stream.next(), next: () => stream.next() };
}

describe("SIGHUP", () => {
  it("puts credentials and scope rules in force, and ends the streams of credentials that are gone", async () => {
    const streams = ["stays", "goes", "shrinks"].map(watching);
    for (const { begun } of streams) await begun;
    const [stays, goes, shrinks] = streams.map(({ next }) => reasonOf(next()));
    const unary = clientOf("goes");
    expect(await reasonOf(unary.getServerInfo({}))).toBe("none");
    const next = {
      credentials: [credential("stays"), credential("comes"), credential("shrinks", "ROLE_READ", ["acme"])],
      scopes: [{ pattern: "keys", keyScheme: "KEY_SCHEME_AGENT" }],
    };
    const log = await reload(stringify(next), "the configuration was read again");
    expect(log).toContain('"changed":["credentials","scopes"],"needsRestart":[]');
    expect(await goes).toBe("Unauthenticated UNAUTHENTICATED");
    expect(await shrinks).toBe("Unauthenticated UNAUTHENTICATED");
    expect(await reasonOf(unary.getServerInfo({}))).toBe("Unauthenticated UNAUTHENTICATED");
    expect(await reasonOf(clientOf("comes").getServerInfo({}))).toBe("none");
    expect(await reasonOf(clientOf("shrinks").prune({ maxSessions: 1 }))).toBe(
      "PermissionDenied ROLE_TOO_LOW",
    );
    const key = { scope: "keys", externalId: "agent:a", provider: "echo" };
    expect(await reasonOf(clientOf("stays").reserve({ key }))).toBe("InvalidArgument MALFORMED_KEY");
    // The stream of a credential that stays has seen nothing of it.
    await clientOf("comes").reserve({ key: { scope: "acme", externalId: "chat", provider: "echo" } });
    expect(await stays).toBe("none");
  });

  it("puts limits in force that can change, and says what needs a restart", async () => {
    const client = clientOf("stays");
    const next = { ...first, limits: { waitingTurns: 7, runningTurns: 3 }, maintenance: { every: "60s" } };
    const log = await reload(stringify(next), "in force after a restart");
    expect(log).toContain('"changed":["limits.waiting_turns"]');
    expect(log).toContain("in force after a restart: limits.running_turns, maintenance.every");
    expect((await client.getServerInfo({})).limits).toMatchObject({ waitingTurns: 7, runningTurns: 64 });
  });

  it("takes a token of the data directory that was changed", async () => {
    const former = broker.adminToken;
    writeFileSync(join(broker.data, "admin-token"), "another-admin-token");
    await reload(stringify(first), "the configuration was read again");
    expect(await reasonOf(broker.client("connect-h2", "another-admin-token").prune({ maxSessions: 9 }))).toBe(
      "none",
    );
    expect((await failureOf(broker.client("connect-h2", former).getServerInfo({})))?.code).toBe(16);
  });

  it("keeps what it had if the new configuration is wrong, or is gone", async () => {
    const wrong = await reload(`${stringify(first)}lisen: nowhere\n`, "stays as it was");
    expect(wrong).toMatch(/config\.yaml:\d+:8: lisen: there is no such setting/);
    expect(await reasonOf(clientOf("goes").getServerInfo({}))).toBe("none");
    const shared = await reload(stringify({ workspaces: broker.data }), "stays as it was");
    expect(shared).toContain("lie in each other");
    expect(await reasonOf(clientOf("goes").getServerInfo({}))).toBe("none");
  });
});

describe("check", () => {
  const check = (config: string, ...more: readonly string[]) => {
    writeFileSync(join(broker.folder, "checked.yaml"), config);
    return runCommand(broker, ["check", "--config", "checked.yaml", ...more]);
  };

  it("says that the configuration can be used", async () => {
    const { exitCode, stdout, stderr } = await check(stringify(first));
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toContain("checked.yaml can be used.");
    expect(stdout).toMatch(/^credentials +stays, goes, shrinks$/m);
    expect((await runCommand(broker, ["check"])).exitCode).toBe(0);
  });

  it("names each thing that is wrong, with its place", async () => {
    const { exitCode, stdout, stderr } = await check("lisen: a\nlimits:\n  runningTurns: many\n");
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("checked.yaml:1:8: lisen: there is no such setting");
    expect(stderr).toContain("checked.yaml:3:17: limits.runningTurns: ");
    expect(await check("listen: 127.0.0.1:99999")).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("listen"),
    });
  });

  it("prints what is in force, which is a configuration itself", async () => {
    const provider = { id: "a", claude: { environment: { API_KEY: "a-very-secret-key" } } };
    const printed = await check(stringify({ ...first, providers: [provider] }), "--print-config");
    expect(printed).toMatchObject({ exitCode: 0, stderr: "" });
    expect(printed.stdout).toContain("runningTurns: 64");
    expect(printed.stdout).not.toContain("a-very-secret-key");
    expect((await check(printed.stdout, "--print-config")).stdout).toContain("runningTurns: 64");
  });
});
