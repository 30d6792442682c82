/** The provider with an agent of the fixtures, in both modes. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type CodexOptions, createCodexProvider } from "../../src/providers/codex/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { Provider, ProviderEvent, ProviderTurn } from "../../src/turns/provider.js";
import { answerOf, atFirst, followRun, isRunning, type Ran, runTurn, textInput, turnOf } from "./turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-codex.mjs", import.meta.url));

let root: string;
let workspace: string;
let environment: Record<string, string>;
/** Of all turns of a test. */
let childMark: string;
let opened: Provider[] = [];

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "codex-provider-"));
  workspace = join(root, "workspace");
  environment = { CODEX_HOME: join(root, "config") };
  mkdirSync(workspace);
});

afterEach(async () => {
  await Promise.all(opened.map((provider) => provider.close()));
  opened = [];
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

function provider(options: Partial<CodexOptions> = {}) {
  const made = createCodexProvider({
    id: "codex",
    executable,
    models: [],
    environment,
    parentEnvironment: process.env,
    interruptMs: 2_000,
    endingSteps: [
      { signal: "SIGTERM", waitMs: 500 },
      { signal: "SIGKILL", waitMs: 10_000 },
    ],
    ...options,
  });
  opened.push(made);
  return made;
}

function turn(text: string, fields: Partial<ProviderTurn> = {}): ProviderTurn {
  const made = turnOf(text, { workspace, binding: { state: "fresh" }, ...fields });
  childMark = fields.childMark ?? made.childMark;
  return made;
}
const bound = (nativeId: string) => ({ state: "bound", nativeId }) as const;
/** The next turn of the same session. */
const nextOf = (previous: ProviderTurn, ran: Ran, text: string, fields: Partial<ProviderTurn> = {}) =>
  turn(text, {
    recordNo: previous.recordNo,
    childMark: previous.childMark,
    binding: { state: ran.outcome.status === "completed" ? "bound" : "provisional", nativeId: idOf(ran) },
    ...(ran.outcome.total === undefined ? {} : { previousTotal: ran.outcome.total }),
    ...fields,
  });
const historyOf = (answer: string) =>
  JSON.parse(/history=(\[.*?\])(?: answers=|$)/s.exec(answer)?.[1] ?? "[]");
const answersOf = (answer: string) => JSON.parse(/ answers=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
const failed = (code: keyof typeof TurnErrorCode, more = {}) => ({
  status: "failed",
  code: TurnErrorCode[code],
  ...more,
});
const idOf = ({ events }: Ran): string => {
  const started = events.find((event) => event.kind === "started");
  if (started?.nativeId === undefined) throw new Error(`no native id: ${JSON.stringify(events)}`);
  return started.nativeId;
};
/** Marks of the processes of the broker's life that the last turn belongs to. */
const marks = async () => {
  const prefix = childMark.split("/").slice(0, 2).join("/");
  const found = await findMarked((mark) => mark.startsWith(`${prefix}/`));
  return [...new Set(found.map(({ mark }) => mark))];
};
const pidsOf = async (mark: string) => (await findMarked((each) => each === mark)).map(({ pid }) => pid);
const until = async (isSo: () => boolean | Promise<boolean>) => {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 10));
};
/** True also of a process that has ended and was not waited for. */
const exists = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};
const seenIn = (file: string) => JSON.parse(readFileSync(file, "utf8"));
const perTurn = {
  inputTokens: 15,
  cacheReadTokens: 2,
  cacheWriteTokens: 3,
  outputTokens: 7,
  reasoningTokens: 1,
};

describe.each([
  ["app-server", {}],
  ["exec", { exec: true }],
] as const)("%s", (mode, options) => {
  const isServer = mode === "app-server";

  test("a first turn says its id before anything else, and is answered", async () => {
    const ran = await runTurn(provider(options), turn("hello"));
    expect(ran.events[0]).toMatchObject({ kind: "started", resumed: false, warm: false });
    expect(ran.text).toBe('turns=1 history=["hello"]');
    expect(ran.outcome).toEqual({
      status: "completed",
      text: ran.text,
      finishReason: FinishReason.STOP,
      nativeId: idOf(ran),
      usage: perTurn,
      total: perTurn,
      ...(isServer ? { model: "fake-model-1" } : {}),
    });
  });

  test("later turns remember, and count what they add, also in another process", async () => {
    const agent = provider(options);
    const first = turn("one");
    const one = await runTurn(agent, first);
    const second = nextOf(first, one, "two");
    const two = await runTurn(agent, second);
    expect(two.events[0]).toMatchObject({ resumed: true, warm: isServer, nativeId: idOf(one) });
    await agent.close();
    const three = await runTurn(provider(options), nextOf(second, two, "three"));
    expect(historyOf(answerOf(three))).toEqual(["one", "two", "three"]);
    expect(three.events[0]).toMatchObject({ resumed: true, warm: false, nativeId: idOf(one) });
    for (const ran of [two, three]) expect(ran.outcome.usage).toEqual(perTurn);
    expect(three.outcome.total).toMatchObject({ inputTokens: 45 });
  });

  test("a conversation that the agent does not know is lost if it was bound, and begun anew if not", async () => {
    const nativeId = "99999999-9999-4999-8999-999999999999";
    const agent = provider(options);
    const lost = await runTurn(agent, turn("hello", { binding: bound(nativeId) }));
    expect(lost.events.map(({ kind }) => kind)).toEqual(["end"]);
    expect(lost.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
    const anew = await runTurn(agent, turn("hello", { binding: { state: "provisional", nativeId } }));
    expect(historyOf(answerOf(anew))).toEqual(["hello"]);
    expect(idOf(anew)).not.toBe(nativeId);
  });

  test.each(["a title", "../../x", "--last"])("the foreign id %j is lost", async (nativeId) => {
    const ran = await runTurn(provider(options), turn("hello", { binding: bound(nativeId) }));
    expect(ran.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
  });

  test("what it is given: directory, environment, model, system prompt and image", async () => {
    const file = join(root, `seen-${mode}`);
    const asked = turn("", {
      input: [
        { kind: "text", text: `[[environment ${file}]]` },
        { kind: "image", mediaType: "image/png", name: "dot", data: Buffer.from("four") },
      ],
      model: "big",
      system: "Speak like Ada.",
    });
    const parentEnvironment = { ...process.env, OPENAI_API_KEY: "key", ANTHROPIC_API_KEY: "other" };
    const agent = provider({
      ...options,
      parentEnvironment,
      inherit: ["EXTRA_*"],
      extraArgs: ["-c", "mine=1"],
    });
    answerOf(await runTurn(agent, asked));
    const seen = seenIn(file);
    expect(seen.environment).toMatchObject({ OPENAI_API_KEY: "key", CODEX_HOME: environment.CODEX_HOME });
    expect(seen.environment).not.toHaveProperty("ANTHROPIC_API_KEY");
    expect(seen.args.join(" ")).not.toContain("Ada");
    expect(seen.args).toContain("mine=1");
    if (isServer) {
      expect(seen.thread).toMatchObject({
        cwd: workspace,
        developerInstructions: "Speak like Ada.",
        approvalPolicy: "never",
        sandbox: "read-only",
      });
      expect(seen.turn).toMatchObject({
        model: "big",
        input: [{}, { url: "data:image/png;base64,Zm91cg==" }],
      });
      expect(seen.environment.SESSION_BROKER_CHILD).toMatch(
        new RegExp(`^${asked.childMark.split("/").slice(0, 2).join("/")}/codex-`),
      );
    } else {
      expect(seen).toMatchObject({ cwd: workspace, sizes: [4] });
      expect(seen.args).toContain("--model=big");
      expect(seen.prompt).toContain("Speak like Ada.");
      expect(seen.environment.SESSION_BROKER_CHILD).toBe(asked.childMark);
    }
  });

  test("a cancelled turn ends, and the conversation goes on", async () => {
    const agent = provider(options);
    const abort = new AbortController();
    const first = turn("one [[hang]]", { signal: abort.signal });
    const isSeen = ({ kind }: ProviderEvent) => (kind === "text" || kind === "reasoning") && abort.abort();
    const ran = await runTurn(agent, first, isSeen);
    expect(ran.outcome.status).toBe("cancelled");
    const next = await runTurn(agent, nextOf(first, ran, "two"));
    expect(historyOf(answerOf(next))).toEqual(["one [[hang]]", "two"]);
    expect(next.events[0]).toMatchObject({ warm: isServer });
  });

  test("a turn that was cancelled before it ran asks nobody", async () => {
    const file = join(root, `never-${mode}`);
    const asked = turn(`[[environment ${file}]]`, { signal: AbortSignal.abort() });
    const ran = await runTurn(provider(options), asked);
    expect(ran.events.map(({ kind }) => kind)).toEqual(["end"]);
    expect(ran.outcome.status).toBe("cancelled");
    expect(existsSync(file)).toBe(false);
  });

  test("a turn that takes too long, and one that says nothing, fail", async () => {
    const long = await runTurn(provider(options), turn("[[hang]]", { timeoutMs: 500 }));
    expect(long.outcome).toMatchObject(failed("TIMEOUT", { retryable: true }));
    const silent = await runTurn(provider({ ...options, silenceTimeoutMs: 500 }), turn("[[silent]]"));
    expect(silent.outcome).toMatchObject(failed("NO_OUTPUT_TIMEOUT", { retryable: true }));
  });

  test.each([
    ["[[flood 50]]", { maxLines: 40 }],
    ["[[flood 500]]", { maxBytes: 3_000 }],
    ["[[long 5000]]", { maxLineBytes: 4_000 }],
  ])("%s is too much output", async (prompt, limits) => {
    const ran = await runTurn(provider({ ...options, limits }), turn(prompt));
    expect(ran.outcome).toMatchObject(failed("OUTPUT_LIMIT", { retryable: false }));
  });

  test("a failure of the model's service is told", async () => {
    const agent = provider(options);
    for (const [status, code] of [
      ["401", "AUTH"],
      ["429", "RATE_LIMITED"],
      ["529", "OVERLOADED"],
    ] as const) {
      const ran = await runTurn(agent, turn(`[[fail ${status}]]`));
      expect(ran.outcome).toMatchObject(failed(code, { modelNotAsked: false }));
    }
  });

  test("a crash is told, and the next turn goes on", async () => {
    const agent = provider(options);
    const first = turn("one [[crash]]");
    const ran = await runTurn(agent, first);
    expect(ran.outcome).toMatchObject(
      failed("CRASHED", { retryable: true, message: expect.stringContaining("out of cheese") }),
    );
    const next = await runTurn(agent, nextOf(first, ran, "two"));
    expect(next.events[0]).toMatchObject({ resumed: true, warm: false });
    expect(historyOf(answerOf(next))).toEqual(["one [[crash]]", "two"]);
  });

  test("what cannot be started is unavailable", async () => {
    const missing = await runTurn(provider({ ...options, executable: join(root, "missing") }), turn("x"));
    expect(missing.outcome).toMatchObject(failed("UNAVAILABLE", { modelNotAsked: true }));
    const elsewhere = join(root, "no workspace");
    const nowhere = await runTurn(provider(options), turn("x", { workspace: elsewhere }));
    expect(nowhere.outcome).toMatchObject(
      failed("UNAVAILABLE", { message: expect.stringContaining(elsewhere), modelNotAsked: true }),
    );
  });

  test("nothing is left of a closed provider", async () => {
    const agent = provider(options);
    const pidFile = join(root, `orphan-${mode}`);
    const running = runTurn(agent, turn(isServer ? `[[orphan ${pidFile}]] [[hang]]` : "[[hang]]"));
    await until(async () => (await marks()).length > 0 && (!isServer || existsSync(pidFile)));
    await agent.close();
    expect((await running).outcome.status).toBe("cancelled");
    expect(await marks()).toEqual([]);
    if (isServer) expect(isRunning(Number(readFileSync(pidFile, "utf8")))).toBe(false);
  });

  test("a reader that stops reading stops the turn", async () => {
    const agent = provider(options);
    const first = turn("one [[hang]]");
    let nativeId = "";
    for await (const event of agent.run(first)) {
      if (event.kind === "started") nativeId = event.nativeId ?? "";
      if (event.kind === "text" || event.kind === "reasoning") break;
    }
    const next = await runTurn(agent, turn("two", { recordNo: first.recordNo, binding: bound(nativeId) }));
    expect(historyOf(answerOf(next))).toEqual(["one [[hang]]", "two"]);
  });

  test("says its version", async () => {
    expect(await provider(options).health()).toEqual({ available: true, detail: "codex-cli 0.169.0" });
  });
});

describe("exec alone", () => {
  test("an answer with a bad exit is none, and one that lingers is ended", async () => {
    const bad = await runTurn(provider({ exec: true }), turn("[[exit 7]]"));
    expect(bad.outcome).toMatchObject(failed("CRASHED"));
    const lingers = await runTurn(provider({ exec: true, lingerMs: 200 }), turn("[[linger]]"));
    expect(lingers.outcome.status).toBe("completed");
    expect(await marks()).toEqual([]);
  });

  test("nothing lives on after a turn", async () => {
    const file = join(root, "exec-orphan");
    answerOf(await runTurn(provider({ exec: true }), turn(`[[orphan ${file}]]`)));
    expect(isRunning(Number(readFileSync(file, "utf8")))).toBe(false);
  });

  test("cannot be steered, and nothing is kept", async () => {
    const agent = provider({ exec: true, permissions: "ask" });
    expect(agent.capabilities).toMatchObject({ steer: false, warm: false, permissionRequests: false });
    expect(await agent.release(1)).toEqual([]);
  });
});

describe("questions", () => {
  const ask = (options: Partial<CodexOptions> = {}) => provider({ permissions: "ask", ...options });

  test.each([true, false])("the answer %s reaches the agent", async (allowed) => {
    const ran = await runTurn(ask(), turn("[[ask touch a]]"), (event) => {
      if (event.kind !== "permission") return;
      expect(event.tool).toBe("commandExecution");
      expect(JSON.parse(event.input)).toEqual({ command: "touch a", cwd: "/" });
      event.decide({ allowed, message: "" });
      event.decide({ allowed: !allowed, message: "" });
    });
    const decision = allowed ? "accept" : "decline";
    expect(answersOf(answerOf(ran))).toMatchObject([{ result: { decision } }]);
    expect(ran.events.find(({ kind }) => kind === "tool-result")).toMatchObject({ isError: !allowed });
  });

  test("nobody is asked where nobody may be", async () => {
    const ran = await runTurn(provider(), turn("[[ask touch a]]"));
    expect(ran.events.some(({ kind }) => kind === "permission")).toBe(false);
    expect(answersOf(answerOf(ran))).toMatchObject([{ result: { decision: "decline" } }]);
  });

  test("one that is taken back is withdrawn, and its answer is not sent", async () => {
    let withdrawn = false;
    const ran = await runTurn(ask(), turn("[[ask touch a]] [[withdraw]]"), async (event) => {
      if (event.kind !== "permission") return;
      await until(() => event.withdrawn.aborted);
      withdrawn = true;
      event.decide({ allowed: true, message: "" });
    });
    expect(withdrawn).toBe(true);
    answerOf(ran);
  });

  test("the time that an answer takes is no silence", async () => {
    const ran = await runTurn(ask({ silenceTimeoutMs: 1_000 }), turn("[[ask touch a]]"), async (event) => {
      if (event.kind !== "permission") return;
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      event.decide({ allowed: true, message: "" });
    });
    answerOf(ran);
  });

  test("a turn is cancelled while it waits", async () => {
    const abort = new AbortController();
    let withdrawn: AbortSignal | undefined;
    const agent = ask();
    const first = turn("[[ask touch a]]", { signal: abort.signal });
    const ran = await runTurn(agent, first, (event) => {
      if (event.kind !== "permission") return;
      withdrawn = event.withdrawn;
      abort.abort();
      event.decide({ allowed: true, message: "" });
    });
    expect(ran.outcome.status).toBe("cancelled");
    expect(withdrawn).toBeDefined();
    answerOf(await runTurn(agent, nextOf(first, ran, "two")));
  });

  test.each([
    ["item/tool/requestUserInput", { result: { answers: {} } }],
    ["mcpServer/elicitation/request", { result: { action: "decline" } }],
    ["attestation/generate", { error: { code: -32601 } }],
  ])("%s is answered without asking", async (method, expected) => {
    const ran = await runTurn(ask(), turn(`[[other ${method}]]`));
    expect(answersOf(answerOf(ran))).toMatchObject([expected]);
  });
});

describe("steering", () => {
  test("text reaches the running turn, and not one that is over", async () => {
    const file = join(root, "steered");
    const run = provider().run(turn(`one [[until ${file}]]`));
    const ran = await followRun(
      run,
      atFirst("text", async () => {
        expect(
          await run.steer?.([{ kind: "file", mediaType: "video/mp4", name: "", data: Buffer.from("") }]),
        ).toBe(false);
        expect(await run.steer?.(textInput("two"))).toBe(true);
        writeFileSync(file, "");
      }),
    );
    expect(historyOf(answerOf(ran))).toContain("two");
    expect(await run.steer?.(textInput("three"))).toBe(false);
  });
});

describe("processes", () => {
  const hold = (file: string) => `[[until ${file}]]`;
  const go = (name: string) => {
    const file = join(root, name);
    return { file, let: () => writeFileSync(file, "") };
  };

  test("turns of one grant share a process, those of another have their own", async () => {
    const agent = provider();
    const first = turn("one", { grant: "a" });
    const { childMark: mark } = first;
    await runTurn(agent, first);
    await runTurn(agent, turn("two", { grant: "a", childMark: mark }));
    expect(await marks()).toHaveLength(1);
    const other = await runTurn(agent, turn("three", { grant: "b", childMark: mark }));
    expect(other.events[0]).toMatchObject({ warm: false });
    expect(await marks()).toHaveLength(2);
  });

  test("first turns at once start one process", async () => {
    const agent = provider();
    const mark = turn("").childMark;
    const ran = await Promise.all(
      ["a", "b", "c"].map((text) => runTurn(agent, turn(text, { childMark: mark }))),
    );
    expect(ran.map((each) => historyOf(answerOf(each)))).toEqual([["a"], ["b"], ["c"]]);
    expect(await marks()).toHaveLength(1);
  });

  test("a process has no more conversations than it may", async () => {
    const agent = provider({ maxThreads: 2 });
    const first = turn("one");
    for (const text of ["one", "two", "three"])
      await runTurn(agent, turn(text, { childMark: first.childMark }));
    expect(await marks()).toHaveLength(2);
  });

  test("a conversation is let go with its process; others go on in a new one", async () => {
    const agent = provider();
    const first = turn("one");
    const one = await runTurn(agent, first);
    const second = turn("two", { childMark: first.childMark });
    const two = await runTurn(agent, second);
    expect(await agent.release(first.recordNo)).toEqual([]);
    expect(await marks()).toEqual([]);
    expect(await agent.release(first.recordNo)).toEqual([]);
    const elsewhere = await runTurn(provider(), nextOf(first, one, "by another"));
    expect(historyOf(answerOf(elsewhere))).toEqual(["one", "by another"]);
    const next = await runTurn(agent, nextOf(second, two, "again"));
    expect(next.events[0]).toMatchObject({ resumed: true, warm: false });
    answerOf(next);
  });

  test("a release waits for the turns of others in that process", async () => {
    const agent = provider();
    const first = turn("one");
    await runTurn(agent, first);
    const gate = go("release-gate");
    const running = runTurn(
      agent,
      turn(hold(gate.file), { childMark: first.childMark }),
      atFirst("text", async () => {
        let released = false;
        const releasing = agent.release(first.recordNo).then((left) => {
          released = true;
          return left;
        });
        // A new turn is served by another process meanwhile.
        const other = await runTurn(agent, turn("new", { childMark: first.childMark }));
        expect(other.events[0]).toMatchObject({ warm: false });
        answerOf(other);
        expect(released).toBe(false);
        gate.let();
        void releasing;
      }),
    );
    answerOf(await running);
    expect(await agent.release(first.recordNo)).toEqual([]);
  });

  test("a turn that heeds no interrupt takes its process with it, once the others are done", async () => {
    const agent = provider({ interruptMs: 200 });
    const abort = new AbortController();
    const gate = go("mute-gate");
    const stuck = turn("one [[mute]]", { signal: abort.signal });
    const { childMark: mark } = stuck;
    const runningOther = runTurn(agent, turn(hold(gate.file), { childMark: mark }));
    let isOver = false;
    const cancelled = runTurn(
      agent,
      stuck,
      atFirst("text", () => abort.abort()),
    ).then((ran) => {
      isOver = true;
      return ran;
    });
    await until(() => abort.signal.aborted);
    // Ready when the process takes no more turns.
    await until(async () => {
      const ran = await runTurn(agent, turn("new", { childMark: mark }));
      answerOf(ran);
      return (await marks()).length > 1;
    });
    expect(isOver).toBe(false);
    gate.let();
    answerOf(await runningOther);
    const ran = await cancelled;
    expect(ran.outcome.status).toBe("cancelled");
    const next = await runTurn(agent, nextOf(stuck, ran, "two"));
    expect(next.events[0]).toMatchObject({ resumed: true });
    expect(historyOf(answerOf(next))).toEqual(["one [[mute]]", "two"]);
  });

  test("turns that are not done when the time to drain is over have crashed", async () => {
    const agent = provider({ interruptMs: 100, drainMs: 300 });
    const mark = turn("").childMark;
    const abort = new AbortController();
    const gate = go("never opened");
    const lost = turn(hold(gate.file), { childMark: mark });
    const other = runTurn(agent, lost);
    const ran = await runTurn(
      agent,
      turn("[[mute]]", { childMark: mark, signal: abort.signal }),
      atFirst("text", () => abort.abort()),
    );
    expect(ran.outcome.status).toBe("cancelled");
    const otherRan = await other;
    expect(otherRan.outcome).toMatchObject(failed("CRASHED", { retryable: true }));
    gate.let();
    answerOf(await runTurn(agent, nextOf(lost, otherRan, "again")));
  });

  test("a session whose process drains waits for its end", async () => {
    const agent = provider({ interruptMs: 100, drainMs: 500 });
    const first = turn("one");
    const one = await runTurn(agent, first);
    const abort = new AbortController();
    const gate = go("never opened either");
    const holder = runTurn(agent, turn(hold(gate.file), { childMark: first.childMark }));
    const stuck = turn("[[mute]]", { childMark: first.childMark, signal: abort.signal });
    const cancelled = runTurn(
      agent,
      stuck,
      atFirst("text", () => abort.abort()),
    );
    await until(() => abort.signal.aborted);
    const next = await runTurn(agent, nextOf(first, one, "two"));
    expect(historyOf(answerOf(next))).toEqual(["one", "two"]);
    expect((await cancelled).outcome.status).toBe("cancelled");
    await holder;
  });

  test("an interrupt that comes too late is a cancellation all the same", async () => {
    const abort = new AbortController();
    const agent = provider();
    const first = turn("[[finish]]", { signal: abort.signal });
    const ran = await runTurn(
      agent,
      first,
      atFirst("text", () => abort.abort()),
    );
    expect(ran.outcome.status).toBe("cancelled");
    expect((await runTurn(agent, nextOf(first, ran, "two"))).events[0]).toMatchObject({ warm: true });
  });

  test("what a turn has left running ends with it, and what is of another turn does not", async () => {
    const agent = provider();
    const gate = go("orphan-gate");
    const [mine, theirs] = [join(root, "my orphan"), join(root, "their orphan")];
    const { childMark: mark } = turn("");
    const other = runTurn(agent, turn(`[[orphan ${theirs}]] ${hold(gate.file)}`, { childMark: mark }));
    await until(() => existsSync(theirs));
    answerOf(await runTurn(agent, turn(`[[orphan ${mine}]]`, { childMark: mark })));
    expect(isRunning(Number(readFileSync(mine, "utf8")))).toBe(false);
    expect(isRunning(Number(readFileSync(theirs, "utf8")))).toBe(true);
    gate.let();
    answerOf(await other);
    expect(isRunning(Number(readFileSync(theirs, "utf8")))).toBe(false);
  });

  test("one whose commands do not end is given up", async () => {
    const agent = provider();
    const first = turn("one [[dirty]]");
    const ran = await runTurn(agent, first);
    answerOf(ran);
    expect(await marks()).toEqual([]);
    expect((await runTurn(agent, nextOf(first, ran, "two"))).events[0]).toMatchObject({ warm: false });
  });

  test("one that begins a turn of its own is ended", async () => {
    const agent = provider();
    const first = turn("one [[late]]");
    answerOf(await runTurn(agent, first));
    await until(async () => (await marks()).length === 0);
  });

  test("a version that cannot end commands starts anew for each turn, and keeps its permissions", async () => {
    const agent = provider({ environment: { ...environment, FAKE_CODEX_OLD: "1" } });
    const file = join(root, "old");
    const first = turn(`[[environment ${file}]]`);
    const ran = await runTurn(agent, first);
    answerOf(ran);
    expect(seenIn(file).thread).toMatchObject({ approvalPolicy: "never", sandbox: "read-only" });
    const next = await runTurn(agent, nextOf(first, ran, "two"));
    expect(next.events[0]).toMatchObject({ resumed: true, warm: false });
  });

  test("the configured sandbox is given to each conversation, in place of the provider's own", async () => {
    const file = join(root, "sandbox");
    const agent = provider({ permissions: "ask", extraArgs: ["-c", "sandbox_mode=workspace-write"] });
    const first = turn(`[[environment ${file}]]`);
    const ran = await runTurn(agent, first);
    const expected = { approvalPolicy: "on-request", sandbox: "workspace-write" };
    expect(seenIn(file).thread).toMatchObject(expected);
    await agent.release(first.recordNo);
    await runTurn(agent, nextOf(first, ran, `[[environment ${file}]]`));
    expect(seenIn(file).thread).toMatchObject({ threadId: idOf(ran), ...expected });
  });

  test("a conversation that the process has forgotten is lost, and the session goes on", async () => {
    const agent = provider();
    const first = turn("one");
    const ran = await runTurn(agent, first);
    const lost = await runTurn(agent, nextOf(first, ran, "[[lost]]"));
    expect(lost.outcome).toMatchObject(failed("NATIVE_SESSION_LOST", { modelNotAsked: true }));
    const anew = turn("again", { recordNo: first.recordNo, childMark: first.childMark });
    const next = await runTurn(agent, anew);
    expect(next.events[0]).toMatchObject({ resumed: false, warm: true });
    answerOf(next);
  });

  test("a conversation that another process has is not to be had now", async () => {
    const first = turn("one");
    const ran = await runTurn(provider(), first);
    const locked = await runTurn(provider(), nextOf(first, ran, "two"));
    expect(locked.outcome).toMatchObject(failed("UNAVAILABLE", { retryable: true, modelNotAsked: true }));
  });

  test("a crash between turns costs nothing", async () => {
    const agent = provider();
    const first = turn("one");
    const ran = await runTurn(agent, first);
    const [mark = ""] = await marks();
    const pids = await pidsOf(mark);
    for (const pid of pids) process.kill(pid, "SIGKILL");
    // Not before the exit was taken note of.
    await until(() => !pids.some(exists));
    const next = await runTurn(agent, nextOf(first, ran, "two"));
    expect(historyOf(answerOf(next))).toEqual(["one", "two"]);
  });

  test("a crash fails every turn in the process", async () => {
    const agent = provider();
    const mark = turn("").childMark;
    const others = ["a", "b"].map((name) => turn(`${name} [[hang]]`, { childMark: mark }));
    const running = others.map((each) => runTurn(agent, each));
    await runTurn(agent, turn("[[crash]]", { childMark: mark }));
    for (const ran of await Promise.all(running)) expect(ran.outcome).toMatchObject(failed("CRASHED"));
  });

  test("idle ones end after their time, and when there are too many", async () => {
    const warm = { processes: 16, idleMs: 200, ahead: 0 };
    await runTurn(provider({ warm }), turn("one"));
    await until(async () => (await marks()).length === 0);
    const few = provider({ warm: { ...warm, processes: 1, idleMs: 60_000 } });
    const mark = turn("").childMark;
    for (const grant of ["a", "b", "c"]) await runTurn(few, turn("one", { grant, childMark: mark }));
    await until(async () => (await marks()).length === 1);
    const none = provider({ warm: { ...warm, processes: 0 } });
    expect(none.capabilities.warm).toBe(false);
    await runTurn(none, turn("one"));
    await until(async () => (await marks()).length === 0);
  });

  test("one is there before the first turn if it is to be, and is followed by the next", async () => {
    const agent = provider({ warm: { processes: 16, idleMs: 60_000, ahead: 1 } });
    const file = join(root, "ahead");
    const first = turn(`[[environment ${file}]]`);
    agent.startAhead?.({ directories: "", mark: first.childMark.split("/").slice(0, 2).join("/") });
    await until(async () => (await marks()).length === 1);
    const [ahead] = await marks();
    answerOf(await runTurn(agent, first));
    expect(seenIn(file).environment.SESSION_BROKER_CHILD).toBe(ahead);
    await until(async () => (await marks()).length === 2);
    await agent.close();
    expect(await marks()).toEqual([]);
  });

  test("one that does not become ready, or ends at its start, makes turns fail and not wait", async () => {
    const deaf = { ...environment, FAKE_CODEX_START: "deaf" };
    const late = await runTurn(provider({ environment: deaf, startMs: 500 }), turn("x"));
    expect(late.outcome).toMatchObject(failed("UNAVAILABLE", { modelNotAsked: true }));
    expect(await marks()).toEqual([]);
    const abort = new AbortController();
    const agent = provider({ environment: deaf });
    const waiting = runTurn(agent, turn("x", { signal: abort.signal }));
    await until(async () => (await marks()).length === 1);
    abort.abort();
    expect((await waiting).outcome.status).toBe("cancelled");
    await agent.close();
    expect(await marks()).toEqual([]);
    const ends = provider({ environment: { ...environment, FAKE_CODEX_START: "fail" } });
    for (const text of ["x", "y"]) {
      const ran = await runTurn(ends, turn(text));
      expect(ran.outcome).toMatchObject(
        failed("UNAVAILABLE", { message: expect.stringContaining("the configuration is wrong") }),
      );
    }
  });

  test("a retry of the model's service and a warning are notices", async () => {
    const ran = await runTurn(provider(), turn("[[retry]] [[flood 1]]"));
    expect(ran.events.filter(({ kind }) => kind === "notice")).toMatchObject([
      { message: expect.stringContaining("connection reset") },
      { message: "notice 1" },
    ]);
    answerOf(ran);
  });
});

test("a file that is no program is unavailable", async () => {
  const file = join(root, "no program");
  writeFileSync(file, "text");
  chmodSync(file, 0o755);
  const agent = provider({ executable: file });
  expect((await agent.health()).available).toBe(false);
  expect((await runTurn(agent, turn("x"))).outcome).toMatchObject(failed("UNAVAILABLE"));
});
