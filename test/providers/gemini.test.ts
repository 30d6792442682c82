import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { createGeminiProvider, type GeminiOptions } from "../../src/providers/gemini/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { Provider, ProviderTurn } from "../../src/turns/provider.js";
import { answerOf, atFirst, type Ran, runTurn, turnOf } from "./turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-gemini.mjs", import.meta.url));
const never = { processes: 0, idleMs: 1_000, ahead: 0 };

let root: string;
let workspace: string;
let store: string;
const opened: Provider[] = [];

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "gemini-provider-"));
  workspace = join(root, "workspace");
  mkdirSync(workspace);
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

function provider(options: Partial<GeminiOptions> = {}) {
  store = join(root, randomUUID());
  return another(options);
}

/** A provider that shares what the agents of the last one remember. */
function another(options: Partial<GeminiOptions> = {}) {
  const created = createGeminiProvider({
    id: "gemini",
    executable,
    environment: { FAKE_ACP_STORE: store },
    parentEnvironment: process.env,
    endingSteps: [
      { signal: "SIGTERM", waitMs: 500 },
      { signal: "SIGKILL", waitMs: 10_000 },
    ],
    ...options,
  });
  opened.push(created);
  return created;
}

const once = (options: Partial<GeminiOptions> = {}) => provider({ warm: never, ...options });
const turn = (text: string, fields: Partial<ProviderTurn> = {}) =>
  turnOf(text, { workspace, binding: { state: "fresh" }, ...fields });
const historyOf = (answer: string) => JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
const marked = async (mark: string) => (await findMarked((each) => each === mark)).length;
const failed = (code: keyof typeof TurnErrorCode, more = {}) => ({
  status: "failed",
  code: TurnErrorCode[code],
  ...more,
});

function nativeIdOf(ran: Ran): string {
  const [started] = ran.events;
  if (started?.kind !== "started" || started.nativeId === undefined) throw new Error("the turn has no id");
  return started.nativeId;
}

const bound = (ran: Ran) => ({ state: "bound", nativeId: nativeIdOf(ran) }) as const;
const provisional = (ran: Ran) => ({ state: "provisional", nativeId: nativeIdOf(ran) }) as const;

describe("a process that stays", () => {
  test("is kept for the next turn", async () => {
    const agent = provider();
    const asking = turn("one");
    const first = await runTurn(agent, asking);
    const second = await runTurn(agent, {
      ...turn("two", { binding: bound(first) }),
      recordNo: asking.recordNo,
    });
    expect(historyOf(answerOf(second))).toEqual(["one", "two"]);
    expect(second.events[0]).toMatchObject({ warm: true, resumed: true });
  });

  test("is followed by runs once it is gone, in the same conversation", async () => {
    const first = await runTurn(provider(), turn("one"));
    await opened.pop()?.close();
    const agent = another();
    const second = await runTurn(agent, turn("two", { binding: bound(first) }));
    const third = await runTurn(agent, turn("three", { binding: bound(first) }));
    expect(historyOf(answerOf(third))).toEqual(["one", "two", "three"]);
    for (const { events } of [second, third]) {
      expect(events[0]).toEqual({ kind: "started", nativeId: nativeIdOf(first), resumed: true, warm: false });
    }
    const notes = readFileSync(join(store, "notes"), "utf8");
    expect(notes).not.toContain("session/load");
  });

  test("is told the model that the configuration begins with", async () => {
    const file = join(root, "warm-environment.json");
    await runTurn(provider({ models: ["large"], extraArgs: ["--x"] }), turn(`[[environment ${file}]]`));
    const { args } = JSON.parse(readFileSync(file, "utf8"));
    expect(args.slice(2)).toEqual(["--acp", "--model=large", "--x"]);
  });
});

describe("a run for each turn", () => {
  test("begins a conversation under a new id and is answered by its pieces", async () => {
    const ran = await runTurn(once(), turn("hello"));
    const nativeId = nativeIdOf(ran);
    expect(ran.events[0]).toEqual({ kind: "started", nativeId, resumed: false, warm: false });
    expect(ran.outcome).toEqual({
      status: "completed",
      text: 'turns=1 history=["hello"]',
      finishReason: FinishReason.STOP,
      nativeId,
      model: "fake-model",
      usage: {
        inputTokens: 10,
        cacheReadTokens: 3,
        cacheWriteTokens: 0,
        outputTokens: 11,
        reasoningTokens: 0,
      },
    });
    expect(ran.text).toBe(answerOf(ran));
  });

  test("remembers", async () => {
    const agent = once();
    const first = await runTurn(agent, turn("one"));
    const second = await runTurn(agent, turn("two", { binding: bound(first) }));
    expect(historyOf(answerOf(second))).toEqual(["one", "two"]);
    expect(second.events[0]).toMatchObject({ resumed: true, nativeId: nativeIdOf(first) });
  });

  test.each([randomUUID(), "a title", "--help", "latest", "1"])(
    "of the unknown conversation %j is lost",
    async (id) => {
      const ran = await runTurn(once(), turn("hello", { binding: { state: "bound", nativeId: id } }));
      expect(ran.events.map(({ kind }) => kind)).toEqual(["end"]);
      expect(ran.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
    },
  );

  test("goes on with what a failed turn has begun, and begins anew if it has not", async () => {
    const agent = once();
    const first = await runTurn(agent, turn("one [[fail 500]]"));
    const second = await runTurn(agent, turn("two", { binding: provisional(first) }));
    expect(historyOf(answerOf(second))).toEqual(["one [[fail 500]]", "two"]);
    const lost = await runTurn(agent, turn("three [[lose]] [[fail 500]]"));
    const next = await runTurn(agent, turn("four", { binding: provisional(lost) }));
    expect(historyOf(answerOf(next))).toEqual(["four"]);
    expect(nativeIdOf(next)).not.toBe(nativeIdOf(lost));
  });

  test("gets its prompt, its settings and nothing else of the broker's", async () => {
    const file = join(root, "environment.json");
    const asking = turn(`--help [[environment ${file}]]`, { model: "large" });
    const parentEnvironment = { PATH: process.env.PATH, GEMINI_API_KEY: "key", OPENAI_API_KEY: "other" };
    const ran = await runTurn(once({ parentEnvironment, extraArgs: ["--x"], permissions: "allow" }), asking);
    const { args, ...environment } = JSON.parse(readFileSync(file, "utf8"));
    expect(args).toEqual([
      "--output-format=stream-json",
      "--approval-mode=yolo",
      `--session-id=${nativeIdOf(ran)}`,
      "--model=large",
      "--x",
    ]);
    expect(environment).toEqual({
      PATH: process.env.PATH,
      GEMINI_API_KEY: "key",
      GEMINI_CLI_NO_RELAUNCH: "true",
      GEMINI_CLI_TRUST_WORKSPACE: "true",
      FAKE_ACP_STORE: store,
      SESSION_BROKER_CHILD: asking.childMark,
    });
  });

  test("is no command, reads no file, and is told what it has not seen", async () => {
    const agent = once();
    const command = await runTurn(agent, turn(" /memory @a.txt"));
    expect(historyOf(answerOf(command))).toEqual(["The message of the user is:\n /memory \\@a.txt"]);
    const told = await runTurn(
      agent,
      turn("who?", { system: "Be brief.", unseen: [{ user: "I am Ada", assistant: "Hello" }] }),
    );
    expect(historyOf(answerOf(told))[0]).toMatch(
      /^<system_prompt>\nBe brief\.\n<\/system_prompt>\n\n<earlier_conversation>[\s\S]*I am Ada[\s\S]*\n\nwho\?$/,
    );
  });

  test("takes no image and no empty message", async () => {
    const image = { kind: "image", mediaType: "image/png", name: "", data: new Uint8Array([1]) } as const;
    for (const input of [[image], [{ kind: "text", text: " " } as const]]) {
      const ran = await runTurn(once(), turn("", { input }));
      expect(ran.outcome).toMatchObject(failed("INVALID_REQUEST", { modelNotAsked: true }));
    }
  });

  test("tells of its tools", async () => {
    const ran = await runTurn(once(), turn("[[steps]]"));
    expect(ran.events.slice(2, 4)).toEqual([
      { kind: "tool-call", id: "call-1", name: "read_file", input: '{"path":"a.txt"}' },
      { kind: "tool-result", id: "call-1", output: "hi", isError: false },
    ]);
    expect(ran.text).toMatch(/^Looking\.\n\nturns=1/);
  });

  test("is whole if it comes byte by byte, and drops what follows its end", async () => {
    const ran = await runTurn(once(), turn("Zoë 😀 [[bytes]] [[more]] [[flood 3]]"));
    expect(historyOf(ran.text)).toEqual(["Zoë 😀 [[bytes]] [[more]] [[flood 3]]"]);
    expect(ran.text).toBe(answerOf(ran));
  });

  test.each([
    ["[[fail 401]]", "AUTH"],
    ["[[fail 429]]", "RATE_LIMITED"],
    ["[[fail 500]]", "PROVIDER_ERROR"],
    ["[[fail 529]]", "OVERLOADED"],
    ["[[fail 400]]", "INVALID_REQUEST"],
    ["[[cut]]", "PROVIDER_ERROR"],
    ["[[loop]]", "PROVIDER_ERROR"],
    ["[[empty]]", "PROVIDER_ERROR"],
    ["[[crash]]", "CRASHED"],
    ["[[exit 1]]", "CRASHED"],
    ["[[wrong]]", "PROVIDER_ERROR"],
  ] as const)("fails by %s", async (text, code) => {
    const asking = turn(text);
    const ran = await runTurn(once(), asking);
    expect(ran.outcome).toMatchObject(failed(code, { modelNotAsked: false }));
    expect(await marked(asking.childMark)).toBe(0);
  });

  test.each(["hang", "deaf", "silent"])("that would %s is cancelled, and leaves nothing", async (how) => {
    const stop = new AbortController();
    const asking = turn(`[[${how}]]`, { signal: stop.signal });
    const running = runTurn(
      once(),
      asking,
      atFirst("text", () => stop.abort()),
    );
    if (how === "silent") await expect.poll(() => marked(asking.childMark), { timeout: 20_000 }).toBe(1);
    if (how === "silent") stop.abort();
    expect((await running).outcome).toMatchObject({ status: "cancelled" });
    expect(await marked(asking.childMark)).toBe(0);
  });

  test("that ends with code 0 by a signal from outside has not succeeded", async () => {
    const asking = turn("[[hang]]");
    const ran = await runTurn(
      once(),
      asking,
      atFirst("text", async () => {
        for (const { pid } of await findMarked((mark) => mark === asking.childMark))
          process.kill(pid, "SIGTERM");
      }),
    );
    expect(ran.outcome).toMatchObject(failed("CRASHED", { message: expect.stringContaining("code 0") }));
  });

  test.each(["hang", "silent"])("that says nothing for too long (%s)", async (how) => {
    const ran = await runTurn(once({ silenceTimeoutMs: 1_000 }), turn(`[[${how}]]`));
    expect(ran.outcome).toMatchObject(failed("NO_OUTPUT_TIMEOUT", { retryable: true }));
  });

  test("that takes too long", async () => {
    const ran = await runTurn(once(), turn("[[hang]]", { timeoutMs: 1_000 }));
    expect(ran.outcome).toMatchObject(failed("TIMEOUT", { retryable: true }));
  });

  test("that says too much", async () => {
    const ran = await runTurn(once({ limits: { maxLines: 100 } }), turn("[[flood 200]]"));
    expect(ran.outcome).toMatchObject(failed("OUTPUT_LIMIT"));
  });

  test("is ended when the provider closes", async () => {
    const agent = once();
    const asking = turn("[[hang]]");
    const ran = await runTurn(
      agent,
      asking,
      atFirst("text", () => void agent.close()),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
    expect(await marked(asking.childMark)).toBe(0);
  });
});

test.each([{}, { warm: never }])("an agent that is not there (%j)", async (mode) => {
  const ran = await runTurn(provider({ ...mode, executable: "no-such-gemini" }), turn("hello"));
  expect(ran.outcome).toMatchObject(
    failed("UNAVAILABLE", { message: expect.stringContaining("no-such-gemini") }),
  );
});

test("says what each mode can do", () => {
  const kept = provider({ permissions: "ask" });
  expect(kept.kind).toBe("gemini");
  expect(kept.capabilities).toMatchObject({ warm: true, permissionRequests: true, images: false });
  expect(once({ permissions: "ask" }).capabilities).toMatchObject({ warm: false, permissionRequests: false });
});
