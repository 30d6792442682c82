/**
 * What is said to a turn that runs, with the real command line; the parts that
 * the program of the fixtures could only claim. See claude-real.test.ts.
 */
import { randomUUID } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { findMarked } from "../../src/providers/marks.js";
import type { ProviderEvent, ProviderTurn } from "../../src/turns/provider.js";
import { openRealClaude, type RealClaude, realExecutable } from "./real-claude.js";
import { answerOf, atFirst, followRun, type Ran, runTurn, textInput, turnOf } from "./turns.js";

const title =
  realExecutable === ""
    ? "the real Claude Code (skipped: SESSION_BROKER_TEST_CLAUDE names no executable)"
    : "the real Claude Code";

describe.skipIf(realExecutable === "")(title, { timeout: 60_000 }, () => {
  // Signals would come too late for these tests to pass.
  const patient = { interruptMs: 50_000 };
  let claude: RealClaude;
  const marks: string[] = [];

  beforeAll(async () => {
    claude = await openRealClaude();
  });

  afterEach(async () => {
    expect(await findMarked((mark) => marks.includes(mark))).toEqual([]);
    marks.length = 0;
  });

  afterAll(() => claude?.close());

  function turn(text: string, fields: Partial<ProviderTurn> = {}): ProviderTurn {
    const asked = turnOf(text, { workspace: claude.workspace, ...fields });
    marks.push(asked.childMark);
    return asked;
  }

  const fresh = (nativeId: string) => ({ state: "fresh", nativeId }) as const;
  const bash = (command: string) => `[[tool Bash ${JSON.stringify({ command, description: "d" })}]]`;
  const sentIn = (nativeId: string) => JSON.stringify(claude.requestsOf(nativeId).at(-1)?.body.messages);
  const usageOf = ({ outcome }: Ran) => {
    if (outcome.usage?.costUsd === undefined || outcome.total === undefined) throw new Error("no usage");
    return { ...outcome.usage, costUsd: outcome.usage.costUsd, totalUsd: outcome.total.costUsd ?? 0 };
  };

  test("takes text in while a tool runs: one answer, which the text is part of", async () => {
    const nativeId = randomUUID();
    const options = { extraArgs: ["--allowedTools=Bash"] };
    // The tool ends when the text has been written.
    const command = "until test -e go-on; do sleep 0.05; done; echo worked";
    const run = claude.provider(options).run(turn(`one ${bash(command)}`, { binding: fresh(nativeId) }));
    const ran = await followRun(
      run,
      atFirst("tool-call", async () => {
        expect(await run.steer?.(textInput("and the second thing"))).toBe(true);
        writeFileSync(join(claude.workspace, "go-on"), "");
      }),
    );
    expect(answerOf(ran)).toContain("worked");
    expect(sentIn(nativeId)).toContain("and the second thing");
    const { costUsd, totalUsd } = usageOf(ran);
    expect(costUsd).toBeCloseTo(totalUsd, 9);
  });

  test.each(["and the second thing", "/clear"])(
    "answers %j, said while text streams, next and in the same turn",
    async (said) => {
      const nativeId = randomUUID();
      const prompt = "one [[slow 100]] [[chunks 8]]";
      const run = claude.provider().run(turn(prompt, { binding: fresh(nativeId) }));
      const ran = await followRun(
        run,
        atFirst("text", async () => expect(await run.steer?.(textInput(said))).toBe(true)),
      );
      const [first, second] = answerOf(ran).split("\n\n");
      expect(first).toContain("turns=1");
      expect(second).toContain("turns=2");
      expect(second).toContain(said);
      const { costUsd, totalUsd, outputTokens } = usageOf(ran);
      expect(costUsd).toBeCloseTo(totalUsd, 9);
      expect(outputTokens).toBeGreaterThan(15);
      // The conversation is what the next turn expects it to be.
      const binding = { state: "bound", nativeId } as const;
      const next = await runTurn(
        claude.provider(),
        turn("three", { binding, previousTotal: { costUsd: totalUsd } }),
      );
      expect(answerOf(next)).toContain("turns=3");
      expect(usageOf(next).costUsd + totalUsd).toBeCloseTo(usageOf(next).totalUsd, 9);
    },
  );

  test("stops in mid-answer when it is asked to", async () => {
    const abort = new AbortController();
    const run = claude.provider(patient).run(turn("one [[hang]]", { signal: abort.signal }));
    const ran = await followRun(
      run,
      atFirst("text", () => abort.abort()),
    );
    expect(ran.outcome.status).toBe("cancelled");
    expect(usageOf(ran).costUsd).toBeGreaterThan(0);
  });

  test("stops before it has begun when it is asked to, and no model is asked", async () => {
    const nativeId = randomUUID();
    const abort = new AbortController();
    const agent = claude.provider(patient);
    // The version is known, so that the process starts at once.
    await agent.health();
    const asked = turn("one", { binding: fresh(nativeId), signal: abort.signal });
    const running = runTurn(agent, asked);
    await expect.poll(async () => (await findMarked((mark) => mark === asked.childMark)).length).toBe(1);
    abort.abort();
    expect((await running).outcome.status).toBe("cancelled");
    expect(claude.requestsOf(nativeId)).toEqual([]);
  });

  test("stops while lines wait, and forgets them", async () => {
    const nativeId = randomUUID();
    const abort = new AbortController();
    const asked = turn("one [[hang]]", { binding: fresh(nativeId), signal: abort.signal });
    const run = claude.provider(patient).run(asked);
    const ran = await followRun(
      run,
      atFirst("text", async () => {
        expect(await run.steer?.(textInput("never mind this"))).toBe(true);
        abort.abort();
      }),
    );
    expect(ran.outcome.status).toBe("cancelled");
    const binding = { state: "provisional", nativeId } as const;
    expect(answerOf(await runTurn(claude.provider(), turn("two", { binding })))).toContain("two");
    expect(sentIn(nativeId)).not.toContain("never mind this");
  });

  test("stops a tool when it is asked to", async () => {
    const abort = new AbortController();
    const options = { ...patient, extraArgs: ["--allowedTools=Bash"] };
    const asked = turn(bash("tail -f /dev/null"), { signal: abort.signal });
    const running = runTurn(claude.provider(options), asked);
    // The agent itself, its shell and the program.
    await expect
      .poll(async () => (await findMarked((mark) => mark === asked.childMark)).length, { timeout: 20_000 })
      .toBeGreaterThanOrEqual(3);
    abort.abort();
    expect((await running).outcome.status).toBe("cancelled");
  });

  describe("asked whether a tool may be used", () => {
    type Permission = Extract<ProviderEvent, { kind: "permission" }>;
    const command = (file: string) => ({ command: `touch ${file} && echo made`, description: "d" });
    const asking = () => claude.provider({ ...patient, permissions: "ask" });

    async function decided(file: string, decide: (event: Permission) => unknown, fields = {}) {
      const prompt = `[[tool Bash ${JSON.stringify(command(file))}]]`;
      const ran = await runTurn(asking(), turn(prompt, fields), (event) =>
        event.kind === "permission" ? decide(event) : undefined,
      );
      return { ran, isMade: existsSync(join(claude.workspace, file)) };
    }

    test("it uses it when that is allowed, this once", async () => {
      const nativeId = randomUUID();
      const asked: Permission[] = [];
      const allow = (event: Permission) => {
        asked.push(event);
        event.decide({ allowed: true, message: "" });
      };
      const { ran, isMade } = await decided("allowed", allow, { binding: fresh(nativeId) });
      expect(asked.map(({ tool, input }) => [tool, JSON.parse(input)])).toEqual([
        ["Bash", command("allowed")],
      ]);
      expect(answerOf(ran)).toContain("made");
      expect(isMade).toBe(true);
      // Allowed once is not allowed for ever.
      await decided("allowed", allow, { binding: { state: "bound", nativeId } });
      expect(asked).toHaveLength(2);
    });

    test("it does without when that is denied, and is told why", async () => {
      const { ran, isMade } = await decided("denied", (event) =>
        event.decide({ allowed: false, message: "not on a Sunday" }),
      );
      expect(answerOf(ran)).toContain("not on a Sunday");
      expect(isMade).toBe(false);
    });

    test("it stops while it waits when it is asked to", async () => {
      const abort = new AbortController();
      const { ran, isMade } = await decided("stopped", () => abort.abort(), { signal: abort.signal });
      expect(ran.outcome.status).toBe("cancelled");
      expect(isMade).toBe(false);
    });

    test("it has no tools whose questions could not be answered", async () => {
      const nativeId = randomUUID();
      answerOf(await runTurn(asking(), turn("hello", { binding: fresh(nativeId) })));
      const tools = JSON.stringify(claude.requestsOf(nativeId).map((each) => each.body.tools));
      expect(tools).toContain('"Bash"');
      expect(tools).not.toMatch(/"(?:AskUserQuestion|EnterPlanMode|ExitPlanMode)"/);
    });
  });
});
