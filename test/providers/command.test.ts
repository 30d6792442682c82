import { randomUUID } from "node:crypto";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandSchema } from "../../gen/sessionbroker/config/v1/config_pb.js";
import { FinishReason, TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type CommandOptions, createCommandProvider } from "../../src/providers/command/index.js";
import { findMarked } from "../../src/providers/marks.js";
import type { ProviderTurn } from "../../src/turns/provider.js";
import { answerOf, atFirst, isRunning, runTurn, turnOf } from "./turns.js";

const fixture = fileURLToPath(new URL("../fixtures/fake-program.mjs", import.meta.url));
const program = [process.execPath, fixture];

let workspace: string;

beforeAll(() => {
  workspace = realpathSync(mkdtempSync(join(tmpdir(), "command-provider-")));
});

afterAll(() => rmSync(workspace, { recursive: true, force: true }));

function provider(
  command: MessageInitShape<typeof CommandSchema> = {},
  options: Partial<Omit<CommandOptions, "command">> = {},
) {
  return createCommandProvider({
    id: "program",
    models: [],
    timeoutMs: 60_000,
    silenceTimeoutMs: 60_000,
    maxRunning: 4,
    inherit: [],
    parentEnvironment: { PATH: process.env.PATH },
    endingSteps: [
      { signal: "SIGTERM", waitMs: 500 },
      { signal: "SIGKILL", waitMs: 10_000 },
    ],
    command: create(CommandSchema, { first: program, ...command }),
    ...options,
  });
}

const json = { text: "text", end: "type", endValue: "done", error: "error" };
const turn = (actions: unknown[][], fields: Partial<ProviderTurn> = {}) =>
  turnOf(JSON.stringify(actions), { workspace, ...fields });
const failed = (code: keyof typeof TurnErrorCode, message: unknown = expect.any(String), more = {}) => ({
  status: "failed",
  code: TurnErrorCode[code],
  message,
  ...more,
});
const reportOf = (
  answer: string,
): { args: string[]; input: string; env: Record<string, string>; cwd: string } =>
  JSON.parse(JSON.parse(answer).text);
const marked = async (mark: string) => (await findMarked((each) => each === mark)).length;

describe("plain output", () => {
  test("is the answer, all of it, under the id that the broker made", async () => {
    const nativeId = randomUUID();
    const ran = await runTurn(
      provider(),
      turn(
        [
          ["out", "one "],
          ["out", "two\n"],
          ["err", "not this"],
        ],
        { binding: { state: "fresh", nativeId } },
      ),
    );
    expect(ran.events[0]).toEqual({ kind: "started", nativeId, resumed: false, warm: false });
    expect(ran.text).toBe("one two\n");
    expect(ran.outcome).toEqual({
      status: "completed",
      text: "one two\n",
      finishReason: FinishReason.STOP,
      nativeId,
    });
  });

  test("may be cut anywhere, within a character too", async () => {
    const text = "ä€🙂e\u0301";
    const bytes = [...Buffer.from(text)].map((byte) => ["bytes", Buffer.from([byte]).toString("hex")]);
    const ran = await runTurn(provider(), turn(bytes));
    expect(answerOf(ran)).toBe(text);
    expect(ran.text).toBe(text);
    expect(ran.text).not.toContain("\ufffd");
  });

  test("that ends within a character says so", async () => {
    expect(answerOf(await runTurn(provider(), turn([["bytes", "61e282"]])))).toBe("a\ufffd");
  });

  test("that is no output is no answer, whatever the exit code", async () => {
    const ran = await runTurn(provider(), turn([["err", "hm\n"]]));
    expect(ran.outcome).toMatchObject(
      failed("CRASHED", expect.stringMatching(/code 0 without an answer.*hm/)),
    );
  });

  test("with another exit code is a failure, told with the last line of the standard error", async () => {
    const ran = await runTurn(
      provider(),
      turn([
        ["out", "half"],
        ["err", "first\nlast words\n"],
        ["exit", 3],
      ]),
    );
    expect(ran.text).toBe("half");
    expect(ran.outcome).toMatchObject(
      failed("CRASHED", "The program answered, but ended with code 3. It said: last words", {
        retryable: true,
      }),
    );
  });

  test("that is too much ends the program", async () => {
    const ran = await runTurn(provider(), turn([["flood", 40]]));
    expect(ran.outcome).toMatchObject(failed("OUTPUT_LIMIT"));
  });
});

describe("JSON lines", () => {
  test("are read by paths, to the terminal record and no further", async () => {
    const command = { jsonLines: { ...json, text: "message.content.0.text" } };
    const say = (text: string) => ["json", { message: { content: [{ text }] } }];
    const ran = await runTurn(
      provider(command),
      turn([
        ["out", "a line of a log\n"],
        say("one "),
        ["json", { message: "odd" }],
        ["json", null],
        say("two"),
        ["json", { type: "done", message: { content: [{ text: "!" }] } }],
        say(" dropped"),
        ["json", { error: "dropped" }],
      ]),
    );
    expect(answerOf(ran)).toBe("one two!");
    expect(ran.text).toBe("one two!");
  });

  test("without the terminal record are no answer", async () => {
    const ran = await runTurn(provider({ jsonLines: json }), turn([["json", { text: "half" }]]));
    expect(ran.outcome).toMatchObject(failed("CRASHED", "The program ended with code 0 without an answer."));
  });

  test("that need no terminal record end with the program", async () => {
    const command = { jsonLines: { text: "text" } };
    expect(answerOf(await runTurn(provider(command), turn([["json", { text: "all" }]])))).toBe("all");
    expect((await runTurn(provider(command), turn([["json", { other: "all" }]]))).outcome).toMatchObject(
      failed("CRASHED"),
    );
  });

  test("fail with the record of a failure, and with the exit code after a good one", async () => {
    const command = { jsonLines: json };
    const reported = await runTurn(
      provider(command),
      turn([
        ["json", { text: "so " }],
        ["json", { error: { code: 7 } }],
        ["json", { type: "done" }],
      ]),
    );
    expect(reported.outcome).toMatchObject(
      failed("PROVIDER_ERROR", 'The program reported a failure: {"code":7}', { modelNotAsked: false }),
    );
    const crashed = await runTurn(
      provider(command),
      turn([
        ["json", { type: "done" }],
        ["exit", 1],
      ]),
    );
    expect(crashed.outcome).toMatchObject(failed("CRASHED"));
  });

  test("a program that does not end after its terminal record is ended, and has answered", async () => {
    const mark = `${randomUUID()}/life/session`;
    const ran = await runTurn(
      provider({ jsonLines: json }, { lingerMs: 100 }),
      turn([["ignore"], ["json", { text: "answer", type: "done" }], ["hang"]], { childMark: mark }),
    );
    expect(answerOf(ran)).toBe("answer");
    expect(await marked(mark)).toBe(0);
  });

  test("however much follows the terminal record, it is read and dropped", async () => {
    const ran = await runTurn(
      provider({ jsonLines: json }),
      turn([
        ["json", { text: "answer", type: "done" }],
        ["flood", 40],
      ]),
    );
    expect(answerOf(ran)).toBe("answer");
  });
});

describe("the command line", () => {
  test("is given values where they cannot be options, and a prompt only as input", async () => {
    const command = {
      first: [
        ...program,
        "--id={native_id}",
        "--cd={workspace}",
        "--",
        "{session_id}",
        "{model}; rm -rf $HOME",
      ],
      environment: { ADDED: "yes" },
    };
    const nativeId = randomUUID();
    const asked = turn([["report"]], {
      binding: { state: "fresh", nativeId },
      sessionId: "s:1",
      model: "m-2",
    });
    const { args, input, env, cwd } = reportOf(
      answerOf(await runTurn(provider(command, { models: ["m-1", "m-2"] }), asked)),
    );
    expect(args).toEqual([`--id=${nativeId}`, `--cd=${workspace}`, "--", "s:1", "m-2; rm -rf $HOME"]);
    expect(input).toBe('[["report"]]');
    expect(cwd).toBe(workspace);
    expect(env).toMatchObject({ ADDED: "yes", SESSION_BROKER_CHILD: asked.childMark });
  });

  test("inherits what is allowed, and no secret of the broker", async () => {
    const parentEnvironment = {
      PATH: process.env.PATH,
      OTHER_KEY: "secret",
      ALLOWED_ONE: "1",
      SESSION_BROKER_TOKEN: "secret",
    };
    const ran = await runTurn(
      provider({}, { parentEnvironment, inherit: ["ALLOWED_*", "SESSION_BROKER_*"] }),
      turn([["report"]]),
    );
    const { env } = reportOf(answerOf(ran));
    expect(env).toMatchObject({ ALLOWED_ONE: "1" });
    expect(Object.keys(env)).not.toContain("OTHER_KEY");
    expect(Object.keys(env)).not.toContain("SESSION_BROKER_TOKEN");
  });

  test("takes the first model unless another is asked for, and only those that are configured", async () => {
    const command = { first: [...program, "--model={model}"] };
    const models = ["one", "two"];
    const first = await runTurn(provider(command, { models }), turn([["report"]]));
    expect(reportOf(answerOf(first)).args).toEqual(["--model=one"]);
    const other = await runTurn(provider(command, { models }), turn([["report"]], { model: "three" }));
    expect(other.outcome).toMatchObject(
      failed("INVALID_REQUEST", expect.any(String), { modelNotAsked: true }),
    );
    const none = await runTurn(provider(), turn([["report"]], { model: "three" }));
    expect(none.outcome).toMatchObject(failed("INVALID_REQUEST"));
  });

  test.each(["-rf", "a b", "../x", "x\n", "x".repeat(129), "ä", ""])(
    "is not given the session id %j",
    async (sessionId) => {
      const command = { first: [...program, "--", "{session_id}"] };
      const ran = await runTurn(provider(command), turn([["report"]], { sessionId }));
      expect(ran.events.map(({ kind }) => kind)).toEqual(["end"]);
      expect(ran.outcome).toMatchObject(
        failed("INVALID_REQUEST", expect.any(String), { modelNotAsked: true }),
      );
    },
  );
});

test("a program that does not read its input answers all the same", async () => {
  const deaf = provider({ first: [process.execPath, "-e", "console.log('ok')"] });
  const ran = await runTurn(deaf, turnOf("x".repeat(4 * 1024 * 1024), { workspace }));
  expect(answerOf(ran)).toBe("ok\n");
});

test("a large prompt arrives whole", async () => {
  const prompt = "ä".repeat(2 * 1024 * 1024);
  const count =
    "let n = 0; process.stdin.on('data', (c) => { n += c.length; }).on('end', () => console.log(n))";
  const ran = await runTurn(
    provider({ first: [process.execPath, "-e", count] }),
    turnOf(prompt, { workspace }),
  );
  expect(answerOf(ran)).toBe(`${Buffer.byteLength(prompt)}\n`);
});

test("an answer is whole although something else holds the output open", async () => {
  const script = "echo answer; setsid sleep 300 & exit 0";
  const mark = `${randomUUID()}/life/session`;
  const ran = await runTurn(provider({ first: ["/bin/sh", "-c", script] }), turn([], { childMark: mark }));
  expect(answerOf(ran)).toBe("answer\n");
  expect(await marked(mark)).toBe(0);
});

describe("what the program has to know", () => {
  test("stands before the prompt, in marked blocks", async () => {
    const ran = await runTurn(
      provider(),
      turn([["report"]], {
        system: "Be brief.",
        systemNotice: "Be briefer.",
        unseen: [{ user: "I am Ada", assistant: "Hello Ada" }],
      }),
    );
    expect(reportOf(answerOf(ran)).input).toBe(
      [
        "<system_prompt>\nBe brief.\n</system_prompt>",
        "Be briefer.",
        [
          "<earlier_conversation>",
          "This conversation began before you took part in it. What was said so far, oldest first, as JSON:",
          '[{"user":"I am Ada","assistant":"Hello Ada"}]',
          "The message to answer now follows.",
          "</earlier_conversation>",
        ].join("\n"),
        '[["report"]]',
      ].join("\n\n"),
    );
  });

  test("an attachment or an empty message is refused before the program starts", async () => {
    const image = { kind: "image", mediaType: "image/png", name: "a.png", data: new Uint8Array() } as const;
    for (const input of [[image], [{ kind: "text", text: " \n" } as const]]) {
      const ran = await runTurn(provider(), turn([], { input }));
      expect(ran.outcome).toMatchObject(
        failed("INVALID_REQUEST", expect.any(String), { modelNotAsked: true }),
      );
    }
  });
});

describe("a program that names its conversations", () => {
  const command = {
    resumed: [...program, "--resume={native_id}"],
    jsonLines: { ...json, nativeId: "id" },
  };

  test("is bound to the id that it says, before its text", async () => {
    const named = provider(command);
    expect(named.capabilities).toMatchObject({ assignsNativeId: "provider", resume: true });
    const ran = await runTurn(
      named,
      turn([["json", { id: "c-1", text: "hi", type: "done" }]], { binding: { state: "fresh" } }),
    );
    expect(ran.events.slice(0, 2)).toEqual([
      { kind: "started", nativeId: "c-1", resumed: false, warm: false },
      { kind: "text", text: "hi" },
    ]);
    expect(ran.outcome).toMatchObject({ status: "completed", nativeId: "c-1" });
  });

  test.each(["bound", "provisional"] as const)("goes on with a %s one", async (state) => {
    const ran = await runTurn(
      provider(command),
      turn([["report"], ["json", { id: "c-1", type: "done" }]], { binding: { state, nativeId: "c-1" } }),
    );
    expect(ran.events[0]).toMatchObject({ kind: "started", nativeId: "c-1", resumed: true });
    expect(JSON.parse(answerOf(ran)).args).toEqual(["--resume=c-1"]);
  });

  test("and answers in another one has failed, and its text is not taken", async () => {
    const ran = await runTurn(
      provider(command),
      turn([["json", { id: "c-2", text: "who are you?", type: "done" }]], {
        binding: { state: "bound", nativeId: "c-1" },
      }),
    );
    expect(ran.text).toBe("");
    expect(ran.outcome).toMatchObject(failed("PROVIDER_ERROR", expect.stringContaining("c-1")));
  });

  test("and does not name it has failed, since it would be forgotten", async () => {
    const ran = await runTurn(
      provider(command),
      turn([["json", { text: "hi", type: "done" }]], { binding: { state: "fresh" } }),
    );
    expect(ran.outcome).toMatchObject(
      failed("PROVIDER_ERROR", expect.stringContaining("json_lines.native_id")),
    );
  });
});

describe("a program that is told its conversation", () => {
  const command = {
    first: [...program, "--new={native_id}"],
    resumed: [...program, "--resume={native_id}"],
  };

  test("begins it once and goes on with it", async () => {
    const told = provider(command);
    expect(told.capabilities).toMatchObject({ assignsNativeId: "broker", resume: true });
    const nativeId = randomUUID();
    const args = async (state: "fresh" | "bound") =>
      reportOf(answerOf(await runTurn(told, turn([["report"]], { binding: { state, nativeId } })))).args;
    expect(await args("fresh")).toEqual([`--new=${nativeId}`]);
    expect(await args("bound")).toEqual([`--resume=${nativeId}`]);
  });

  test("begins another one after a turn that failed", async () => {
    const nativeId = randomUUID();
    const ran = await runTurn(
      provider(command),
      turn([["report"]], { binding: { state: "provisional", nativeId } }),
    );
    const [started] = ran.events;
    expect(started).toMatchObject({ kind: "started", nativeId: expect.not.stringMatching(nativeId) });
    expect(reportOf(answerOf(ran)).args).toEqual([
      `--new=${started?.kind === "started" && started.nativeId}`,
    ]);
  });
});

describe("a program is ended", () => {
  test("when the turn is cancelled, with all that it started", async () => {
    const cancel = new AbortController();
    const mark = `${randomUUID()}/life/session`;
    const ran = await runTurn(
      provider(),
      turn([["ignore"], ["detach"], ["hang"]], { signal: cancel.signal, childMark: mark }),
      atFirst("text", () => cancel.abort()),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
    expect(ran.survivors).toEqual([]);
    expect(isRunning(Number(ran.text))).toBe(false);
    expect(await marked(mark)).toBe(0);
  });

  test("and not even started by a turn that is cancelled before", async () => {
    const ran = await runTurn(provider(), turn([["out", "x"]], { signal: AbortSignal.abort() }));
    expect(ran.events).toEqual([{ kind: "end", outcome: { status: "cancelled" } }]);
  });

  test.each([
    ["takes too long", { timeoutMs: 300 }, "TIMEOUT"],
    ["says nothing", { silenceTimeoutMs: 300 }, "NO_OUTPUT_TIMEOUT"],
  ] as const)("when it %s", async (_, limits, code) => {
    const mark = `${randomUUID()}/life/session`;
    const ran = await runTurn(provider({}, limits), turn([["hang"]], { childMark: mark }));
    expect(ran.outcome).toMatchObject(failed(code, expect.stringContaining("300 ms"), { retryable: true }));
    expect(await marked(mark)).toBe(0);
  });

  test("when the provider closes", async () => {
    const closing = provider();
    const ran = await runTurn(
      closing,
      turn([["out", "x"], ["hang"]]),
      atFirst("text", () => void closing.close()),
    );
    expect(ran.outcome).toEqual({ status: "cancelled" });
  });
});

describe("a program that is not there", () => {
  test("is unavailable, and nothing was asked", async () => {
    const missing = provider({ first: [join(workspace, "missing")] });
    expect(await missing.health()).toMatchObject({ available: false });
    const ran = await runTurn(missing, turn([]));
    expect(ran.outcome).toMatchObject(
      failed("UNAVAILABLE", expect.stringContaining("Cannot start"), { modelNotAsked: true }),
    );
  });

  test("is told from a workspace that is not there", async () => {
    const ran = await runTurn(provider(), turn([], { workspace: join(workspace, "missing") }));
    expect(ran.outcome).toMatchObject(failed("UNAVAILABLE", expect.stringContaining("is no directory")));
  });

  test("one that is there is found without being run", async () => {
    expect(await provider({ first: ["node", fixture] }).health()).toMatchObject({ available: true });
  });
});
