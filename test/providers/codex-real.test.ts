/**
 * The provider with the real command line, against the model server of the
 * fixtures. Wants SESSION_BROKER_TEST_CODEX, the path of the executable; see
 * scripts/install-agent.mjs.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { CodexOptions } from "../../src/providers/codex/index.js";
import { findMarked, killMarked } from "../../src/providers/marks.js";
import type { ProviderTurn, RunningTotal } from "../../src/turns/provider.js";
import { openRealCodex, type RealCodex, realCodexExecutable } from "./real-codex.js";
import { answerOf, atFirst, followRun, type Ran, runTurn, textInput, turnOf } from "./turns.js";

const title =
  realCodexExecutable === ""
    ? "the real Codex CLI (skipped: SESSION_BROKER_TEST_CODEX names no executable)"
    : "the real Codex CLI";

describe.skipIf(realCodexExecutable === "")(title, { timeout: 60_000 }, () => {
  let codex: RealCodex;
  let workspace: string;

  beforeAll(async () => {
    codex = await openRealCodex();
    workspace = codex.workspace;
  });

  afterAll(() => codex?.close());

  const provider = (options: Partial<CodexOptions> = {}) => codex.provider(options);
  const turn = (text: string, fields: Partial<ProviderTurn> = {}) =>
    turnOf(text, { workspace, binding: { state: "fresh" }, ...fields });
  const bound = (nativeId: string) => ({ state: "bound", nativeId }) as const;
  const historyOf = (answer: string): string[] =>
    JSON.parse(/history=(\[.*?\])(?: tool=|$)/s.exec(answer)?.[1] ?? "[]");
  const failed = (code: keyof typeof TurnErrorCode, more = {}) => ({
    status: "failed",
    code: TurnErrorCode[code],
    ...more,
  });
  const tool = (input: object) => `[[tool exec_command ${JSON.stringify(input)}]]`;
  const idOf = ({ events }: Ran): string => {
    const started = events.find((event) => event.kind === "started");
    if (started?.nativeId === undefined) throw new Error(`no native id: ${JSON.stringify(events)}`);
    return started.nativeId;
  };
  const marked = async ({ childMark }: ProviderTurn) => {
    const prefix = childMark.split("/").slice(0, 2).join("/");
    return (await findMarked((mark) => mark.startsWith(`${prefix}/`))).length;
  };
  /** Pids of the programs that a command of the turn has started. */
  const tailsOf = async ({ childMark }: ProviderTurn) => {
    const prefix = childMark.split("/").slice(0, 2).join("/");
    const found = await findMarked((mark) => mark.startsWith(`${prefix}/`));
    return found.map(({ pid }) => pid).filter((pid) => commandLine(pid).startsWith("tail"));
  };
  const commandLine = (pid: number) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      return "";
    }
  };

  test("says its version", async () => {
    expect(await provider().health()).toMatchObject({
      available: true,
      detail: expect.stringMatching(/\d+\.\d+\.\d+/),
    });
  });

  describe.each([
    ["app-server", {}],
    ["exec", { exec: true }],
  ] as const)("%s", (mode, options) => {
    const isServer = mode === "app-server";

    test("remembers turns, also those of another process, and counts each once", async () => {
      const total: RunningTotal[] = [];
      const sums = { inputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0, outputTokens: 0 };
      const prompts = [
        "my name is Ada",
        `${tool({ cmd: "echo hi" })}`,
        "/compact is no command",
        "and who am I?",
      ];
      const { recordNo } = turn("");
      let nativeId: string | undefined;
      for (const [at, prompt] of prompts.entries()) {
        const agent = provider(options);
        const binding = nativeId === undefined ? ({ state: "fresh" } as const) : bound(nativeId);
        const ran = await runTurn(
          agent,
          turn(prompt, { recordNo, binding, previousTotal: total.at(-1) ?? {} }),
        );
        expect(historyOf(answerOf(ran))).toEqual(prompts.slice(0, at + 1));
        expect(ran.text).toBe(answerOf(ran));
        expect(ran.events[0]).toMatchObject({ kind: "started", resumed: at > 0, warm: false });
        nativeId ??= idOf(ran);
        expect(idOf(ran)).toBe(nativeId);
        const { outcome } = ran;
        if (outcome.status !== "completed" || outcome.usage === undefined || outcome.total === undefined)
          throw new Error("no usage");
        expect(outcome.finishReason).toBe(FinishReason.STOP);
        // One request of the model, or two with a tool.
        const requests = prompt.includes("[[tool") ? 2 : 1;
        expect(outcome.usage).toMatchObject({
          cacheReadTokens: 7 * requests,
          cacheWriteTokens: 5 * requests,
        });
        total.push(outcome.total);
        for (const key of Object.keys(sums) as (keyof typeof sums)[]) {
          sums[key] += outcome.usage[key];
          expect(sums[key]).toBe(outcome.total[key]);
        }
        await agent.close();
      }
    });

    test.each(["-x", "--version", "/clear", "@README.md what?", "!echo hi", "$skill"])(
      "hands the prompt %j to the model",
      async (prompt) => {
        expect(historyOf(answerOf(await runTurn(provider(options), turn(prompt))))).toEqual([prompt]);
      },
    );

    test("loses a conversation that it does not know, and asks no model", async () => {
      const before = codex.requests().length;
      const nativeId = "99999999-9999-4999-8999-999999999999";
      const ran = await runTurn(provider(options), turn("hello", { binding: bound(nativeId) }));
      expect(ran.events.map((event) => event.kind)).toEqual(["end"]);
      expect(ran.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
      const ran2 = await runTurn(provider(options), turn("hello", { binding: bound("--last") }));
      expect(ran2.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
      expect(codex.requests().length).toBe(before);
    });

    test("begins a conversation anew of which nothing was written down", async () => {
      const binding = { state: "provisional", nativeId: "99999999-9999-4999-8999-999999999999" } as const;
      const ran = await runTurn(provider(options), turn("hello", { binding }));
      expect(historyOf(answerOf(ran))).toEqual(["hello"]);
      expect(ran.events[0]).toMatchObject({ resumed: false });
      expect(idOf(ran)).not.toBe(binding.nativeId);
    });

    test("goes on after a first turn that failed", async () => {
      const agent = provider(options);
      const first = turn("one [[status 529 busy]]");
      const ran = await runTurn(agent, first);
      expect(ran.outcome).toMatchObject({ status: "failed", retryable: true });
      const binding = { state: "provisional", nativeId: idOf(ran) } as const;
      const next = await runTurn(agent, turn("two", { binding, recordNo: first.recordNo }));
      expect(historyOf(answerOf(next))).toEqual(["one [[status 529 busy]]", "two"]);
      expect(next.events[0]).toMatchObject({ resumed: true });
    });

    test.each([
      ["status 400 bad", "INVALID_REQUEST"],
      ["status 400 it is too long for the context window", "CONTEXT_OVERFLOW"],
      ["status 401 no", "AUTH"],
      ["status 403 no", "AUTH"],
      ["status 404 no", "INVALID_REQUEST"],
      ["status 413 no", "CONTEXT_OVERFLOW"],
      ["status 429 slow down", "RATE_LIMITED"],
      ["status 500 boom", "PROVIDER_ERROR"],
      ["status 503 busy", "OVERLOADED"],
      ["status 529 busy", "OVERLOADED"],
      ["cut", "PROVIDER_ERROR"],
      ["max_tokens", "PROVIDER_ERROR"],
    ] as const)("says what [[%s]] is", async (directive, code) => {
      const ran = await runTurn(provider(options), turn(`x [[${directive}]]`));
      expect(ran.outcome).toMatchObject(failed(code, { modelNotAsked: false }));
    });

    test("says that it has no key, and that nobody listens", async () => {
      const service = `{name="none",base_url="http://127.0.0.1:9/v1",wire_api="responses",env_key="NO_KEY",request_max_retries=0,stream_max_retries=0}`;
      const extraArgs = ["-c", "model_provider=none", "-c", `model_providers.none=${service}`];
      const noKey = await runTurn(provider({ ...options, extraArgs }), turn("x"));
      expect(noKey.outcome).toMatchObject(failed("AUTH", { modelNotAsked: true }));
      const withKey = extraArgs.map((arg) => arg.replace("NO_KEY", "LOCAL_KEY"));
      const refused = await runTurn(provider({ ...options, extraArgs: withKey }), turn("x"));
      expect(refused.outcome).toMatchObject(failed("PROVIDER_ERROR", { retryable: true }));
    });

    test("is unavailable with arguments or a configuration that it does not take", async () => {
      for (const extraArgs of [["--no-such-option"], ["-c", "model_provider=missing"]]) {
        const ran = await runTurn(provider({ ...options, extraArgs }), turn("x"));
        expect(ran.outcome).toMatchObject(failed("UNAVAILABLE", { modelNotAsked: true, retryable: false }));
      }
    });

    test("cannot write where nothing is allowed, and can where everything is", async () => {
      const denied = await runTurn(provider(options), turn(tool({ cmd: `touch denied-${mode}` })));
      expect(answerOf(denied)).toContain("Read-only file system");
      expect(existsSync(join(workspace, `denied-${mode}`))).toBe(false);
      const allow = { ...options, permissions: "allow" } as const;
      const allowed = await runTurn(provider(allow), turn(tool({ cmd: `touch allowed-${mode}; echo done` })));
      expect(allowed.events.filter((event) => event.kind.startsWith("tool-"))).toMatchObject([
        { kind: "tool-call", name: "commandExecution", input: expect.stringContaining("touch allowed") },
        { kind: "tool-result", output: "done\n", isError: false },
      ]);
      expect(existsSync(join(workspace, `allowed-${mode}`))).toBe(true);
    });

    test("loses what it was allowed to do when that is taken back", async () => {
      const allowing = provider({ ...options, permissions: "allow" });
      const nativeId = idOf(await runTurn(allowing, turn("one")));
      await allowing.close();
      const again = turn(tool({ cmd: `touch again-${mode}` }), { binding: bound(nativeId) });
      expect(answerOf(await runTurn(provider(options), again))).toContain("Read-only file system");
      expect(existsSync(join(workspace, `again-${mode}`))).toBe(false);
    });

    test("keeps its key from its commands", async () => {
      const ran = await runTurn(provider(options), turn(tool({ cmd: "env" })));
      expect(answerOf(ran)).toContain("CODEX_THREAD_ID=");
      expect(answerOf(ran)).not.toContain("LOCAL_KEY=");
    });

    test("takes the configured sandbox rather than its own", async () => {
      const extraArgs = ["-c", "sandbox_mode=workspace-write"];
      const ran = await runTurn(
        provider({ ...options, extraArgs }),
        turn(tool({ cmd: `touch own-${mode}` })),
      );
      answerOf(ran);
      expect(existsSync(join(workspace, `own-${mode}`))).toBe(true);
    });

    test("thinks aloud, and is given system prompt, unseen exchanges, notice, model and image", async () => {
      const before = codex.requests().length;
      const png = Buffer.from(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "base64",
      );
      const asked = turn("", {
        input: [
          { kind: "text", text: "[[think Hm.]] what is it?" },
          { kind: "image", mediaType: "image/png", name: "dot", data: png },
        ],
        system: "Speak like Ada.",
        systemNotice: "Speak like Bob.",
        unseen: [{ user: "who am I?", assistant: "Eve" }],
        model: "gpt-5.4",
      });
      const ran = await runTurn(provider(options), asked);
      answerOf(ran);
      expect(ran.outcome).toMatchObject({ model: "gpt-5.4" });
      expect(
        ran.events
          .filter((event) => event.kind === "reasoning")
          .map((event) => event.text)
          .join(""),
      ).toBe("Hm.");
      const { body } = codex.requests()[before] ?? {};
      const sent = JSON.stringify(body?.input);
      expect(body?.model).toBe("gpt-5.4");
      expect(sent).toContain("Speak like Ada.");
      expect(sent).toContain("Speak like Bob.");
      expect(sent).toContain("earlier_conversation");
      expect(sent).toContain("data:image/png;base64,iVBOR");
      const developer = body?.input.filter((item) => item.role === "developer");
      expect(JSON.stringify(developer).includes("Speak like Ada.")).toBe(isServer);
    });

    test("is held to a schema for one turn", async () => {
      const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
      const strict = { ...schema, additionalProperties: false };
      const outputFormat = {
        ...({ kind: "json-schema", name: "person", description: "", strict: true } as const),
        schema: JSON.stringify(strict),
      };
      const before = codex.requests().length;
      const agent = provider(options);
      const first = await runTurn(agent, turn("who?", { outputFormat }));
      answerOf(first);
      const next = await runTurn(agent, turn("and then?", { binding: bound(idOf(first)) }));
      answerOf(next);
      const formats = codex
        .requests()
        .slice(before)
        .map(({ body }) => body?.text?.format);
      expect(formats.at(0)).toMatchObject({ type: "json_schema", schema: strict });
      expect(formats.at(-1)).toBeUndefined();
    });

    test("refuses what it cannot take", async () => {
      const part = { kind: "file", mediaType: "video/mp4", name: "film", data: Buffer.from("x") } as const;
      const ran = await runTurn(provider(options), turn("", { input: [part] }));
      expect(ran.outcome).toMatchObject(failed("INVALID_REQUEST", { modelNotAsked: true }));
    });

    test("is interrupted in mid-answer, and goes on", async () => {
      const agent = provider(options);
      const abort = new AbortController();
      const first = turn(
        isServer ? "one [[hang]]" : tool({ cmd: "tail -f /dev/null", yield_time_ms: 30_000 }),
        {
          signal: abort.signal,
        },
      );
      const ran = await runTurn(
        agent,
        first,
        atFirst(isServer ? "text" : "tool-call", () => abort.abort()),
      );
      expect(ran.outcome.status).toBe("cancelled");
      const binding = { state: "provisional", nativeId: idOf(ran) } as const;
      const next = await runTurn(agent, turn("two", { binding, recordNo: first.recordNo }));
      expect(historyOf(answerOf(next)).at(-1)).toBe("two");
      expect(next.events[0]).toMatchObject({ resumed: true, warm: isServer });
    });

    test("ends the commands of a turn with it, also those that have left it", async () => {
      const agent = provider({ ...options, permissions: "allow" });
      const cmd = "setsid tail -f /dev/null >/dev/null 2>&1 & tail -f /dev/null";
      const abort = new AbortController();
      const left = turn(tool({ cmd, yield_time_ms: 300 }));
      answerOf(await runTurn(agent, left));
      expect(await tailsOf(left)).toEqual([]);
      const { childMark } = left;
      const cut = turn(tool({ cmd, yield_time_ms: 30_000 }), { signal: abort.signal, childMark });
      const running = runTurn(agent, cut);
      while ((await tailsOf(cut)).length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
      abort.abort();
      expect((await running).outcome.status).toBe("cancelled");
      expect(await tailsOf(cut)).toEqual([]);
    });
  });

  test("keeps its process, streams, and shares the conversation with no other process", async () => {
    const agent = provider();
    const first = turn("one [[chunks 4]]");
    const one = await runTurn(agent, first);
    expect(one.events.filter((event) => event.kind === "text").length).toBeGreaterThan(1);
    const nativeId = idOf(one);
    const second = turn("two", { recordNo: first.recordNo, binding: bound(nativeId) });
    const two = await runTurn(agent, second);
    expect(two.events[0]).toMatchObject({ resumed: true, warm: true });
    expect(historyOf(answerOf(two))).toEqual(["one [[chunks 4]]", "two"]);
    const locked = await runTurn(provider(), turn("three", { binding: bound(nativeId) }));
    expect(locked.outcome).toMatchObject(failed("UNAVAILABLE", { retryable: true, modelNotAsked: true }));
  });

  test("goes on in one mode with what was begun in the other", async () => {
    const first = await runTurn(provider({ exec: true }), turn("one"));
    const agent = provider();
    const previousTotal = first.outcome.total ?? {};
    const asked = turn("two", { binding: bound(idOf(first)), previousTotal });
    const second = await runTurn(agent, asked);
    expect(historyOf(answerOf(second))).toEqual(["one", "two"]);
    expect(second.outcome.usage).toMatchObject({ cacheReadTokens: 7 });
    await agent.close();
    const binding = bound(idOf(second));
    const third = turn("three", { binding, previousTotal: second.outcome.total ?? {} });
    const ran = await runTurn(provider({ exec: true }), third);
    expect(historyOf(answerOf(ran))).toEqual(["one", "two", "three"]);
    expect(ran.outcome.usage).toMatchObject({ cacheReadTokens: 7 });
  });

  test("a release ends the process that has the conversation", async () => {
    const agent = provider();
    const asked = turn("one");
    const nativeId = idOf(await runTurn(agent, asked));
    expect(await marked(asked)).toBeGreaterThan(0);
    expect(await agent.release(asked.recordNo)).toEqual([]);
    expect(await marked(asked)).toBe(0);
    const next = await runTurn(provider(), turn("two", { binding: bound(nativeId) }));
    expect(historyOf(answerOf(next))).toEqual(["one", "two"]);
  });

  test("serves several conversations at once in one process", async () => {
    const agent = provider();
    const childMark = turn("").childMark;
    const turns = ["a", "b", "c"].map((name) => turn(`${name} [[slow 50]]`, { childMark }));
    const ran = await Promise.all(turns.map((each) => runTurn(agent, each)));
    expect(ran.map((each) => historyOf(answerOf(each)))).toEqual([
      ["a [[slow 50]]"],
      ["b [[slow 50]]"],
      ["c [[slow 50]]"],
    ]);
    const marks = await findMarked((mark) => mark.startsWith(childMark.replace(/[^/]*$/, "")));
    expect(new Set(marks.map(({ mark }) => mark)).size).toBe(1);
  });

  test("is steered while it answers, and not afterwards", async () => {
    const agent = provider();
    const run = agent.run(turn("one [[slow 100]]"));
    let taken: boolean | undefined;
    const ran = await followRun(
      run,
      atFirst("text", async () => {
        taken = await run.steer?.(textInput("and two"));
      }),
    );
    expect(taken).toBe(true);
    expect(answerOf(ran)).toContain('["one [[slow 100]]","and two"]');
    expect(await run.steer?.(textInput("three"))).toBe(false);
  });

  test("asks whether it may, and heeds the answer", async () => {
    const agent = provider({ permissions: "ask" });
    for (const allowed of [true, false]) {
      const file = `asked-${allowed}`;
      const command = {
        cmd: `touch ${file}`,
        sandbox_permissions: "require_escalated",
        justification: "why",
      };
      const ran = await runTurn(agent, turn(tool(command)), (event) => {
        if (event.kind !== "permission") return;
        expect(event).toMatchObject({ tool: "commandExecution", input: expect.stringContaining(file) });
        event.decide({ allowed, message: "" });
      });
      expect(ran.events.some((event) => event.kind === "permission")).toBe(true);
      answerOf(ran);
      expect(existsSync(join(workspace, file))).toBe(allowed);
    }
    const patch = "*** Begin Patch\n*** Add File: patched.txt\n+hi\n*** End Patch";
    const ran = await runTurn(agent, turn(`[[tool apply_patch ${JSON.stringify(patch)}]]`), (event) => {
      if (event.kind === "permission") event.decide({ allowed: true, message: "" });
    });
    answerOf(ran);
    expect(readFileSync(join(workspace, "patched.txt"), "utf8")).toBe("hi\n");
  });

  test("is cancelled at any time, and keeps its process", async () => {
    const agent = provider();
    const { recordNo, childMark } = turn("");
    answerOf(await runTurn(agent, turn("warm up", { childMark })));
    const servers = async () => {
      const found = await findMarked((mark) => mark.startsWith(childMark.replace(/[^/]*$/, "")));
      return new Set(found.map(({ mark }) => mark));
    };
    const before = await servers();
    let binding: ProviderTurn["binding"] = { state: "fresh" };
    for (let afterMs = 0; afterMs < 60; afterMs += 4) {
      const signal = AbortSignal.timeout(afterMs);
      const ran = await runTurn(agent, turn("one [[hang]]", { recordNo, childMark, binding, signal }));
      expect(ran.outcome.status).toBe("cancelled");
      const started = ran.events.find((event) => event.kind === "started");
      if (started?.nativeId !== undefined) binding = { state: "provisional", nativeId: started.nativeId };
    }
    const next = await runTurn(agent, turn("two", { recordNo, childMark, binding }));
    answerOf(next);
    expect(next.events[0]).toMatchObject({ warm: true });
    expect(await servers()).toEqual(before);
  });

  test("is cancelled while it waits for an answer", async () => {
    const agent = provider({ permissions: "ask" });
    const abort = new AbortController();
    const command = { cmd: "touch never", sandbox_permissions: "require_escalated", justification: "why" };
    const asked = turn(tool(command), { signal: abort.signal });
    const ran = await runTurn(agent, asked, (event) => event.kind === "permission" && abort.abort());
    expect(ran.outcome.status).toBe("cancelled");
    const binding = { state: "provisional", nativeId: idOf(ran) } as const;
    const next = await runTurn(agent, turn("go on", { binding, recordNo: asked.recordNo }));
    expect(next.events[0]).toMatchObject({ warm: true });
    answerOf(next);
  });

  test("a crash of the process fails its turns, and the next ones go on", async () => {
    const agent = provider();
    const childMark = turn("").childMark;
    const turns = ["a", "b"].map((name) => turn(`${name} [[hang]]`, { childMark }));
    const seen = new Set<ProviderTurn>();
    const ran = await Promise.all(
      turns.map((each) =>
        runTurn(agent, each, async (event) => {
          if (event.kind !== "text") return;
          seen.add(each);
          if (seen.size < turns.length) return;
          const prefix = childMark.replace(/[^/]*$/, "");
          await killMarked((mark) => mark.startsWith(prefix), [{ signal: "SIGKILL", waitMs: 10_000 }]);
        }),
      ),
    );
    for (const [at, each] of ran.entries()) {
      expect(each.outcome).toMatchObject(failed("CRASHED", { retryable: true, modelNotAsked: false }));
      const binding = { state: "provisional", nativeId: idOf(each) } as const;
      const next = await runTurn(agent, turn("next", { binding, recordNo: turns[at]?.recordNo ?? 0 }));
      expect(next.events[0]).toMatchObject({ resumed: true });
      expect(historyOf(answerOf(next)).at(-1)).toBe("next");
    }
  });
});
