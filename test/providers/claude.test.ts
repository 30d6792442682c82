import { randomUUID } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type ClaudeOptions, createClaudeProvider } from "../../src/providers/claude/index.js";
import { findExecutable } from "../../src/providers/executables.js";
import { findMarked } from "../../src/providers/marks.js";
import type { ProviderTurn } from "../../src/turns/provider.js";
import { answerOf, isRunning, runTurn, turnOf } from "./turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

let root: string;
let workspace: string;
let config: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "claude-provider-"));
  workspace = join(root, "workspace");
  config = join(root, "config");
  mkdirSync(workspace);
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

function provider(options: Partial<ClaudeOptions> = {}) {
  return createClaudeProvider({
    id: "claude",
    executable,
    models: [],
    environment: { CLAUDE_CONFIG_DIR: config },
    parentEnvironment: process.env,
    warm: { processes: 0 },
    interrupt: { signal: "SIGINT", waitMs: 2_000 },
    endingSteps: [
      { signal: "SIGTERM", waitMs: 500 },
      { signal: "SIGKILL", waitMs: 10_000 },
    ],
    ...options,
  });
}

const turn = (text: string, fields: Partial<ProviderTurn> = {}) => turnOf(text, { workspace, ...fields });
const historyOf = (answer: string) => JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
const marked = async (mark: string) => (await findMarked((each) => each === mark)).length;
const failed = (code: keyof typeof TurnErrorCode, more = {}) => ({
  status: "failed",
  code: TurnErrorCode[code],
  ...more,
});

describe("a conversation", () => {
  test("its first turn starts under the given id and is answered by the deltas", async () => {
    const nativeId = randomUUID();
    const ran = await runTurn(provider(), turn("hello", { binding: { state: "fresh", nativeId } }));
    expect(ran.events[0]).toEqual({ kind: "started", nativeId, resumed: false, warm: false });
    expect(ran.text).toBe('turns=1 history=["hello"]');
    expect(ran.outcome).toEqual({
      status: "completed",
      text: ran.text,
      finishReason: FinishReason.STOP,
      nativeId,
      model: "fake-model-1",
      usage: {
        inputTokens: 10,
        cacheReadTokens: 2,
        cacheWriteTokens: 3,
        outputTokens: 7,
        reasoningTokens: 1,
        costUsd: 0.25,
      },
      total: { costUsd: 0.25 },
    });
  });

  test("later turns remember, and cost what they add", async () => {
    const nativeId = randomUUID();
    const claude = provider();
    await runTurn(claude, turn("I am Ada", { binding: { state: "fresh", nativeId } }));
    const binding = { state: "bound", nativeId } as const;
    const ran = await runTurn(claude, turn("who am I?", { binding, previousTotal: { costUsd: 0.25 } }));
    expect(historyOf(answerOf(ran))).toEqual(["I am Ada", "who am I?"]);
    expect(ran.events[0]).toEqual({ kind: "started", nativeId, resumed: true, warm: false });
    expect(ran.outcome).toMatchObject({ usage: { costUsd: 0.25 }, total: { costUsd: 0.5 } });
  });

  test("without an id it gets a new one", async () => {
    const ran = await runTurn(provider(), turn("hello", { binding: { state: "fresh" } }));
    expect(ran.outcome).toMatchObject({
      status: "completed",
      nativeId: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
  });

  test("that the agent no longer knows is lost, and no model is asked", async () => {
    const ran = await runTurn(
      provider(),
      turn("hello", { binding: { state: "bound", nativeId: randomUUID() } }),
    );
    expect(ran.events.map((event) => event.kind)).toEqual(["end"]);
    expect(ran.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
  });

  test.each(["a title", "../../x", "--help"])("with the foreign id %j is lost", async (nativeId) => {
    const ran = await runTurn(provider(), turn("hello", { binding: { state: "bound", nativeId } }));
    expect(ran.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
  });

  test("of a turn that did not succeed is resumed if it was begun", async () => {
    const nativeId = randomUUID();
    const claude = provider();
    const crashed = await runTurn(claude, turn("one [[crash]]", { binding: { state: "fresh", nativeId } }));
    expect(crashed.outcome).toMatchObject(failed("CRASHED"));
    const ran = await runTurn(claude, turn("two", { binding: { state: "provisional", nativeId } }));
    expect(historyOf(answerOf(ran))).toEqual(["one [[crash]]", "two"]);
    expect(ran.events[0]).toMatchObject({ kind: "started", nativeId, resumed: true });
  });

  test("of a turn that did not succeed is begun with the same id if it was not", async () => {
    const nativeId = randomUUID();
    const ran = await runTurn(provider(), turn("two", { binding: { state: "provisional", nativeId } }));
    expect(historyOf(answerOf(ran))).toEqual(["two"]);
    expect(ran.events[0]).toMatchObject({ kind: "started", nativeId, resumed: false });
  });

  test("whose transcript cannot be found is resumed once the id proves to be in use", async () => {
    // HOME is where the provider looks, a wrapper hands the CLI another place.
    const wrapper = join(root, "elsewhere");
    writeFileSync(wrapper, `#!/bin/sh\nCLAUDE_CONFIG_DIR='${config}' exec '${executable}' "$@"\n`);
    chmodSync(wrapper, 0o755);
    const claude = provider({ executable: wrapper, environment: { HOME: join(root, "home") } });
    const nativeId = randomUUID();
    await runTurn(claude, turn("one", { binding: { state: "fresh", nativeId } }));
    const ran = await runTurn(claude, turn("two", { binding: { state: "provisional", nativeId } }));
    expect(historyOf(answerOf(ran))).toEqual(["one", "two"]);
    expect(ran.events.filter((event) => event.kind === "started")).toHaveLength(1);
  });

  test("of somebody else is never resumed", async () => {
    const nativeId = randomUUID();
    const claude = provider();
    await runTurn(claude, turn("secret", { binding: { state: "fresh", nativeId } }));
    const ran = await runTurn(claude, turn("hello", { binding: { state: "fresh", nativeId } }));
    expect(ran.events.map((event) => event.kind)).toEqual(["end"]);
    expect(ran.outcome).toMatchObject(failed("ID_IN_USE", { modelNotAsked: true }));
  });

  test("is told what it has not seen before the message", async () => {
    const unseen = [{ user: "I am Ada", assistant: "Hello Ada" }];
    const [first] = historyOf(answerOf(await runTurn(provider(), turn("who am I?", { unseen }))));
    expect(first).toMatch(
      /^<earlier_conversation>.*I am Ada.*Hello Ada.*<\/earlier_conversation>\nwho am I\?$/s,
    );
  });
});

describe("a prompt", () => {
  test.each(["-p", "--help", "/clear", "/etc/passwd", "@/etc/hostname", "!ls", "#", "a\n\nb", "日本 😀"])(
    "%j reaches the model as it is",
    async (prompt) => {
      const [first] = historyOf(answerOf(await runTurn(provider(), turn(prompt))));
      expect(first.trim()).toBe(prompt);
    },
  );

  test("of a megabyte reaches the model", async () => {
    const prompt = "x".repeat(1_000_000);
    const [first] = historyOf(answerOf(await runTurn(provider(), turn(prompt))));
    expect(first === prompt).toBe(true);
  });

  test("that is blank is refused", async () => {
    const ran = await runTurn(provider(), turn(" "));
    expect(ran.outcome).toMatchObject(failed("INVALID_REQUEST", { modelNotAsked: true }));
  });

  test("comes with the system prompt, the model and only the allowed environment", async () => {
    const file = join(root, "seen.json");
    const parentEnvironment = {
      ...process.env,
      ANTHROPIC_API_KEY: "own",
      OPENAI_API_KEY: "other",
      SESSION_BROKER_TOKEN: "secret",
      NODE_OPTIONS: "--no-warnings",
    };
    const claude = provider({
      parentEnvironment,
      models: ["model-a", "model-b"],
      extraArgs: ["--effort=low"],
    });
    const asked = turn(`[[environment ${file}]]`, { system: "Be brief.", model: "model-b" });
    answerOf(await runTurn(claude, asked));
    const seen = JSON.parse(readFileSync(file, "utf8"));
    expect(seen.system).toBe("Be brief.");
    expect(seen.args).toContain("--model=model-b");
    expect(seen.args.at(-1)).toBe("--effort=low");
    expect(seen.args.join("\n")).not.toContain("Be brief.");
    expect(seen.environment).toMatchObject({
      ANTHROPIC_API_KEY: "own",
      CLAUDE_CODE_DISABLE_FILE_MENTIONS: "1",
      SESSION_BROKER_CHILD: asked.childMark,
    });
    for (const name of ["OPENAI_API_KEY", "SESSION_BROKER_TOKEN", "NODE_OPTIONS"]) {
      expect(seen.environment).not.toHaveProperty(name);
    }
    const systemFile = seen.args.find((arg: string) => arg.startsWith("--append-system-prompt-file="));
    expect(existsSync(systemFile.split("=")[1])).toBe(false);
    answerOf(await runTurn(claude, turn(`[[environment ${file}]]`)));
    expect(JSON.parse(readFileSync(file, "utf8")).args).toContain("--model=model-a");
  });
});

describe("an answer", () => {
  test("is the same if its bytes come one by one", async () => {
    const ran = await runTurn(provider(), turn("[[bytes]] [[say äöü € 😀 e\u0301 日本語]]"));
    expect(answerOf(ran)).toBe("äöü € 😀 e\u0301 日本語");
    expect(ran.text).toBe(answerOf(ran));
  });

  test("that came without deltas is one", async () => {
    const ran = await runTurn(provider(), turn("[[whole]] [[say all of it]]"));
    expect(ran.events.filter((event) => event.kind === "text")).toEqual([
      { kind: "text", text: "all of it" },
    ]);
    expect(answerOf(ran)).toBe("all of it");
  });

  test("comes with reasoning, tools and notices", async () => {
    const ran = await runTurn(provider(), turn("[[retry]] [[steps]] [[think Hm.]] [[say Done.]]"));
    expect(ran.events.map((event) => event.kind).filter((kind, at, all) => kind !== all[at - 1])).toEqual([
      "started",
      "notice",
      "text",
      "tool-call",
      "tool-result",
      "reasoning",
      "text",
      "end",
    ]);
    expect(answerOf(ran)).toBe("Let me look.\n\nDone.");
    expect(ran.text).toBe(answerOf(ran));
  });

  test("among lines that are no records is found", async () => {
    expect(answerOf(await runTurn(provider(), turn("[[flood 500]] [[say here]]")))).toBe("here");
  });

  test("of a CLI that does not end is taken, and the CLI ended", async () => {
    const asked = turn("[[linger]] [[say all]]");
    expect(answerOf(await runTurn(provider({ lingerMs: 50 }), asked))).toBe("all");
    expect(await marked(asked.childMark)).toBe(0);
  });
});

describe("a turn that fails", () => {
  test.each([
    ["[[fail 401]]", "AUTH", false],
    ["[[fail 429]]", "RATE_LIMITED", true],
    ["[[fail 529]]", "OVERLOADED", true],
    ["[[fail 500]]", "PROVIDER_ERROR", true],
    ["[[exit 9]]", "CRASHED", true],
  ] as const)("%s is %s", async (prompt, code, retryable) => {
    const ran = await runTurn(provider(), turn(prompt));
    expect(ran.outcome).toMatchObject(failed(code, { retryable, modelNotAsked: false }));
  });

  test("by a crash says what the agent said last, and keeps what it sent", async () => {
    const ran = await runTurn(provider(), turn("[[crash]]"));
    expect(ran.text).toBe("turns");
    expect(ran.outcome).toMatchObject(failed("CRASHED"));
    expect(ran.outcome).toMatchObject({ message: expect.stringContaining("fatal: out of cheese") });
  });

  test("by its time ends the agent", async () => {
    const asked = turn("[[hang]]", { timeoutMs: 1_000 });
    const ran = await runTurn(provider(), asked);
    expect(ran.outcome).toMatchObject(failed("TIMEOUT", { retryable: true }));
    expect(await marked(asked.childMark)).toBe(0);
  });

  test("by silence ends the agent", async () => {
    const asked = turn("[[silent]]");
    const ran = await runTurn(provider({ silenceTimeoutMs: 500 }), asked);
    expect(ran.outcome).toMatchObject(failed("NO_OUTPUT_TIMEOUT", { retryable: true }));
    expect(await marked(asked.childMark)).toBe(0);
  });

  test.each([
    ["[[flood 100000]]", { maxLines: 1_000 }],
    ["[[flood 100000]]", { maxBytes: 10_000 }],
    ["[[long 100000]]", { maxLineBytes: 10_000 }],
  ])("by too much output: %s, %j", async (prompt, limits) => {
    const asked = turn(prompt);
    const ran = await runTurn(provider({ limits }), asked);
    expect(ran.outcome).toMatchObject(failed("OUTPUT_LIMIT", { retryable: false }));
    expect(await marked(asked.childMark)).toBe(0);
  });

  test("for want of an executable says what to do", async () => {
    const claude = provider({ executable: join(root, "missing") });
    const ran = await runTurn(claude, turn("hello"));
    expect(ran.outcome).toMatchObject(failed("UNAVAILABLE", { modelNotAsked: true }));
    expect(ran.outcome).toMatchObject({ message: expect.stringContaining("Install Claude Code") });
  });

  test("for want of a workspace says so", async () => {
    const ran = await runTurn(provider(), turn("hello", { workspace: join(root, "missing") }));
    expect(ran.outcome).toMatchObject(failed("UNAVAILABLE"));
    expect(ran.outcome).toMatchObject({ message: expect.stringContaining("workspace") });
  });
});

describe("a turn that is cancelled", () => {
  test("in mid-answer ends with what it has cost, and can be followed", async () => {
    const nativeId = randomUUID();
    const claude = provider();
    const abort = new AbortController();
    const asked = turn("one [[hang]]", { binding: { state: "fresh", nativeId }, signal: abort.signal });
    const ran = await runTurn(claude, asked, (event) => {
      if (event.kind === "text") abort.abort();
    });
    expect(ran.text).toBe("turns");
    expect(ran.outcome).toMatchObject({ status: "cancelled", usage: { inputTokens: 10, costUsd: 0.25 } });
    expect(ran.survivors).toEqual([]);
    expect(await marked(asked.childMark)).toBe(0);
    const next = await runTurn(claude, turn("two", { binding: { state: "provisional", nativeId } }));
    expect(historyOf(answerOf(next))).toEqual(["one [[hang]]", "two"]);
  });

  test("before it begins starts nothing", async () => {
    const nativeId = randomUUID();
    const ran = await runTurn(
      provider(),
      turn("hello", { signal: AbortSignal.abort(), binding: { state: "fresh", nativeId } }),
    );
    expect(ran.events).toEqual([{ kind: "end", outcome: { status: "cancelled" } }]);
    const transcripts = readdirSync(config, { recursive: true }).map(String);
    expect(transcripts.some((path) => path.includes(nativeId))).toBe(false);
  });

  test("ends an agent that only SIGKILL ends", async () => {
    const abort = new AbortController();
    const asked = turn("[[deaf]]", { signal: abort.signal });
    const claude = provider({ interruptMs: 50, interrupt: { signal: "SIGINT", waitMs: 50 } });
    const ran = await runTurn(claude, asked, (event) => {
      if (event.kind === "text") abort.abort();
    });
    expect(ran.outcome).toEqual({ status: "cancelled" });
    expect(await marked(asked.childMark)).toBe(0);
  });

  test("by closing the provider", async () => {
    const claude = provider();
    const asked = turn("[[hang]]");
    const ran = await runTurn(claude, asked, (event) => {
      if (event.kind === "text") void claude.close();
    });
    expect(ran.outcome.status).toBe("cancelled");
    expect((await runTurn(claude, turn("hello"))).outcome).toEqual({ status: "cancelled" });
  });

  test("by a reader that leaves takes the agent along", async () => {
    const asked = turn("[[hang]]");
    for await (const event of provider().run(asked)) if (event.kind === "text") break;
    expect(await marked(asked.childMark)).toBe(0);
  });
});

describe.runIf(process.platform === "linux")("a tool that left the agent's session", () => {
  test("is gone when the turn is", async () => {
    const file = join(root, randomUUID());
    const asked = turn(`[[orphan ${file}]] [[say done]]`);
    expect(answerOf(await runTurn(provider(), asked))).toBe("done");
    const pid = Number(readFileSync(file, "utf8"));
    expect(pid).toBeGreaterThan(0);
    expect(isRunning(pid)).toBe(false);
  });

  test("is named if it cannot be ended", async () => {
    const file = join(root, randomUUID());
    const asked = turn(`[[orphan ${file}]] [[say done]]`);
    const ran = await runTurn(provider({ endingSteps: [{ signal: "SIGTERM", waitMs: 100 }] }), asked);
    const pid = Number(readFileSync(file, "utf8"));
    process.kill(pid, "SIGKILL");
    expect(ran.survivors).toEqual([pid]);
    expect(answerOf(ran)).toBe("done");
  });
});

test("health is the version, asked for once a minute", async () => {
  const claude = provider();
  const [first, second] = [claude.health(), claude.health()];
  expect(second).toBe(first);
  expect(await first).toEqual({ available: true, detail: "2.1.329 (Claude Code)" });
  const missing = await provider({ executable: join(root, "missing") }).health();
  expect(missing).toMatchObject({ available: false, detail: expect.stringContaining("ENOENT") });
});

test("the executable is found on the PATH", () => {
  const folder = join(root, "bin");
  mkdirSync(folder);
  expect(findExecutable("claude", `relative:${root}:${folder}`)).toBeUndefined();
  writeFileSync(join(folder, "claude"), "");
  expect(findExecutable("claude", folder)).toBeUndefined();
  chmodSync(join(folder, "claude"), 0o755);
  expect(findExecutable("claude", `${root}:${folder}`)).toBe(join(folder, "claude"));
  expect(findExecutable("claude", undefined)).toBeUndefined();
});
