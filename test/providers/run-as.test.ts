/** Agents that run as a user of their own. As root alone, since nobody else can start them. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { TestBroker } from "../support/broker.js";
import { runCommand } from "../support/command.js";
import { dispatchTurn } from "../support/turns.js";

const isRoot = process.getuid?.() === 0;
const nobody = 65_534;
const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
/** Says who it is and what it may do, whose environment it can read, and leaves a file in its workspace. */
const script = [
  "id -u; id -g; id -Gn; echo $HOME $USER",
  "grep CapEff /proc/self/status | cut -f2",
  "echo $SESSION_BROKER_CHILD | cut -c1",
  "cat /proc/$PPID/environ >/dev/null 2>&1 && echo reads the broker",
  "ls -l /proc/self/fd | grep -c data.mdb",
  "pwd; echo mine > file && echo writes",
].join("; ");

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function folderFor(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), name));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

describe.skipIf(!isRoot)("an agent with run_as", () => {
  it("runs as that user, in a workspace of that user, and cannot read what is the broker's", async () => {
    const around = folderFor("run-as-");
    chmodSync(around, 0o755);
    const broker = new TestBroker({
      config: stringify({
        workspaces: join(around, "workspaces"),
        providers: [
          { id: "other", runAs: "nobody", command: { first: ["/bin/sh", "-c", script, "sh"] } },
          { id: "own", command: { first: ["/bin/sh", "-c", "id -u", "sh"] } },
        ],
      }),
    });
    cleanups.push(() => broker.close());
    await broker.start();
    const ask = async (provider: string) => {
      const target = { case: "key" as const, value: { scope: "acme", externalId: "chat", provider } };
      const events = await dispatchTurn(broker.client(), "hello", { target }).ended;
      const last = events.at(-1)?.event;
      return last?.case === "completed" ? last.value.text.trim().split("\n") : [JSON.stringify(last)];
    };
    const answer = await ask("other");
    const workspace = answer.at(-2) ?? "";
    expect(answer).toEqual([
      ...[`${nobody}`, `${nobody}`, "nogroup", "/nonexistent nobody"],
      ...["0000000000000000", expect.stringMatching(/^\S$/), "0"],
      ...[expect.stringContaining(join(around, "workspaces")), "writes"],
    ]);
    expect(readFileSync(join(workspace, "file"), "utf8")).toBe("mine\n");
    expect(statSync(workspace)).toMatchObject({ uid: nobody, mode: 0o40700 });
    expect(await ask("own")).toEqual(["0"]);
    const { stdout } = await runCommand(broker, ["doctor", "--config", "config.yaml"]);
    expect(stdout).toContain("The agents of own run as the broker's own user");
    expect(stdout).toMatch(/other .*as nobody/);
  });

  it("is given its system prompt, and has the directories of processes that are started ahead", async () => {
    const around = folderFor("run-as-");
    chmodSync(around, 0o755);
    const agentFolder = join(around, "claude");
    mkdirSync(agentFolder);
    chownSync(agentFolder, nobody, nobody);
    const environment = { CLAUDE_CONFIG_DIR: agentFolder };
    const broker = new TestBroker({
      metrics: true,
      config: stringify({
        workspaces: join(around, "workspaces"),
        providers: [
          { id: "claude", runAs: "nobody", warm: { ahead: 1 }, claude: { executable, environment } },
        ],
      }),
    });
    cleanups.push(() => broker.close());
    await broker.start();
    const ahead = join(around, "workspaces", ".ahead");
    const metrics = () => fetch(broker.metricsUrl).then((answer) => answer.text());
    const ready = 'session_broker_processes_warm{provider="claude"} 1\n';
    await expect.poll(metrics, { timeout: 15_000 }).toContain(ready);
    const ask = async (externalId: string, text: string, system: string) => {
      const target = { case: "key" as const, value: { scope: "acme", externalId, provider: "claude" } };
      const turn = dispatchTurn(broker.client(), text, { target, system });
      const started = await turn.event("started");
      const last = (await turn.ended).at(-1)?.event;
      return {
        warm: started.warm,
        text: last?.case === "completed" ? last.value.text : JSON.stringify(last),
      };
    };
    expect(await ask("one", "hello", "")).toMatchObject({
      warm: true,
      text: expect.stringContaining("hello"),
    });
    // The prompt is in a file, which the agent has to be able to read.
    const seen = join(agentFolder, "seen.json");
    await ask("two", `[[environment ${seen}]]`, "Be brief.");
    expect(JSON.parse(readFileSync(seen, "utf8")).system).toContain("Be brief.");
    expect(statSync(seen).uid).toBe(nobody);
    expect(statSync(join(ahead, readdirSync(ahead)[0] ?? "")).uid).toBe(nobody);
    const transcripts = readdirSync(join(agentFolder, "projects"), { recursive: true });
    expect(transcripts.length).toBeGreaterThan(1);
  });

  it.each([
    ["no-such-user", "run_as of other: there is no user no-such-user"],
    ["root", "run_as of other: root is root"],
  ])("is refused at the start: %s", async (runAs, message) => {
    const folder = folderFor("run-as-");
    const config = { providers: [{ id: "other", runAs, command: { first: ["/bin/true"] } }] };
    writeFileSync(join(folder, "config.yaml"), stringify(config));
    const place = { folder, data: join(folder, "data"), socket: join(folder, "b.sock") };
    for (const command of ["serve", "check", "doctor"]) {
      const { exitCode, stderr } = await runCommand(place, [command, "--config", "config.yaml"]);
      expect([command, exitCode, stderr.split("\n").length]).toEqual([command, 2, 1]);
      expect(stderr).toContain(message);
    }
  });
});
