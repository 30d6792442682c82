/** Processes of Claude Code that stay for their session's next turn: the fake one always, the real one if it is there. */
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type ClaudeOptions, createClaudeProvider } from "../../src/providers/claude/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { Provider } from "../../src/turns/provider.js";
import { openRealClaude, realExecutable } from "./real-claude.js";
import { Session, startedOf } from "./session.js";
import { answerOf, atFirst } from "./turns.js";

interface Agent {
  readonly workspace: string;
  provider(options?: Partial<ClaudeOptions>): Provider;
  /** System prompts that the model was given in a conversation, if there is a model. */
  systemsOf(nativeId: string): readonly string[];
  close(): Promise<void>;
}

async function openFakeClaude(): Promise<Agent & { readonly root: string }> {
  const root = mkdtempSync(join(tmpdir(), "claude-warm-"));
  const workspace = join(root, "workspace");
  mkdirSync(workspace);
  return {
    root,
    workspace,
    provider: (options = {}) =>
      createClaudeProvider({
        id: "claude",
        executable: fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url)),
        models: [],
        parentEnvironment: process.env,
        ...options,
        environment: { CLAUDE_CONFIG_DIR: join(root, "config"), ...options.environment },
      }),
    systemsOf: () => [],
    close: async () => rmSync(root, { recursive: true, force: true }),
  };
}

async function openTheRealClaude(): Promise<Agent> {
  const real = await openRealClaude();
  const systemsOf = (nativeId: string) =>
    real.requestsOf(nativeId).map(({ body }) => JSON.stringify(body.system));
  return { ...real, systemsOf };
}

const warm = { resumed: true, warm: true };
const cold = { resumed: true, warm: false };
const patient = { timeout: 60_000 };

const agents = [
  { name: "the fake agent", open: openFakeClaude, skip: false },
  { name: "Claude Code itself", open: openTheRealClaude, skip: realExecutable === "" },
];

describe.each(agents)("$name", ({ open, skip }) => {
  let agent: Agent;
  const opened: Provider[] = [];

  function session(options: Partial<ClaudeOptions> = {}, provider?: Provider): Session {
    const used = provider ?? agent.provider({ warm: {}, ...options });
    opened.push(used);
    return new Session(used, agent.workspace);
  }

  beforeAll(async () => {
    if (!skip) agent = await open();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((provider) => provider.close()));
  });
  afterAll(async () => {
    if (!skip) await agent.close();
  });

  test.skipIf(skip)("answers the second turn in the process of the first", patient, async () => {
    const chat = session();
    const first = await chat.run("one");
    expect(startedOf(first)).toMatchObject({ resumed: false, warm: false });
    const pids = await chat.pids();
    expect(pids).not.toEqual([]);
    for (const turns of [2, 3]) {
      const next = await chat.run(`again ${turns}`);
      expect(startedOf(next)).toMatchObject({ ...warm, nativeId: chat.nativeId });
      expect(answerOf(next)).toContain(`turns=${turns}`);
    }
    expect(await chat.pids()).toEqual(pids);
  });

  test.skipIf(skip)("counts what each turn took, whichever process it had", patient, async () => {
    const chat = session();
    let previousTotal = {};
    let sum = 0;
    for (const round of [1, 2, 3, 4]) {
      if (round === 3) await chat.provider.release(chat.recordNo);
      const { outcome } = await chat.run(`round ${round}`, { previousTotal });
      if (outcome.status !== "completed") throw new Error(JSON.stringify(outcome));
      expect(outcome.usage?.costUsd).toBeGreaterThan(0);
      sum += outcome.usage?.costUsd ?? 0;
      previousTotal = outcome.total ?? {};
      expect(outcome.total?.costUsd).toBeCloseTo(sum, 9);
    }
  });

  test.skipIf(skip)("goes on in a new process when the old one was killed at rest", patient, async () => {
    const chat = session();
    for (const round of [1, 2, 3, 4]) {
      // Whether its end has been noticed by now or not.
      const ran = await chat.run(`round ${round}`);
      expect(answerOf(ran)).toContain(`turns=${round}`);
      expect(startedOf(ran)).toMatchObject({ warm: false });
      for (const pid of await chat.pids()) process.kill(pid, "SIGKILL");
    }
  });

  test.skipIf(skip)("starts another process for another model", patient, async () => {
    const chat = session();
    await chat.run("one");
    const pids = await chat.pids();
    const next = await chat.run("two", { model: "claude-haiku-4-5" });
    expect(startedOf(next)).toMatchObject(cold);
    expect(answerOf(next)).toContain("turns=2");
    expect((await chat.pids()).filter((pid) => pids.includes(pid))).toEqual([]);
  });

  test.skipIf(skip)("goes on after a turn that was stopped", patient, async () => {
    const chat = session();
    await chat.run("one");
    const abort = new AbortController();
    const stop = atFirst("text", () => abort.abort());
    const ran = await chat.run("two [[hang]]", { signal: abort.signal }, stop);
    expect(ran.outcome.status).toBe("cancelled");
    const next = await chat.run("three");
    expect(startedOf(next)).toMatchObject(warm);
    expect(answerOf(next)).toContain("turns=3");
  });

  test.skipIf(skip)("is let go of before anybody else may have the conversation", patient, async () => {
    const chat = session();
    await chat.run("one");
    expect(await chat.provider.release(chat.recordNo)).toEqual([]);
    expect(await chat.pids()).toEqual([]);
    const next = await chat.run("two");
    expect(startedOf(next)).toMatchObject(cold);
    expect(answerOf(next)).toContain("turns=2");
  });

  test.skipIf(skip)("keeps no more processes than it may", patient, async () => {
    const first = session({ warm: { processes: 1 } });
    const second = session({}, first.provider);
    await first.run("one");
    await second.run("one");
    await expect.poll(() => first.pids()).toEqual([]);
    expect(startedOf(await second.run("two"))).toMatchObject(warm);
    expect(startedOf(await first.run("two"))).toMatchObject(cold);
  });

  test.skipIf(skip)("keeps none for longer than it may", patient, async () => {
    const chat = session({ warm: { idleMs: 1 } });
    await chat.run("one");
    await expect.poll(() => chat.pids(), { timeout: 10_000 }).toEqual([]);
    expect(answerOf(await chat.run("two"))).toContain("turns=2");
  });

  test.skipIf(skip)("begins a session in a process that was started ahead", patient, async () => {
    const chat = session({ warm: { ahead: 1 } });
    const directories = join(agent.workspace, "ahead");
    const life = `${randomUUID()}/life`;
    chat.provider.startAhead?.({ directories, mark: life });
    const ahead = async () => (await findMarked((mark) => mark.startsWith(`${life}/ahead-`))).length;
    let directory = "";
    const reserve = () => {
      directory = chat.provider.reserveAhead?.(chat.recordNo, undefined) ?? "";
      return directory;
    };
    await expect.poll(reserve, { timeout: 10_000 }).not.toBe("");
    const nativeId = basename(directory);
    const first = await chat.run("one", { workspace: directory, system: "Say XYZZY often." });
    expect(answerOf(first)).toContain("turns=1");
    expect(startedOf(first)).toMatchObject({ resumed: false, warm: true, nativeId });
    // One for this session, and one for the next.
    await expect.poll(ahead, { timeout: 10_000 }).toBe(2);
    const place = { workspace: directory, binding: { nativeId, state: "bound" } } as const;
    const second = await chat.run("two", place);
    expect(startedOf(second)).toMatchObject(warm);
    await chat.provider.release(chat.recordNo);
    const third = await chat.run("three", place);
    expect(startedOf(third)).toMatchObject(cold);
    expect(answerOf(third)).toContain("turns=3");
    for (const system of agent.systemsOf(nativeId)) expect(system).toContain("XYZZY");
    await chat.provider.close();
    expect(await ahead()).toBe(0);
    expect(readdirSync(directories)).toEqual([nativeId]);
  });

  test.skipIf(skip)("leaves none when the provider closes", patient, async () => {
    const chat = session();
    await chat.run("one");
    await chat.provider.close();
    expect(await chat.pids()).toEqual([]);
  });
});

describe("a fake agent that misbehaves", () => {
  let fake: Awaited<ReturnType<typeof openFakeClaude>>;
  const opened: Provider[] = [];

  const session = (options: Partial<ClaudeOptions> = {}) => {
    const provider = fake.provider(options);
    opened.push(provider);
    return new Session(provider, fake.workspace);
  };

  beforeAll(async () => {
    fake = await openFakeClaude();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((provider) => provider.close()));
  });
  afterAll(() => fake.close());

  test("that answers what nobody asked in a turn is replaced after it, and the turn says so", async () => {
    const chat = session();
    const ran = await chat.run("one [[stray]]");
    expect(answerOf(ran)).toContain("turns=1");
    expect(ran.events).toContainEqual(expect.objectContaining({ kind: "notice", unsolicited: true }));
    expect(await chat.pids()).toEqual([]);
    expect(startedOf(await chat.run("two"))).toMatchObject(cold);
  });

  test("that answers at rest is replaced, and no later turn gets that answer", async () => {
    const chat = session();
    const file = join(fake.root, randomUUID());
    await chat.run(`one [[murmur ${file}]]`);
    expect(await chat.pids()).not.toEqual([]);
    writeFileSync(file, "");
    await expect.poll(() => chat.pids(), { timeout: 10_000 }).toEqual([]);
    const next = await chat.run("two");
    expect(answerOf(next)).not.toContain("by the way");
    expect(startedOf(next)).toMatchObject(cold);
  });

  test.each(["[[fail 529]]", "[[crash]]", "[[exit 4]]"])("%s leaves no process behind", async (directive) => {
    const chat = session();
    await chat.run("one");
    const failed = await chat.run(`two ${directive}`);
    if (directive !== "[[exit 4]]") expect(failed.outcome.status).toBe("failed");
    await expect.poll(() => chat.pids()).toEqual([]);
    expect(answerOf(await chat.run("three"))).toContain("three");
  });

  test("a process that crashes in a turn fails that turn alone", async () => {
    const chat = session();
    await chat.run("one");
    const crashed = await chat.run("two [[crash]]");
    expect(crashed.outcome).toMatchObject({ status: "failed", code: TurnErrorCode.CRASHED });
    const next = await chat.run("three");
    expect(startedOf(next)).toMatchObject(cold);
    expect(answerOf(next)).toContain("turns=3");
  });

  test("a version that does not name the lines it answers is started for each turn", async () => {
    const chat = session({ environment: { FAKE_CLAUDE_VERSION: "2.1.197" } });
    await chat.run("one");
    expect(await chat.pids()).toEqual([]);
    expect(startedOf(await chat.run("two"))).toMatchObject(cold);
  });

  test("silence at rest is no fault, and in the next turn it is", async () => {
    const chat = session({ silenceTimeoutMs: 400 });
    await chat.run("one");
    const [pid] = await chat.pids();
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(await chat.pids()).toEqual([pid]);
    const silent = await chat.run("two [[silent]]");
    expect(silent.outcome).toMatchObject({ status: "failed", code: TurnErrorCode.NO_OUTPUT_TIMEOUT });
  });

  test("output is limited for each turn, not for the process", async () => {
    const chat = session({ limits: { maxLines: 150 } });
    for (const round of [1, 2, 3]) {
      expect(answerOf(await chat.run(`${round} [[flood 100]]`))).toContain(`turns=${round}`);
    }
    const flooded = await chat.run("four [[flood 200]]");
    expect(flooded.outcome).toMatchObject({ status: "failed", code: TurnErrorCode.OUTPUT_LIMIT });
  });
});
