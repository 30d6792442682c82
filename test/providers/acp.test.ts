import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type AcpOptions, createAcpProvider } from "../../src/providers/acp/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { Provider, ProviderEvent, ProviderTurn } from "../../src/turns/provider.js";
import { answerOf, atFirst, isRunning, type Ran, runTurn, turnOf } from "./turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-acp.mjs", import.meta.url));

let root: string;
let workspace: string;
let store: string;
const opened: Provider[] = [];

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "acp-provider-"));
  workspace = join(root, "workspace");
  mkdirSync(workspace);
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

function provider(options: Partial<AcpOptions> = {}, environment: Record<string, string> = {}) {
  store = join(root, randomUUID());
  return another(options, environment);
}

/** A provider that shares what the agents of the last one remember. */
function another(options: Partial<AcpOptions> = {}, environment: Record<string, string> = {}) {
  const created = createAcpProvider({
    id: "acp",
    command: [executable],
    environment: { PATH: process.env.PATH ?? "", FAKE_ACP_STORE: store, ...environment },
    interruptMs: 2_000,
    endingSteps: [
      { signal: "SIGTERM", waitMs: 500 },
      { signal: "SIGKILL", waitMs: 10_000 },
    ],
    ...options,
  });
  opened.push(created);
  return created;
}

const turn = (text: string, fields: Partial<ProviderTurn> = {}) =>
  turnOf(text, { workspace, binding: { state: "fresh" }, ...fields });
const historyOf = (answer: string) =>
  JSON.parse(/history=(\[.*?\])(?: permission=|$)/s.exec(answer)?.[1] ?? "[]");
const failed = (code: keyof typeof TurnErrorCode, more = {}) => ({
  status: "failed",
  code: TurnErrorCode[code],
  ...more,
});
const marked = async (mark: string) => (await findMarked((each) => each === mark)).length;
const notes = () => readFileSync(join(store, "notes"), "utf8").trim().split("\n");
const asked = (method: string) => notes().filter((note) => note.endsWith(` ${method}`)).length;

function nativeIdOf(ran: Ran): string {
  const [started] = ran.events;
  if (started?.kind !== "started" || started.nativeId === undefined) throw new Error("the turn has no id");
  return started.nativeId;
}

/** Turns of one session, each bound to what the one before has said. */
async function converse(agent: Provider, texts: readonly string[], fields: Partial<ProviderTurn> = {}) {
  const session = { recordNo: turn("").recordNo, childMark: turn("").childMark, ...fields };
  const ran: Ran[] = [];
  let binding: ProviderTurn["binding"] = fields.binding ?? { state: "fresh" };
  for (const text of texts) {
    const one = await runTurn(agent, turn(text, { ...session, binding }));
    ran.push(one);
    const nativeId = one.events[0]?.kind === "started" ? nativeIdOf(one) : binding.nativeId;
    const state = one.outcome.status === "completed" || binding.state === "bound" ? "bound" : "provisional";
    binding = { state, ...(nativeId === undefined ? {} : { nativeId }) };
  }
  return { ran, session, binding };
}

describe("a conversation", () => {
  test("begins under the agent's id and is answered by its pieces", async () => {
    const ran = await runTurn(provider(), turn("hello"));
    const nativeId = nativeIdOf(ran);
    expect(ran.events[0]).toEqual({ kind: "started", nativeId, resumed: false, warm: false });
    expect(ran.text).toBe('turns=1 history=["hello"]');
    expect(ran.outcome).toEqual({
      status: "completed",
      text: ran.text,
      finishReason: FinishReason.STOP,
      nativeId,
      usage: {
        inputTokens: 10,
        cacheReadTokens: 2,
        cacheWriteTokens: 3,
        outputTokens: 7,
        reasoningTokens: 1,
      },
    });
  });

  test("goes on in its process", async () => {
    const { ran } = await converse(provider(), ["I am Ada", "who am I?", "sure?"]);
    expect(historyOf(answerOf(ran[2] as Ran))).toEqual(["I am Ada", "who am I?", "sure?"]);
    expect(ran.map(({ events }) => events[0])).toEqual([
      expect.objectContaining({ resumed: false, warm: false }),
      expect.objectContaining({ resumed: true, warm: true }),
      expect.objectContaining({ resumed: true, warm: true }),
    ]);
    expect([asked("started"), asked("session/new"), asked("session/prompt")]).toEqual([1, 1, 3]);
  });

  test.each(["load", "resume", "late"])(
    "goes on in another process (%s), and its history is no answer",
    async (how) => {
      const first = await converse(provider({}, { FAKE_ACP_RESUME: how }), ["one", "two", "three"]);
      await opened.pop()?.close();
      const agent = another({}, { FAKE_ACP_RESUME: how });
      const { ran } = await converse(agent, ["four", "five"], first);
      expect(ran.map(({ text }) => text)).toEqual([
        'turns=4 history=["one","two","three","four"]',
        'turns=5 history=["one","two","three","four","five"]',
      ]);
      expect(ran[0]?.events[0]).toEqual({
        kind: "started",
        nativeId: first.binding.nativeId,
        resumed: true,
        warm: false,
      });
      expect(ran[1]?.events[0]).toMatchObject({ warm: true });
    },
  );

  test("has a process of its own in each turn if none is kept", async () => {
    const { ran } = await converse(provider({ warm: { processes: 0, idleMs: 1_000, ahead: 0 } }), [
      "one",
      "two",
    ]);
    expect(historyOf(answerOf(ran[1] as Ran))).toEqual(["one", "two"]);
    expect(asked("started")).toBe(2);
  });

  test.each([
    ["by the protocol", '{"code":-32002,"message":"Resource not found"}'],
    [
      "as gemini",
      '{"code":-32603,"message":"Internal error","data":{"details":"Invalid session identifier \\"x\\"."}}',
    ],
    [
      "as codex",
      '{"code":-32603,"message":"Internal error","data":{"details":"no rollout found for thread id x"}}',
    ],
    [
      "as claude once did",
      '{"code":-32603,"message":"Internal error","data":{"details":"Session not found"}}',
    ],
  ])("that the agent no longer knows, which it says %s, is lost", async (_, unknown) => {
    const binding = { state: "bound", nativeId: randomUUID() } as const;
    const ran = await runTurn(provider({}, { FAKE_ACP_UNKNOWN: unknown }), turn("hello", { binding }));
    expect(ran.events.map(({ kind }) => kind)).toEqual(["end"]);
    expect(ran.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
    expect(asked("session/prompt")).toBe(0);
  });

  test("is lost with its process if the agent can load none", async () => {
    const binding = { state: "bound", nativeId: randomUUID() } as const;
    const ran = await runTurn(provider({}, { FAKE_ACP_RESUME: "none" }), turn("hello", { binding }));
    expect(ran.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
  });

  test("that cannot be loaded for another reason is not lost", async () => {
    const binding = { state: "bound", nativeId: randomUUID() } as const;
    const unknown = '{"code":-32603,"message":"disk full"}';
    const ran = await runTurn(provider({}, { FAKE_ACP_UNKNOWN: unknown }), turn("hello", { binding }));
    expect(ran.outcome).toMatchObject(failed("PROVIDER_ERROR", { modelNotAsked: true, retryable: true }));
  });

  test("of a turn that did not succeed begins anew if the agent has none", async () => {
    const binding = { state: "provisional", nativeId: randomUUID() } as const;
    const ran = await runTurn(provider(), turn("hello", { binding }));
    expect(historyOf(answerOf(ran))).toEqual(["hello"]);
    expect(nativeIdOf(ran)).not.toBe(binding.nativeId);
    expect(ran.events[0]).toMatchObject({ resumed: false });
  });

  test("stays warm after a turn that the model refused", async () => {
    const { ran } = await converse(provider(), ["one [[fail 429 slow down]]", "two"]);
    expect(ran[0]?.outcome).toMatchObject(failed("RATE_LIMITED"));
    expect(ran[1]?.events[0]).toMatchObject({ warm: true });
    expect(ran[1]?.outcome).toMatchObject({ status: "completed" });
  });

  test("is not shared by two sessions", async () => {
    const agent = provider();
    const [one, two] = await Promise.all([converse(agent, ["a", "b"]), converse(agent, ["c", "d"])]);
    expect(historyOf(answerOf(one?.ran[1] as Ran))).toEqual(["a", "b"]);
    expect(historyOf(answerOf(two?.ran[1] as Ran))).toEqual(["c", "d"]);
    expect(asked("started")).toBe(2);
  });
});

describe("what the agent is told", () => {
  const unseen = [{ user: "I am Ada", assistant: "Hello Ada" }];

  test("begins with the system prompt and what it has not seen", async () => {
    const ran = await runTurn(provider(), turn("who am I?", { system: "Be brief.", unseen }));
    const [said] = historyOf(answerOf(ran));
    expect(said).toMatch(/^<system_prompt>\nBe brief\.\n<\/system_prompt>\n<earlier_conversation>/);
    expect(said).toContain(JSON.stringify(unseen));
    expect(said).toMatch(/\nwho am I\?$/);
  });

  test("is the system prompt only until a turn has succeeded, and a notice when there is one", async () => {
    const agent = provider();
    const { ran, session, binding } = await converse(agent, ["one [[fail 500 no]]", "two", "three"], {
      system: "Be brief.",
    });
    const told = historyOf(answerOf(ran[2] as Ran)).map((each: string) => each.includes("Be brief."));
    expect(told).toEqual([true, true, false]);
    const noticed = await runTurn(agent, turn("four", { ...session, binding, systemNotice: "Be long." }));
    expect(historyOf(answerOf(noticed)).at(-1)).toBe("Be long.\nfour");
  });

  test.each(["/help", "\n /clear", "$x", "?"])("is no command of its own, as %j would be", async (text) => {
    const [said] = historyOf(answerOf(await runTurn(provider(), turn(text))));
    expect(said).toBe(`The message of the user is:\n${text}`);
  });

  test("is an image if it takes images", async () => {
    const image = {
      kind: "image",
      mediaType: "image/png",
      name: "a.png",
      data: new Uint8Array([1]),
    } as const;
    const input = [{ kind: "text", text: "what?" }, image] as const;
    const seen = await runTurn(provider({}, { FAKE_ACP_IMAGES: "1" }), turn("", { input }));
    expect(historyOf(answerOf(seen))).toEqual(["what?\n[image]"]);
    const refused = await runTurn(provider(), turn("", { input }));
    expect(refused.outcome).toMatchObject(failed("INVALID_REQUEST", { modelNotAsked: true }));
  });

  test("is not an empty message", async () => {
    const ran = await runTurn(provider(), turn(" \n"));
    expect(ran.outcome).toMatchObject(failed("INVALID_REQUEST", { modelNotAsked: true }));
  });

  test.each(["config", "models"])("is the model, if it lets one choose (%s)", async (how) => {
    const agent = provider({}, { FAKE_ACP_MODELS: how });
    const { ran, session, binding } = await converse(agent, ["one"]);
    expect(ran[0]?.outcome).toMatchObject({ model: "small" });
    const large = await runTurn(agent, turn("two", { ...session, binding, model: "large" }));
    expect(large.outcome).toMatchObject({ status: "completed", model: "large" });
    const unknown = await runTurn(agent, turn("three", { ...session, binding, model: "huge" }));
    expect(unknown.outcome).toMatchObject(failed("INVALID_REQUEST", { modelNotAsked: true }));
    expect([asked("started"), asked("session/prompt")]).toEqual([1, 2]);
  });

  test("is no model if it lets none be chosen, unless it is the default", async () => {
    const agent = provider({ models: ["the one", "another"] });
    expect((await runTurn(agent, turn("one", { model: "the one" }))).outcome).toMatchObject({
      status: "completed",
    });
    const refused = await runTurn(agent, turn("one", { model: "another" }));
    expect(refused.outcome).toMatchObject(
      failed("INVALID_REQUEST", { message: expect.stringContaining("another") }),
    );
  });

  test("is its own environment, its workspace and nothing else", async () => {
    const file = join(root, "environment.json");
    const asking = turn(`[[environment ${file}]]`);
    await runTurn(provider({ command: [executable, "--flag", "a b"] }, { KEY: "x" }), asking);
    const { args, cwd, ...environment } = JSON.parse(readFileSync(file, "utf8"));
    expect(args.slice(2)).toEqual(["--flag", "a b"]);
    expect(cwd).toBe(workspace);
    expect(environment).toMatchObject({ KEY: "x", SESSION_BROKER_CHILD: asking.childMark });
    expect(Object.keys(environment).sort()).toEqual([
      "FAKE_ACP_STORE",
      "KEY",
      "PATH",
      "SESSION_BROKER_CHILD",
    ]);
  });
});

describe("events", () => {
  test("reasoning, tools and text in their order", async () => {
    const ran = await runTurn(provider(), turn("[[think hm]] [[steps]]"));
    expect(ran.events.slice(1, -1).filter(({ kind }) => kind !== "text")).toEqual([
      { kind: "reasoning", text: "hm" },
      { kind: "tool-call", id: "call-1", name: "Read", input: '{"path":"a.txt"}' },
      { kind: "tool-result", id: "call-1", output: "hi", isError: false },
    ]);
    expect(ran.text).toMatch(/^Looking\.\n\nturns=1/);
    expect(answerOf(ran)).toBe(ran.text);
  });

  test("are whole if the output comes byte by byte", async () => {
    const ran = await runTurn(provider(), turn("Zoë 😀 €a\u0301 [[bytes]]"));
    expect(historyOf(answerOf(ran))).toEqual(["Zoë 😀 €a\u0301 [[bytes]]"]);
  });

  test("the cost of the turn, from the cost of the conversation", async () => {
    const agent = provider();
    const { ran, session, binding } = await converse(agent, ["[[cost 0.25]]"]);
    expect(ran[0]?.outcome).toMatchObject({ usage: { costUsd: 0.25 }, total: { costUsd: 0.25 } });
    const more = { ...session, binding, previousTotal: { costUsd: 0.25 } };
    const second = await runTurn(agent, turn("[[cost 1]]", more));
    expect(second.outcome).toMatchObject({ usage: { costUsd: 0.75 }, total: { costUsd: 1 } });
  });

  test.each([
    ["max_tokens", FinishReason.LENGTH],
    ["max_turn_requests", FinishReason.LENGTH],
    ["refusal", FinishReason.REFUSAL],
    ["something_new", FinishReason.STOP],
  ])("%s", async (reason, finishReason) => {
    const ran = await runTurn(provider(), turn(`[[stop ${reason}]]`));
    expect(ran.outcome).toMatchObject({ status: "completed", finishReason });
  });

  test("lines that are no records are passed over", async () => {
    const ran = await runTurn(provider({}, { FAKE_ACP_START: "garbage" }), turn("hello [[flood 3000]]"));
    expect(historyOf(answerOf(ran))).toEqual(["hello [[flood 3000]]"]);
  });

  test("none is lost when they are read slowly", async () => {
    let seen = 0;
    const slowly = async (event: ProviderEvent) => {
      if (event.kind === "text") seen++;
      await new Promise((resolve) => setImmediate(resolve));
    };
    const text = "x".repeat(500_000);
    const ran = await runTurn(provider(), turn(text), slowly);
    expect(seen).toBe(4);
    expect(historyOf(answerOf(ran))).toEqual([text]);
  });
});

describe("what belongs to no turn", () => {
  test("a piece after the answer replaces the process, and no turn shows it", async () => {
    const { ran } = await converse(provider(), ["one [[late]]", "two"]);
    expect(ran.map(({ text }) => text)).toEqual([
      'turns=1 history=["one [[late]]"]',
      'turns=2 history=["one [[late]]","two"]',
    ]);
    expect(ran[1]?.events[0]).toMatchObject({ warm: false, resumed: true });
  });

  test("a second answer to the prompt replaces the process", async () => {
    const { ran } = await converse(provider(), ["one [[twice]]", "two"]);
    expect(historyOf(answerOf(ran[1] as Ran))).toEqual(["one [[twice]]", "two"]);
    expect(asked("started")).toBe(2);
  });

  test("a piece of another conversation is not shown, and replaces the process after the turn", async () => {
    const { ran } = await converse(provider(), ["one [[other]]", "two"]);
    expect(ran[0]?.text).toBe('turns=1 history=["one [[other]]"]');
    expect(historyOf(answerOf(ran[1] as Ran))).toEqual(["one [[other]]", "two"]);
    expect(asked("started")).toBe(2);
  });

  test("a crash between two turns costs nothing", async () => {
    const { ran } = await converse(provider(), ["one [[die]]", "two"]);
    expect(ran.map(({ outcome }) => outcome.status)).toEqual(["completed", "completed"]);
    expect(historyOf(answerOf(ran[1] as Ran))).toEqual(["one [[die]]", "two"]);
  });
});

describe("permissions", () => {
  test.each([
    ["deny", "reject-once"],
    ["allow", "allow-once"],
  ] as const)("%s", async (permissions, answer) => {
    const ran = await runTurn(provider({ permissions }), turn("[[ask rm]]"));
    expect(answerOf(ran)).toMatch(new RegExp(`permission=${answer}$`));
    expect(ran.events.some(({ kind }) => kind === "permission")).toBe(false);
  });

  test.each([
    [true, "allow-once"],
    [false, "reject-once"],
  ])("asked, and answered with %s", async (allowed, answer) => {
    let question: ProviderEvent | undefined;
    const ran = await runTurn(provider({ permissions: "ask" }), turn("[[ask rm -r]]"), (event) => {
      if (event.kind !== "permission") return;
      question = event;
      event.decide({ allowed, message: "" });
    });
    expect(answerOf(ran)).toMatch(new RegExp(`permission=${answer}$`));
    expect(question).toMatchObject({ tool: "rm -r" });
    expect(ran.events).toContainEqual(
      expect.objectContaining({ kind: "tool-call", name: "rm -r", input: '{"command":"rm -r"}' }),
    );
  });

  test.each(["allow", "deny", "ask"] as const)("never one that holds for ever (%s)", async (permissions) => {
    const decide = (event: ProviderEvent) =>
      event.kind === "permission" && event.decide({ allowed: true, message: "" });
    const ran = await runTurn(provider({ permissions }), turn("[[always rm]]"), decide);
    expect(answerOf(ran)).toMatch(/permission=cancelled$/);
  });

  test("a question may be taken back", async () => {
    let withdrawn: AbortSignal | undefined;
    const ran = await runTurn(provider({ permissions: "ask" }), turn("[[withdraw]]"), (event) => {
      if (event.kind === "permission") withdrawn = event.withdrawn;
    });
    expect(answerOf(ran)).toMatch(/permission=cancelled$/);
    expect(withdrawn?.aborted).toBe(true);
  });

  test("silence while it is asked is no fault", async () => {
    const agent = provider({ permissions: "ask", silenceTimeoutMs: 300 });
    const ran = await runTurn(agent, turn("[[ask rm]]"), async (event) => {
      if (event.kind !== "permission") return;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      event.decide({ allowed: true, message: "" });
    });
    expect(ran.outcome).toMatchObject({ status: "completed" });
  });

  test("a cancelled turn answers what is asked, and the agent stops", async () => {
    const stop = new AbortController();
    const ran = await runTurn(
      provider({ permissions: "ask" }),
      turn("[[ask rm]]", { signal: stop.signal }),
      atFirst("permission", () => stop.abort()),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
  });
});

describe("an end before its time", () => {
  test.each(["hang", "silent", "mute", "deaf"])("a cancelled turn that would %s", async (how) => {
    const stop = new AbortController();
    const agent = provider({ interruptMs: 300 });
    const asking = turn(`one [[${how}]]`, { signal: stop.signal });
    const first = how === "silent" ? "started" : "text";
    const ran = await runTurn(
      agent,
      asking,
      atFirst(first, () => setImmediate(() => stop.abort())),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
    const isKept = how === "hang" || how === "silent";
    expect(await marked(asking.childMark)).toBe(isKept ? 1 : 0);
    const binding = { state: "provisional", nativeId: nativeIdOf(ran) } as const;
    const next = await runTurn(agent, { ...turn("two", { binding }), recordNo: asking.recordNo });
    expect(next.events[0]).toMatchObject({ warm: isKept, resumed: true });
    expect(historyOf(answerOf(next)).at(-1)).toBe("two");
  });

  test("a turn that is cancelled before it begins asks nothing", async () => {
    const signal = AbortSignal.abort();
    const ran = await runTurn(provider(), turn("one", { signal }));
    expect(ran.outcome).toEqual({ status: "cancelled" });
    expect(existsSync(join(store, "notes")) ? asked("session/prompt") : 0).toBe(0);
  });

  test("a turn that takes too long", async () => {
    const ran = await runTurn(provider(), turn("one [[hang]]", { timeoutMs: 1_500 }));
    expect(ran.outcome).toMatchObject(failed("TIMEOUT", { retryable: true }));
  });

  test("an agent that takes too long to begin", async () => {
    const asking = turn("one", { timeoutMs: 500 });
    const ran = await runTurn(provider({}, { FAKE_ACP_START: "hang" }), asking);
    expect(ran.outcome).toMatchObject(failed("TIMEOUT"));
    expect(await marked(asking.childMark)).toBe(0);
  });

  test.each(["hang", "silent"])("an agent that says nothing for too long (%s)", async (how) => {
    const asking = turn(`one [[${how}]]`);
    const ran = await runTurn(provider({ silenceTimeoutMs: 1_000 }), asking);
    expect(ran.outcome).toMatchObject(failed("NO_OUTPUT_TIMEOUT", { retryable: true, modelNotAsked: false }));
    expect(await marked(asking.childMark)).toBe(0);
  });

  test("silence between two turns is no fault", async () => {
    const agent = provider({ silenceTimeoutMs: 300 });
    const { session, binding } = await converse(agent, ["one"]);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const ran = await runTurn(agent, turn("two", { ...session, binding }));
    expect(ran.events[0]).toMatchObject({ warm: true });
    expect(answerOf(ran)).toContain("two");
  });

  test.each([
    ["lines", "[[flood 2000]]", { maxLines: 1_000 }],
    ["bytes", "[[flood 2000]]", { maxBytes: 10_000 }],
    ["a line", "[[long 20000]]", { maxLineBytes: 10_000 }],
  ])("an agent that says too much: %s", async (_, text, limits) => {
    const asking = turn(text);
    const ran = await runTurn(provider({ limits }), asking);
    expect(ran.outcome).toMatchObject(failed("OUTPUT_LIMIT", { retryable: false }));
    expect(await marked(asking.childMark)).toBe(0);
  });

  test("each turn of a process that stays may say as much", async () => {
    const { ran } = await converse(provider({ limits: { maxLines: 2_500 } }), [
      "[[flood 2000]]",
      "[[flood 2000]]",
    ]);
    expect(ran.map(({ outcome }) => outcome.status)).toEqual(["completed", "completed"]);
  });

  test("a crash in a turn is that turn's failure", async () => {
    const agent = provider();
    const { ran } = await converse(agent, ["one [[crash]]", "two"]);
    expect(ran[0]?.outcome).toMatchObject(
      failed("CRASHED", { retryable: true, message: expect.stringMatching(/code 3 .*it broke/) }),
    );
    expect(historyOf(answerOf(ran[1] as Ran))).toEqual(["one [[crash]]", "two"]);
  });

  test("the processes that the agent has left are gone with it", async () => {
    const file = join(root, "orphan");
    const agent = provider();
    await converse(agent, [`[[orphan ${file}]]`]);
    await agent.close();
    expect(isRunning(Number(readFileSync(file, "utf8")))).toBe(false);
  });

  test("release ends the session's process, and close ends all", async () => {
    const agent = provider();
    const one = await converse(agent, ["one"]);
    const two = await converse(agent, ["two"]);
    expect(await agent.release(one.session.recordNo)).toEqual([]);
    expect([await marked(one.session.childMark), await marked(two.session.childMark)]).toEqual([0, 1]);
    await agent.close();
    expect(await marked(two.session.childMark)).toBe(0);
  });

  test("close ends a turn that runs", async () => {
    const agent = provider();
    const asking = turn("one [[hang]]");
    const ran = await runTurn(
      agent,
      asking,
      atFirst("text", () => void agent.close()),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
    expect(await marked(asking.childMark)).toBe(0);
  });
});

describe("failures", () => {
  test.each([
    ["429 slow down", "RATE_LIMITED"],
    ["401 no", "AUTH"],
    ["-32000 Authentication required", "AUTH"],
    ["500 terminated", "PROVIDER_ERROR"],
    ["529 busy", "OVERLOADED"],
    ["400 bad", "INVALID_REQUEST"],
    ["-32603 Internal error", "PROVIDER_ERROR"],
  ] as const)("%s", async (failure, code) => {
    const ran = await runTurn(provider(), turn(`[[fail ${failure}]]`));
    expect(ran.outcome).toMatchObject(failed(code, { modelNotAsked: false }));
  });

  test("an answer of no tokens is none", async () => {
    const ran = await runTurn(provider(), turn("[[none]]"));
    expect(ran.outcome).toMatchObject(failed("PROVIDER_ERROR", { retryable: true }));
  });

  test("an agent that stops by itself was interrupted from outside", async () => {
    const ran = await runTurn(provider(), turn("[[stop cancelled]]"));
    expect(ran.outcome).toMatchObject(failed("CRASHED", { retryable: true }));
  });

  test.each([
    ["exit", "UNAVAILABLE", /code 3 .*no such model/],
    ["version", "UNAVAILABLE", /version 7/],
    ["auth", "AUTH", /Authentication required/],
  ] as const)("an agent whose start is: %s", async (start, code, message) => {
    const asking = turn("hello");
    const ran = await runTurn(provider({}, { FAKE_ACP_START: start }), asking);
    expect(ran.outcome).toMatchObject(
      failed(code, { message: expect.stringMatching(message), modelNotAsked: true, retryable: false }),
    );
    expect(await marked(asking.childMark)).toBe(0);
  });

  test("an agent that is not there", async () => {
    const ran = await runTurn(provider({ command: ["no-such-agent"] }), turn("hello"));
    expect(ran.outcome).toMatchObject(
      failed("UNAVAILABLE", { message: expect.stringContaining("no-such-agent") }),
    );
  });

  test("a workspace that is not there", async () => {
    const ran = await runTurn(provider(), turn("hello", { workspace: join(root, "nowhere") }));
    expect(ran.outcome).toMatchObject(failed("UNAVAILABLE", { message: expect.stringContaining("nowhere") }));
  });
});

test("says its version", async () => {
  expect(await provider().health()).toEqual({ available: true, detail: "1.2.3 (fake)" });
});
