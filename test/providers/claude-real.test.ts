/**
 * The provider with the real command line, against the model server of the
 * fixtures. Wants SESSION_BROKER_TEST_CLAUDE, the path of the executable; see
 * scripts/install-agent.mjs.
 */
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { ClaudeOptions } from "../../src/providers/claude/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { ProviderTurn } from "../../src/turns/provider.js";
import { openRealClaude, type RealClaude, realExecutable } from "./real-claude.js";
import { answerOf, runTurn, turnOf } from "./turns.js";

const title =
  realExecutable === ""
    ? "the real Claude Code (skipped: SESSION_BROKER_TEST_CLAUDE names no executable)"
    : "the real Claude Code";

describe.skipIf(realExecutable === "")(title, { timeout: 60_000 }, () => {
  let claude: RealClaude;
  let workspace: string;

  beforeAll(async () => {
    claude = await openRealClaude();
    workspace = claude.workspace;
  });

  afterAll(() => claude?.close());

  const provider = (options: Partial<ClaudeOptions> = {}) => claude.provider(options);
  const requestsOf = (nativeId: string) => claude.requestsOf(nativeId);

  const turn = (text: string, fields: Partial<ProviderTurn> = {}) => turnOf(text, { workspace, ...fields });
  const bound = (nativeId: string) => ({ state: "bound", nativeId }) as const;
  const fresh = (nativeId: string) => ({ state: "fresh", nativeId }) as const;
  const historyOf = (answer: string): string[] =>
    JSON.parse(/history=(\[.*?\])(?: tool=|$)/s.exec(answer)?.[1] ?? "[]");
  const marked = async (asked: ProviderTurn) => (await findMarked((mark) => mark === asked.childMark)).length;

  test("says its version", async () => {
    expect(await provider().health()).toMatchObject({
      available: true,
      detail: expect.stringMatching(/^\d+\./),
    });
  });

  test("remembers three turns, and the costs add up to the total", async () => {
    const nativeId = randomUUID();
    const agent = provider();
    const prompts = ["my name is Ada", "/etc/hosts is a file", "and who am I?"];
    let previousTotal = {};
    let costUsd = 0;
    for (const [at, prompt] of prompts.entries()) {
      const binding = at === 0 ? fresh(nativeId) : bound(nativeId);
      const ran = await runTurn(agent, turn(prompt, { binding, ...previousTotal }));
      expect(historyOf(answerOf(ran))).toEqual(prompts.slice(0, at + 1));
      expect(ran.text).toBe(answerOf(ran));
      expect(ran.events[0]).toEqual({ kind: "started", nativeId, resumed: at > 0, warm: false });
      if (ran.outcome.status !== "completed" || ran.outcome.total?.costUsd === undefined)
        throw new Error("no total");
      expect(ran.outcome.finishReason).toBe(FinishReason.STOP);
      expect(ran.outcome.usage).toMatchObject({ cacheReadTokens: 7, cacheWriteTokens: 5 });
      previousTotal = { previousTotal: ran.outcome.total };
      costUsd += ran.outcome.usage?.costUsd ?? 0;
      expect(costUsd).toBeCloseTo(ran.outcome.total.costUsd, 9);
    }
  });

  test.each([
    "/clear",
    "/compact",
    "/help",
    "/init",
    "/cost",
    "-p",
    "--version",
    "!echo hi",
    "@README.md what?",
  ])("hands the prompt %j to the model", async (prompt) => {
    const nativeId = randomUUID();
    writeFileSync(join(workspace, "README.md"), "text of the readme");
    const ran = await runTurn(provider(), turn(prompt, { binding: fresh(nativeId) }));
    expect(historyOf(answerOf(ran))).toEqual([prompt]);
    expect(JSON.stringify(requestsOf(nativeId))).not.toContain("text of the readme");
  });

  test("loses a conversation that it does not know, and asks no model", async () => {
    const nativeId = randomUUID();
    const ran = await runTurn(provider(), turn("hello", { binding: bound(nativeId) }));
    expect(ran.events.map((event) => event.kind)).toEqual(["end"]);
    expect(ran.outcome).toMatchObject({ code: TurnErrorCode.NATIVE_SESSION_LOST, modelNotAsked: true });
    expect(requestsOf(nativeId)).toEqual([]);
  });

  test("refuses an id that is in use", async () => {
    const nativeId = randomUUID();
    answerOf(await runTurn(provider(), turn("one", { binding: fresh(nativeId) })));
    const ran = await runTurn(provider(), turn("two", { binding: fresh(nativeId) }));
    expect(ran.outcome).toMatchObject({ code: TurnErrorCode.ID_IN_USE, modelNotAsked: true });
  });

  test("goes on after a first turn that failed", async () => {
    const nativeId = randomUUID();
    const first = await runTurn(provider(), turn("one [[status 529 busy]]", { binding: fresh(nativeId) }));
    expect(first.outcome).toMatchObject({ code: TurnErrorCode.OVERLOADED, retryable: true });
    const binding = { state: "provisional", nativeId } as const;
    const second = await runTurn(provider(), turn("two", { binding }));
    expect(historyOf(answerOf(second)).join("\n")).toContain("two");
    expect(second.events[0]).toMatchObject({ resumed: true, nativeId });
  });

  test("finds the conversation of a directory with a long path in use, and resumes it", async () => {
    const deep = join(workspace, "a_b.c d".repeat(20), "x".repeat(120));
    mkdirSync(deep, { recursive: true });
    const nativeId = randomUUID();
    await runTurn(provider(), turn("one [[status 529 busy]]", { binding: fresh(nativeId), workspace: deep }));
    const binding = { state: "provisional", nativeId } as const;
    const second = await runTurn(provider(), turn("two", { binding, workspace: deep }));
    expect(second.events[0]).toMatchObject({ resumed: true, nativeId });
    answerOf(second);
  });

  test.each([
    ["status 400 bad", "INVALID_REQUEST"],
    ["status 400 prompt is too long: 250000 tokens > 200000 maximum", "CONTEXT_OVERFLOW"],
    ["status 401 no", "AUTH"],
    ["status 429 slow down", "RATE_LIMITED"],
    ["status 500 boom", "PROVIDER_ERROR"],
    ["cut", "PROVIDER_ERROR"],
  ] as const)("says what [[%s]] is", async (directive, code) => {
    const ran = await runTurn(provider(), turn(`x [[${directive}]]`));
    expect(ran.outcome).toMatchObject({ status: "failed", code: TurnErrorCode[code] });
  });

  test("denies tools that were not allowed, and goes on", async () => {
    const prompt = `[[tool Bash {"command":"touch made","description":"d"}]]`;
    const ran = await runTurn(provider(), turn(prompt));
    expect(ran.events.find((event) => event.kind === "tool-result")).toMatchObject({ isError: true });
    expect(answerOf(ran)).toContain("denied");
    expect(existsSync(join(workspace, "made"))).toBe(false);
  });

  test("has no tools that act outside a turn", async () => {
    const nativeId = randomUUID();
    answerOf(await runTurn(provider(), turn("hello", { binding: fresh(nativeId) })));
    const sent = JSON.stringify(requestsOf(nativeId).map((each) => each.body.tools));
    expect(sent).toContain('"Bash"');
    expect(sent).not.toMatch(/"(?:Cron\w+|ScheduleWakeup|Monitor|Workflow)"/);
    expect(sent).not.toContain("run_in_background");
  });

  test("thinks, and uses an allowed tool, whose left-over process is gone with the turn", async () => {
    const command = "setsid tail -f /dev/null >/dev/null 2>&1 & echo tool output";
    const input = JSON.stringify({ command, description: "d" });
    const asked = turn(`[[think Hm.]] [[tool Bash ${input}]]`);
    const ran = await runTurn(provider({ extraArgs: ["--allowedTools=Bash"] }), asked);
    expect(ran.events.find((event) => event.kind === "reasoning")).toMatchObject({
      text: expect.any(String),
    });
    expect(ran.events.filter((event) => event.kind.startsWith("tool-"))).toMatchObject([
      { kind: "tool-call", name: "Bash", input: expect.stringContaining("setsid") },
      { kind: "tool-result", isError: false, output: expect.stringContaining("tool output") },
    ]);
    expect(answerOf(ran)).toContain("tool output");
    expect(await marked(asked)).toBe(0);
  });

  test("is interrupted in mid-answer, and can be followed", async () => {
    const nativeId = randomUUID();
    const abort = new AbortController();
    const asked = turn("one [[hang]]", { binding: fresh(nativeId), signal: abort.signal });
    const ran = await runTurn(provider(), asked, (event) => {
      if (event.kind === "text") abort.abort();
    });
    expect(ran.outcome.status).toBe("cancelled");
    expect(ran.outcome.usage?.costUsd).toBeGreaterThan(0);
    expect(await marked(asked)).toBe(0);
    const next = await runTurn(provider(), turn("two", { binding: { state: "provisional", nativeId } }));
    expect(historyOf(answerOf(next)).join("\n")).toMatch(/one.*two/s);
  });

  test("is interrupted while a tool runs, and the tool with it", async () => {
    const abort = new AbortController();
    const input = JSON.stringify({
      command: "setsid tail -f /dev/null & tail -f /dev/null",
      description: "d",
    });
    const asked = turn(`[[tool Bash ${input}]]`, { signal: abort.signal });
    const running = runTurn(provider({ extraArgs: ["--allowedTools=Bash"] }), asked);
    // The agent itself, its shell and two programs.
    while ((await marked(asked)) < 4) await new Promise((resolve) => setTimeout(resolve, 20));
    abort.abort();
    expect((await running).outcome.status).toBe("cancelled");
    expect(await marked(asked)).toBe(0);
  });

  test("gets the system prompt, the model, what it has not seen, and attachments", async () => {
    const nativeId = randomUUID();
    const png =
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const asked = turn("", {
      binding: fresh(nativeId),
      system: "Answer in the words of a sailor.",
      model: "claude-haiku-4-5",
      unseen: [{ user: "I am Ada", assistant: "Hello Ada" }],
      input: [
        { kind: "image", mediaType: "image/png", name: "dot.png", data: Buffer.from(png, "base64") },
        { kind: "file", mediaType: "text/plain", name: "note.txt", data: Buffer.from("text of the note") },
        { kind: "text", text: "/look at these" },
      ],
    });
    const ran = await runTurn(provider(), asked);
    expect(historyOf(answerOf(ran))[0]).toMatch(/Hello Ada.*\/look at these/s);
    expect(ran.outcome).toMatchObject({ model: "claude-haiku-4-5" });
    const body = requestsOf(nativeId).at(-1)?.body;
    expect(body?.model).toBe("claude-haiku-4-5");
    expect(JSON.stringify(body?.system)).toContain("Answer in the words of a sailor.");
    const content = JSON.stringify(body?.messages.at(-1)?.content);
    expect(content).toContain('"type":"image"');
    expect(content).toContain('"type":"document"');
    // A later turn keeps the system prompt without being given it.
    answerOf(await runTurn(provider(), turn("on", { binding: bound(nativeId) })));
    expect(JSON.stringify(requestsOf(nativeId).at(-1)?.body.system)).toContain("words of a sailor");
  });
});
