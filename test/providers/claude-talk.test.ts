/** What is said to a turn that runs: more text, that it is to stop, and what its tools may do. */
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type ClaudeOptions, createClaudeProvider } from "../../src/providers/claude/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { ProviderEvent, ProviderTurn } from "../../src/turns/provider.js";
import { answerOf, atFirst, followRun, textInput, turnOf } from "./turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

let root: string;
let workspace: string;
const marks: string[] = [];

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "claude-talk-"));
  workspace = join(root, "workspace");
  mkdirSync(workspace);
});

afterEach(async () => {
  const left = await findMarked((mark) => marks.includes(mark));
  marks.length = 0;
  expect(left).toEqual([]);
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

function provider(options: Partial<ClaudeOptions> = {}, version?: string) {
  return createClaudeProvider({
    id: "claude",
    executable,
    models: [],
    environment: {
      CLAUDE_CONFIG_DIR: join(root, "config"),
      ...(version === undefined ? {} : { FAKE_CLAUDE_VERSION: version }),
    },
    parentEnvironment: process.env,
    warm: { processes: 0 },
    ...options,
  });
}

function turn(prompt: string, fields: Partial<ProviderTurn> = {}): ProviderTurn {
  const asked = turnOf(prompt, { workspace, ...fields });
  marks.push(asked.childMark);
  return asked;
}

const historyOf = (answer: string) => JSON.parse(/history=(\[.*?\])(?: tool=|$)/s.exec(answer)?.[1] ?? "[]");
type Permission = Extract<ProviderEvent, { kind: "permission" }>;

describe("text for a turn that runs", () => {
  test("while a tool runs is taken into the answer", async () => {
    const run = provider().run(turn("one [[work 1]]"));
    const taken: unknown[] = [];
    const ran = await followRun(
      run,
      atFirst("tool-call", async () => taken.push(await run.steer?.(textInput("two")))),
    );
    expect(taken).toEqual([true]);
    expect(historyOf(answerOf(ran))).toEqual(["one [[work 1]]", "two"]);
    expect(ran.outcome).toMatchObject({
      usage: { inputTokens: 10, costUsd: 0.25 },
      total: { costUsd: 0.25 },
    });
  });

  test("while the agent speaks is answered next, in the same turn, and both answers are paid for", async () => {
    const run = provider().run(turn("one [[talk 2]] [[say First.]]"));
    const ran = await followRun(
      run,
      atFirst("text", async () => {
        expect(await run.steer?.(textInput("two"))).toBe(true);
        expect(await run.steer?.(textInput("three [[say Second.]]"))).toBe(true);
      }),
    );
    expect(answerOf(ran)).toBe("First.\n\nSecond.");
    expect(ran.text).toBe(answerOf(ran));
    expect(ran.outcome).toMatchObject({
      usage: { inputTokens: 20, outputTokens: 14, costUsd: 0.5 },
      total: { costUsd: 0.5 },
    });
    expect(ran.events.filter((event) => event.kind === "started")).toHaveLength(1);
  });

  test("comes with its attachments, and never as a command", async () => {
    const file = join(root, "steered.json");
    const run = provider().run(turn("one [[talk 1]]"));
    const input = [
      { kind: "file" as const, mediaType: "text/plain", name: "n.txt", data: Buffer.from("a note") },
      ...textInput(`/clear [[environment ${file}]]`),
    ];
    answerOf(
      await followRun(
        run,
        atFirst("text", () => run.steer?.(input)),
      ),
    );
    const { message } = JSON.parse(readFileSync(file, "utf8"));
    expect(message.message.content).toMatchObject([
      { type: "document" },
      { text: expect.stringMatching(/^\n\/clear/) },
    ]);
  });

  test("that the agent cannot take is not taken", async () => {
    const run = provider().run(turn("one"));
    const taken: unknown[] = [];
    const ran = await followRun(
      run,
      atFirst("started", async () => {
        taken.push(await run.steer?.(textInput(" ")));
        const video = { kind: "file" as const, mediaType: "video/mp4", name: "v", data: Buffer.from("v") };
        taken.push(await run.steer?.([video]));
      }),
    );
    expect(taken).toEqual([false, false]);
    expect(historyOf(answerOf(ran))).toEqual(["one"]);
  });

  test("is not taken before the agent begins, nor after its last result", async () => {
    const run = provider({ lingerMs: 50 }).run(turn("one [[linger]]"));
    expect(await run.steer?.(textInput("early"))).toBe(false);
    const ran = await followRun(run);
    expect(await run.steer?.(textInput("late"))).toBe(false);
    expect(historyOf(answerOf(ran))).toEqual(["one [[linger]]"]);
  });

  test("is not taken by a version that does not say which lines it answers", async () => {
    const run = provider({}, "2.1.197").run(turn("one"));
    const taken: unknown[] = [];
    const ran = await followRun(
      run,
      atFirst("started", async () => taken.push(await run.steer?.(textInput("two")))),
    );
    expect(taken).toEqual([false]);
    expect(historyOf(answerOf(ran))).toEqual(["one"]);
  });

  test("whose answer fails fails the turn, which keeps what was said before", async () => {
    const run = provider().run(turn("one [[talk 1]] [[say First.]]"));
    const ran = await followRun(
      run,
      atFirst("text", () => run.steer?.(textInput("two [[fail 529]]"))),
    );
    expect(ran.text).toBe("First.");
    expect(ran.outcome).toMatchObject({
      status: "failed",
      code: TurnErrorCode.OVERLOADED,
      usage: { costUsd: 0.25 },
    });
  });

  test("whose answer succeeds after the first one failed completes the turn", async () => {
    const run = provider().run(turn("one [[talk 1]] [[fail 529]]"));
    const ran = await followRun(
      run,
      atFirst("started", () => run.steer?.(textInput("two"))),
    );
    expect(historyOf(answerOf(ran))).toEqual(["one [[talk 1]] [[fail 529]]", "two"]);
  });

  test.each([
    ["a crash", "", "[[crash]]"],
    ["an agent that ends in order", "[[exit 0]]", ""],
  ])("that %s leaves unanswered fails the turn", async (_, first, second) => {
    const run = provider().run(turn(`one [[talk 1]] [[say First.]] ${first}`));
    const ran = await followRun(
      run,
      atFirst("text", () => run.steer?.(textInput(`two ${second}`))),
    );
    expect(ran.outcome).toMatchObject({ status: "failed", code: TurnErrorCode.CRASHED });
  });
});

test("a result about somebody else's line is none of the turn's", async () => {
  const ran = await followRun(provider().run(turn("[[stray]] [[say mine]]")));
  expect(answerOf(ran)).toBe("mine");
  expect(ran.outcome).toMatchObject({ usage: { inputTokens: 10, costUsd: 0.25 } });
});

describe("a turn that is to stop", () => {
  /** Stops it at its first text. */
  async function stopped(prompt: string, options: Partial<ClaudeOptions> = {}, version?: string) {
    const abort = new AbortController();
    const run = provider(options, version).run(turn(prompt, { signal: abort.signal }));
    const ran = await followRun(
      run,
      atFirst("text", () => abort.abort()),
    );
    return { ran, run };
  }

  // A signal would be given too late for these to pass.
  const noSignals = { interruptMs: 60_000 };

  test.each(["2.1.329", "2.1.197"])("%s stops by itself, and its usage is known", async (version) => {
    const { ran } = await stopped("one [[hang]]", noSignals, version);
    expect(ran.outcome).toMatchObject({ status: "cancelled", usage: { costUsd: 0.25 } });
  });

  test("before the agent has read anything stops as well", async () => {
    const abort = new AbortController();
    const claude = provider(noSignals);
    // The version is known, so that the process starts at once.
    await claude.health();
    const run = claude.run(turn("one [[hang]]", { signal: abort.signal }));
    const following = followRun(run);
    setImmediate(() => abort.abort());
    expect((await following).outcome.status).toBe("cancelled");
  });

  test.each(["[[mute]]", "[[deaf]]"])("and does not listen is ended by signals: %s", async (directive) => {
    const { ran } = await stopped(`one ${directive}`, {
      interruptMs: 100,
      interrupt: { signal: "SIGINT", waitMs: 1_000 },
      endingSteps: [
        { signal: "SIGTERM", waitMs: 100 },
        { signal: "SIGKILL", waitMs: 10_000 },
      ],
    });
    expect(ran.outcome.status).toBe("cancelled");
  });

  test.each([
    ["are dropped", ""],
    ["and are kept cost the agent its process", "[[keep]]"],
  ])("lines that wait %s", async (_, directive) => {
    const nativeId = randomUUID();
    const abort = new AbortController();
    const first = `one [[talk 9]] ${directive}`;
    const fields = { binding: { state: "fresh", nativeId }, signal: abort.signal } as const;
    const claude = provider(noSignals);
    const run = claude.run(turn(first, fields));
    const ran = await followRun(
      run,
      atFirst("text", async () => {
        expect(await run.steer?.(textInput("two [[hang]]"))).toBe(true);
        abort.abort();
        expect(await run.steer?.(textInput("three"))).toBe(false);
      }),
    );
    expect(ran.outcome).toMatchObject({ status: "cancelled", usage: { costUsd: expect.any(Number) } });
    expect(ran.text).toBe("turns");
    if (directive !== "") return;
    const next = turn("next", { binding: { state: "provisional", nativeId } });
    expect(historyOf(answerOf(await followRun(claude.run(next))))).toEqual([first, "next"]);
  });

  test("is cancelled though the agent finishes its answer, as nobody was given the rest", async () => {
    const { ran } = await stopped("one [[talk 9]] [[finish]] [[say All of it.]]", noSignals);
    expect(ran.text).toBe("All o");
    expect(ran.outcome).toMatchObject({ status: "cancelled", usage: { costUsd: 0.25 } });
  });

  test("between two answers is cancelled, though the first was complete", async () => {
    const abort = new AbortController();
    const run = provider(noSignals).run(turn("one [[talk 1]] [[say First.]]", { signal: abort.signal }));
    const ran = await followRun(run, async (event) => {
      if (event.kind !== "text") return;
      if (event.text === "First") await run.steer?.(textInput("two [[hang]]"));
      if (event.text === "\n\nturns") abort.abort();
    });
    expect(ran.text).toBe("First.\n\nturns");
    expect(ran.outcome).toMatchObject({ status: "cancelled", usage: { costUsd: 0.5 } });
  });

  test("after its last result stays completed, and does not wait for the agent to end", async () => {
    const abort = new AbortController();
    const claude = provider({ lingerMs: 60_000, interrupt: { signal: "SIGINT", waitMs: 100 } });
    const file = join(root, "input-closed");
    const asked = turn(`[[linger ${file}]] [[say all]]`, { signal: abort.signal });
    const following = followRun(claude.run(asked));
    // The provider closes the input when it has read the result.
    await expect.poll(() => existsSync(file)).toBe(true);
    abort.abort();
    expect(answerOf(await following)).toBe("all");
  });
});

describe("an agent that needs a permission", () => {
  const asking = (options: Partial<ClaudeOptions> = {}) => provider({ permissions: "ask", ...options });
  const question = `[[ask Bash {"command":"make","n":[1,{}]}]]`;

  async function decided(prompt: string, decide: (event: Permission) => unknown, claude = asking()) {
    return followRun(claude.run(turn(prompt)), (event) =>
      event.kind === "permission" ? decide(event) : undefined,
    );
  }

  test("asks, and is allowed this one use with the input as it was", async () => {
    const asked: Permission[] = [];
    const ran = await decided(question, (event) => {
      asked.push(event);
      event.decide({ allowed: true, message: "go on" });
    });
    expect(asked).toMatchObject([{ tool: "Bash", input: `{"command":"make","n":[1,{}]}` }]);
    expect(answerOf(ran)).toContain(`tool={"behavior":"allow","updatedInput":{"command":"make","n":[1,{}]}}`);
    expect(ran.events.map(({ kind }) => kind).filter((kind, i, all) => kind !== all[i - 1])).toEqual([
      "started",
      "tool-call",
      "permission",
      "tool-result",
      "text",
      "end",
    ]);
  });

  test.each([
    ["not today", "not today"],
    ["", "The use of this tool was refused."],
  ])("is refused with the message %j", async (message, told) => {
    const ran = await decided(question, (event) => event.decide({ allowed: false, message }));
    expect(answerOf(ran)).toContain(`tool={"behavior":"deny","message":"${told}"}`);
    expect(ran.events.find((event) => event.kind === "tool-result")).toMatchObject({ isError: true });
  });

  test("is allowed everything, and nobody is asked, if the configuration says so", async () => {
    const claude = asking({ permissions: "allow" });
    const ran = await decided(question, () => expect.unreachable(), claude);
    expect(answerOf(ran)).toContain(`tool={"behavior":"allow","updatedInput":{"command":"make","n":[1,{}]}}`);
    expect(claude.capabilities.permissionRequests).toBe(false);
  });

  test("may ask several things at once, answered in any order, each once", async () => {
    const asked: Permission[] = [];
    const ran = await decided(`[[ask A {"a":1}]] [[ask B {"b":2}]]`, (event) => {
      asked.push(event);
      if (asked.length < 2) return;
      asked[1]?.decide({ allowed: false, message: "no" });
      asked[1]?.decide({ allowed: true, message: "" });
      asked[0]?.decide({ allowed: true, message: "" });
    });
    expect(answerOf(ran)).toContain(
      `tool={"behavior":"allow","updatedInput":{"a":1}} {"behavior":"deny","message":"no"}`,
    );
  });

  test("waits longer than it may say nothing", async () => {
    const claude = asking({ silenceTimeoutMs: 1_500 });
    const ran = await decided(
      question,
      (event) => {
        setTimeout(() => event.decide({ allowed: true, message: "" }), 2_000);
      },
      claude,
    );
    expect(answerOf(ran)).toContain("allow");
  });

  test("and takes the question back is told no answer", async () => {
    const run = asking().run(turn(`${question} [[withdraw]] [[talk 1]]`));
    let asked: Permission | undefined;
    const ran = await followRun(run, async (event) => {
      if (event.kind === "permission") asked = event;
      if (event.kind !== "text" || asked === undefined) return;
      asked.decide({ allowed: true, message: "" });
      asked = undefined;
      expect(await run.steer?.(textInput("go on [[say Done.]]"))).toBe(true);
    });
    // The program of the fixtures ends if it is told an answer that it does not wait for.
    expect(answerOf(ran)).toMatch(/tool="withdrawn"\n\nDone\.$/);
  });

  test("is stopped while it waits, and its question is void", async () => {
    const abort = new AbortController();
    const run = asking({ interruptMs: 60_000 }).run(turn(question, { signal: abort.signal }));
    let asked: Permission | undefined;
    const ran = await followRun(run, (event) => {
      if (event.kind !== "permission") return;
      asked = event;
      abort.abort();
      event.decide({ allowed: true, message: "" });
    });
    asked?.decide({ allowed: true, message: "" });
    expect(ran.outcome.status).toBe("cancelled");
    expect(ran.events.some((event) => event.kind === "tool-result")).toBe(false);
  });

  test("is denied if nobody is to be asked", async () => {
    const claude = provider();
    expect(claude.capabilities.permissionRequests).toBe(false);
    expect(asking().capabilities.permissionRequests).toBe(true);
    const ran = await decided(question, () => expect.fail("it asks"), claude);
    expect(answerOf(ran)).toContain("tool=denied");
    // Whoever lets it ask by its arguments alone has nobody who answers.
    const byArgument = provider({ extraArgs: ["--permission-prompt-tool=stdio"] });
    expect(answerOf(await decided(question, () => expect.fail("it asks"), byArgument))).toContain(
      `tool={"behavior":"deny","message":"Nobody can be asked here."}`,
    );
  });
});
