/**
 * The providers `gemini` and `acp` with the real Gemini CLI, against the model
 * server of the fixtures. Wants SESSION_BROKER_TEST_GEMINI, the path of the
 * executable; see scripts/install-gemini.mjs.
 */
import { randomUUID } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { createAcpProvider } from "../../src/providers/acp/index.js";
import { createGeminiProvider, type GeminiOptions } from "../../src/providers/gemini/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { Provider, ProviderEvent, ProviderTurn } from "../../src/turns/provider.js";
import { openRealGemini, type RealGemini, realExecutable } from "./real-gemini.js";
import { answerOf, atFirst, type Ran, runTurn, turnOf } from "./turns.js";

const title =
  realExecutable === ""
    ? "the real Gemini CLI (skipped: SESSION_BROKER_TEST_GEMINI names no executable)"
    : "the real Gemini CLI";

const models = ["gemini-2.5-flash"];
const never = { processes: 0, idleMs: 1_000, ahead: 0 };
const modes = [
  ["kept between turns", {}],
  ["started for each turn", { warm: never }],
] as const;

describe.skipIf(realExecutable === "")(title, { timeout: 60_000 }, () => {
  let gemini: RealGemini;
  const opened: Provider[] = [];

  /** A conversation that will be older than a minute when it is loaded. */
  let earlier: Awaited<ReturnType<typeof converse>>["session"];
  let earlierAtMs: number;

  beforeAll(async () => {
    gemini = await openRealGemini();
    earlierAtMs = Date.now();
    const once = provider({ warm: never });
    ({ session: earlier } = await converse(["one", "two", "three"], () => once));
  });

  afterEach(async () => {
    await Promise.all(opened.splice(0).map((each) => each.close()));
  });

  afterAll(() => gemini?.close());

  function provider(options: Partial<GeminiOptions> = {}) {
    const { environment } = gemini;
    const created = createGeminiProvider({
      id: "gemini",
      executable: realExecutable,
      models,
      environment,
      parentEnvironment: {},
      ...options,
    });
    opened.push(created);
    return created;
  }

  function acpProvider() {
    const { environment } = gemini;
    const command = [realExecutable, "--acp", "--model=gemini-2.5-flash"] as const;
    const created = createAcpProvider({ id: "acp", command: [...command], environment });
    opened.push(created);
    return created;
  }

  const turn = (text: string, fields: Partial<ProviderTurn> = {}) =>
    turnOf(text, { workspace: gemini.workspace, binding: { state: "fresh" }, ...fields });
  const historyOf = (answer: string): string[] =>
    JSON.parse(/history=(\[.*?\])(?: tool=|$)/s.exec(answer)?.[1] ?? "[]");
  const marked = async (asked: ProviderTurn) => (await findMarked((mark) => mark === asked.childMark)).length;

  function nativeIdOf(ran: Ran): string {
    const [started] = ran.events;
    if (started?.kind !== "started" || started.nativeId === undefined) throw new Error("the turn has no id");
    return started.nativeId;
  }

  /** Turns of one session that all succeed; `between` is done after each. */
  async function converse(
    texts: readonly string[],
    agent: () => Provider,
    between: () => Promise<unknown> = async () => {},
    begun: ProviderTurn["binding"] = { state: "fresh" },
  ) {
    const { recordNo, childMark } = turn("");
    const ran: Ran[] = [];
    let binding = begun;
    for (const text of texts) {
      const one = await runTurn(agent(), turn(text, { recordNo, childMark, binding }));
      ran.push(one);
      answerOf(one);
      binding = { state: "bound", nativeId: nativeIdOf(one) };
      await between();
    }
    return { ran, session: { recordNo, childMark, binding } };
  }

  describe.each(modes)("%s", (_, mode) => {
    test("remembers, counts tokens and keeps its id", async () => {
      const agent = provider(mode);
      const { ran } = await converse(["my name is Ada", "and who am I?", "sure?"], () => agent);
      expect(historyOf(answerOf(ran[2] as Ran))).toEqual(["my name is Ada", "and who am I?", "sure?"]);
      expect(new Set(ran.map(nativeIdOf)).size).toBe(1);
      for (const { outcome, text } of ran) {
        expect(outcome).toMatchObject({ text, model: models[0], usage: { outputTokens: 11 } });
      }
    });

    test.each(["/help", " /memory show", "$x", "@README.md what?", "-p", "?", "!echo hi"])(
      "hands the prompt %j to the model, and remembers it in another process",
      async (prompt) => {
        writeFileSync(join(gemini.workspace, "README.md"), "text of the readme");
        let agent = provider(mode);
        const again = async () => {
          await agent.close();
          agent = provider(mode);
        };
        const { ran } = await converse([prompt, "next"], () => agent, again);
        expect(historyOf(answerOf(ran[1] as Ran))).toEqual([
          expect.stringContaining(prompt.trim().slice(1)),
          "next",
        ]);
        expect(gemini.requests().some((each) => each.includes("text of the readme"))).toBe(false);
      },
    );

    test("loses a conversation that it does not know, and asks no model", async () => {
      const before = gemini.requests().length;
      const binding = { state: "bound", nativeId: randomUUID() } as const;
      const ran = await runTurn(provider(mode), turn("hello", { binding }));
      expect(ran.events.map((event) => event.kind)).toEqual(["end"]);
      expect(ran.outcome).toMatchObject({ code: TurnErrorCode.NATIVE_SESSION_LOST, modelNotAsked: true });
      expect(gemini.requests()).toHaveLength(before);
    });

    test.each([
      ["401 no", "AUTH"],
      ["429 slow down", "RATE_LIMITED"],
      ["500 broken", "PROVIDER_ERROR"],
      ["529 busy", "OVERLOADED"],
      ["400 bad", "INVALID_REQUEST"],
    ] as const)("status %s, and goes on", async (status, code) => {
      const agent = provider(mode);
      const asking = turn(`one [[status ${status}]]`);
      const ran = await runTurn(agent, asking);
      expect(ran.outcome).toMatchObject({ code: TurnErrorCode[code], modelNotAsked: false });
      const binding = { state: "provisional", nativeId: nativeIdOf(ran) } as const;
      const next = await runTurn(agent, { ...turn("two", { binding }), recordNo: asking.recordNo });
      expect(historyOf(answerOf(next)).at(-1)).toContain("two");
    });

    test("an answer that is cut is none", async () => {
      const ran = await runTurn(provider(mode), turn("one [[cut]]"));
      expect(ran.text).not.toBe("");
      expect(ran.outcome).toMatchObject({ code: TurnErrorCode.PROVIDER_ERROR, retryable: true });
    });

    test("is cancelled in the middle of an answer, leaves no process behind and goes on", async () => {
      const agent = provider(mode);
      const stop = new AbortController();
      const asking = turn("one [[hang]]", { signal: stop.signal });
      const ran = await runTurn(
        agent,
        asking,
        atFirst("text", () => stop.abort()),
      );
      expect(ran.outcome).toMatchObject({ status: "cancelled" });
      expect(await marked(asking)).toBe("warm" in mode ? 0 : 1);
      const binding = { state: "provisional", nativeId: nativeIdOf(ran) } as const;
      const next = await runTurn(agent, { ...turn("two", { binding }), recordNo: asking.recordNo });
      expect(historyOf(answerOf(next)).at(-1)).toContain("two");
      await agent.close();
      expect(await marked(asking)).toBe(0);
    });

    test("uses no tool that needs a permission unless it is allowed", async () => {
      const call = (file: string) => `[[tool write_file {"file_path":"${file}","content":"hi"}]]`;
      const file = `${randomUUID()}.txt`;
      await runTurn(provider(mode), turn(call(file)));
      expect(existsSync(join(gemini.workspace, file))).toBe(false);
      const ran = await runTurn(provider({ ...mode, permissions: "allow" }), turn(call(file)));
      expect(readFileSync(join(gemini.workspace, file), "utf8")).toBe("hi");
      expect(ran.events.map(({ kind }) => kind)).toEqual(
        expect.arrayContaining(["tool-call", "tool-result"]),
      );
    });
  });

  test.each(modes)("%s, a loop of the model is no answer", async (_, mode) => {
    // The CLI tells one by what repeats itself; the answer has the prompt in it.
    const { outcome } = await runTurn(provider(mode), turn("x".repeat(2_000)));
    expect(outcome).toMatchObject({ status: "failed", code: TurnErrorCode.PROVIDER_ERROR });
  });

  test("a conversation of the process that stays goes on in runs of their own, as often as one likes", async () => {
    let agent = provider();
    const again = async () => {
      await agent.close();
      agent = provider();
    };
    const { ran } = await converse(["one", "two", "three", "four"], () => agent, again);
    expect(historyOf(answerOf(ran[3] as Ran))).toEqual(["one", "two", "three", "four"]);
    expect(ran.map(({ events }) => events[0])).toEqual([
      expect.objectContaining({ resumed: false }),
      expect.objectContaining({ resumed: true, warm: false }),
      expect.objectContaining({ resumed: true, warm: false }),
      expect.objectContaining({ resumed: true, warm: false }),
    ]);
  });

  test.each(modes)(
    "%s, without session retention, a conversation that another process begins is left alone",
    async (_, mode) => {
      const nativeId = nativeIdOf(await runTurn(provider(mode), turn("one")));
      const config = join(gemini.workspace, "..", "home", ".gemini");
      const files = readdirSync(config, { recursive: true, encoding: "utf8" });
      const file = files.find((each) => each.endsWith(`-${nativeId.slice(0, 8)}.jsonl`)) ?? "";
      const [head = ""] = readFileSync(join(config, file), "utf8").split("\n");
      // What it looks like before its first message.
      const begun = randomUUID();
      const begunFile = join(config, file.replace(nativeId.slice(0, 8), begun.slice(0, 8)));
      writeFileSync(begunFile, `${head.replaceAll(nativeId, begun)}\n`);
      await runTurn(provider(mode), turn("beside"));
      expect(existsSync(begunFile)).toBe(true);
    },
  );

  test("asks whether it may use a tool", async () => {
    const file = `${randomUUID()}.txt`;
    const call = `[[tool write_file {"file_path":"${file}","content":"hi"}]]`;
    let question: ProviderEvent | undefined;
    const ran = await runTurn(provider({ permissions: "ask" }), turn(call), (event) => {
      if (event.kind !== "permission") return;
      question = event;
      event.decide({ allowed: true, message: "" });
    });
    expect(question).toMatchObject({
      tool: expect.stringContaining("Writing to"),
      input: expect.stringContaining(file),
    });
    expect(readFileSync(join(gemini.workspace, file), "utf8")).toBe("hi");
    expect(answerOf(ran)).toContain(" tool=");
  });

  test("uses the model that a turn names", async () => {
    const agent = provider();
    const { session } = await converse(["one"], () => agent);
    const ran = await runTurn(agent, turn("two", { ...session, model: "gemini-2.5-pro" }));
    expect(ran.outcome).toMatchObject({ status: "completed", model: "gemini-2.5-pro" });
  });

  test("says its version", async () => {
    expect(await provider().health()).toMatchObject({
      available: true,
      detail: expect.stringMatching(/^\d+\./),
    });
  });

  describe("as any agent of the protocol", () => {
    test("remembers in its process", async () => {
      const agent = acpProvider();
      const { ran } = await converse(["one", "two"], () => agent);
      expect(ran.map(({ text }) => historyOf(text))).toEqual([["one"], ["one", "two"]]);
      expect(ran[1]?.events[0]).toMatchObject({ warm: true, resumed: true });
    });

    test("loads a conversation into another process, and shows none of its history", async () => {
      // In the minute in which it began, loading would empty its file.
      const nextMinuteMs = 60_000 - (earlierAtMs % 60_000) - (Date.now() - earlierAtMs);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, nextMinuteMs)));
      const ran = await runTurn(acpProvider(), turn("four", earlier));
      expect(historyOf(answerOf(ran))).toEqual(["one", "two", "three", "four"]);
      expect(ran.text).toMatch(/^turns=4 /);
    }, 120_000);
  });
});
