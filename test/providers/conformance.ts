/** What every provider does, whichever agent is behind it. */
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, type TestContext, test } from "vitest";
import { TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { OutputLimits } from "../../src/providers/lines.js";
import type { Provider, ProviderEvent } from "../../src/turns/provider.js";
import { Session } from "./session.js";
import { answerOf, atFirst, isRunning, type Ran } from "./turns.js";

export interface ProviderSettings {
  readonly silenceTimeoutMs?: number;
  readonly limits?: Partial<OutputLimits>;
}

/** An agent behind a provider. */
export interface Subject {
  readonly workspace: string;
  /** Each with processes of its own; the conversations are the same. */
  provider(settings?: ProviderSettings): Provider;
  /** The prompts that the agent remembers, the last included, from its answer. */
  promptsOf(answer: string): readonly string[];
  /** It remembers nothing, and what it is told of earlier turns it does not repeat. */
  readonly remembersNothing?: true;
  /** Now and then it leaves a prompt of a megabyte unanswered, and says so by failing the turn. */
  readonly losesHugePrompts?: true;
  /** Its conversations end with its process. */
  readonly forgetsWithProcess?: true;
  /** The event that tells that an answer which hangs has begun. Default: text. */
  readonly hangsAfter?: ProviderEvent["kind"];
  /** Words that let something happen when a prompt holds them; absent: it cannot be made to happen. */
  readonly words: {
    /** Begins to answer, and then nothing until it is told to stop. */
    readonly hang: string;
    readonly crash?: string;
    readonly silent?: string;
    /** A great many lines of output. */
    readonly flood?: string;
    /** Its output comes byte by byte. */
    readonly bytes?: string;
    /** A tool that leaves the agent's process group and lives on, its pid in the file. */
    readonly orphan?: (file: string) => string;
    /** The model's service answers with this status. */
    readonly fail?: (status: number) => string;
    /** Its connection breaks in mid-answer. */
    readonly cut?: string;
  };
  /** Makes the agent forget a conversation. */
  lose?(nativeId: string): void;
  close(): Promise<void>;
}

export interface SubjectKind {
  readonly name: string;
  readonly skip: boolean;
  /**
   * It takes seconds to start: tests run side by side, and what differs in its
   * prompt only is asked in one conversation.
   */
  readonly isSlow?: boolean;
  open(): Promise<Subject>;
}

/** What a status of the model's service becomes; a service that is broken may be called either. */
const failures: readonly (readonly [number, readonly TurnErrorCode[]])[] = [
  [401, [TurnErrorCode.AUTH]],
  [429, [TurnErrorCode.RATE_LIMITED]],
  [500, [TurnErrorCode.PROVIDER_ERROR, TurnErrorCode.OVERLOADED]],
  [529, [TurnErrorCode.OVERLOADED]],
];

/** Prompts that some agent takes for an option, a command, a file or a note. */
const peculiar = ["-p", "--help", "/help", "/clear", "@/etc/hostname", "!ls", "#note"];

/** A little more than a megabyte. */
const counting = Array.from({ length: 160_000 }, (_, at) => at + 1).join(",");

const patient = { timeout: 90_000 };

export function describeConformance({ name, skip, isSlow = false, open }: SubjectKind): void {
  /** What is asked in one conversation each. */
  const conversations = <T>(all: readonly T[]) => (isSlow ? [all] : all.map((each) => [each]));

  describe.skipIf(skip)(name, () => {
    let subject: Subject;
    const it = isSlow ? test.concurrent : test;

    function provider({ onTestFinished }: TestContext, settings: ProviderSettings = {}): Provider {
      const opened = subject.provider(settings);
      onTestFinished(() => opened.close());
      return opened;
    }
    const session = (context: TestContext, settings?: ProviderSettings) =>
      new Session(provider(context, settings), subject.workspace);

    const remembered = (ran: Ran) => subject.promptsOf(answerOf(ran));
    /** What it should remember of these prompts. */
    const all = (...prompts: string[]) => (subject.remembersNothing ? prompts.slice(-1) : prompts);
    /** The first and the last prompt: in between stands what was not answered, or does not. */
    const ends = (prompts: readonly string[]) =>
      [...new Set([prompts[0], prompts.at(-1)])].map((prompt) => prompt?.split("\n").at(-1));

    beforeAll(async () => {
      subject = await open();
    }, 120_000);
    afterAll(() => subject?.close());

    it("answers a first turn", patient, async (context) => {
      const ran = await session(context).run("one");
      expect(remembered(ran)).toEqual(["one"]);
      expect(ran.events[0]).toMatchObject({ kind: "started", resumed: false });
      expect(ran.text).toBe(answerOf(ran));
      expect(ran.survivors).toEqual([]);
    });

    it("remembers, in order", patient, async (context) => {
      const chat = session(context);
      for (const prompt of ["one", "two", "three"]) await chat.run(prompt);
      expect(remembered(await chat.run("four"))).toEqual(all("one", "two", "three", "four"));
    });

    it("goes on when every process is gone", patient, async (context) => {
      if (subject.forgetsWithProcess) return context.skip("its conversations end with its process");
      const chat = session(context);
      await chat.run("one");
      await chat.provider.close();
      chat.provider = provider(context);
      expect(remembered(await chat.run("two"))).toEqual(all("one", "two"));
    });

    it("keeps two sessions apart that it answers at once", patient, async (context) => {
      const chats = [session(context), session(context)];
      for (const round of ["one", "two"]) {
        const ran = await Promise.all(chats.map((chat, i) => chat.run(`${round} of ${i}`)));
        const rounds = round === "one" ? ["one"] : ["one", "two"];
        for (const [i, each] of ran.entries()) {
          expect(remembered(each)).toEqual(all(...rounds.map((said) => `${said} of ${i}`)));
        }
      }
    });

    it("stops in mid-answer, and goes on", patient, async (context) => {
      const chat = session(context);
      await chat.run("one");
      const abort = new AbortController();
      const stop = atFirst(subject.hangsAfter ?? "text", () => abort.abort());
      const ran = await chat.run(`two ${subject.words.hang}`, { signal: abort.signal }, stop);
      expect(ran.outcome.status).toBe("cancelled");
      expect(ends(remembered(await chat.run("three")))).toEqual(all("one", "three"));
    });

    it("takes longer than it may, and is stopped", patient, async (context) => {
      const ran = await session(context).run(`one ${subject.words.hang}`, { timeoutMs: 4_000 });
      expect(ran.outcome).toMatchObject({ status: "failed", code: TurnErrorCode.TIMEOUT });
    });

    it("says that it has lost a conversation, before the model is asked", patient, async (context) => {
      if (subject.lose === undefined) return context.skip("this agent keeps nothing that it could lose");
      const chat = session(context);
      await chat.run("one");
      await chat.provider.close();
      subject.lose(chat.nativeId);
      chat.provider = provider(context);
      const { outcome, text } = await chat.run("two");
      expect(outcome).toMatchObject({
        status: "failed",
        code: TurnErrorCode.NATIVE_SESSION_LOST,
        modelNotAsked: true,
      });
      expect(text).toBe("");
    });

    for (const statuses of conversations(failures)) {
      const title = `tells why a turn fails with status ${statuses.map(([status]) => status).join(", ")}`;
      it(title, patient, async (context) => {
        const { fail } = subject.words;
        if (fail === undefined) return context.skip("this agent asks no model");
        const chat = session(context);
        for (const [status, codes] of statuses) {
          const { outcome } = await chat.run(`one ${fail(status)}`);
          expect(outcome.status).toBe("failed");
          if (outcome.status === "failed") expect(codes).toContain(outcome.code);
        }
        expect(answerOf(await chat.run("two"))).not.toBe("");
      });
    }

    it("does not take half an answer for one", patient, async (context) => {
      const { cut } = subject.words;
      if (cut === undefined) return context.skip("this agent asks no model");
      expect((await session(context).run(`one ${cut}`)).outcome.status).toBe("failed");
    });

    it("takes a prompt of a megabyte", patient, async (context) => {
      if (subject.losesHugePrompts)
        return context.skip("this version of the agent does not always answer it");
      // What repeats itself is taken for a loop of the model by some agents.
      const ran = await session(context).run(`begin ${counting} end`);
      expect(remembered(ran)[0]?.startsWith("begin 1,2,3,4,")).toBe(true);
    });

    it.for(conversations(peculiar))("sends %j to the model as it is", patient, async (prompts, context) => {
      const chat = session(context);
      for (const [at, prompt] of prompts.entries()) {
        const said = remembered(await chat.run(prompt)).map((each) => each.trim());
        expect(said).toEqual(all(...prompts.slice(0, at + 1)));
      }
    });

    it("keeps every character, wherever its output is cut", patient, async (context) => {
      const prompt = `é 漢字 🦊 👩‍👩‍👧 ${subject.words.bytes ?? ""}`.trim();
      expect(remembered(await session(context).run(prompt))).toEqual([prompt]);
    });

    it("is ended when it floods", patient, async (context) => {
      const { flood } = subject.words;
      if (flood === undefined) return context.skip("this agent cannot be made to");
      const { outcome } = await session(context, { limits: { maxLines: 500, maxBytes: 100_000 } }).run(
        `one ${flood}`,
      );
      expect(outcome).toMatchObject({ status: "failed", code: TurnErrorCode.OUTPUT_LIMIT });
    });

    it("is ended when it says nothing", patient, async (context) => {
      const { silent } = subject.words;
      if (silent === undefined) return context.skip("this agent cannot be made to");
      const { outcome } = await session(context, { silenceTimeoutMs: 1_000 }).run(`one ${silent}`);
      expect(outcome).toMatchObject({ status: "failed", code: TurnErrorCode.NO_OUTPUT_TIMEOUT });
    });

    it("fails the turn in which it crashes, and goes on", patient, async (context) => {
      const { crash } = subject.words;
      if (crash === undefined) return context.skip("this agent cannot be made to");
      const chat = session(context);
      await chat.run("one");
      expect((await chat.run(`two ${crash}`)).outcome).toMatchObject({
        status: "failed",
        code: TurnErrorCode.CRASHED,
      });
      expect(ends(remembered(await chat.run("three")))).toEqual(all("one", "three"));
    });

    it("leaves no tool behind when it is let go of", patient, async (context) => {
      const { orphan } = subject.words;
      if (orphan === undefined || process.platform !== "linux")
        return context.skip("this agent runs no tools");
      const chat = session(context);
      const file = join(subject.workspace, `pid-${randomUUID()}`);
      await chat.run(`one ${orphan(file)}`);
      expect(existsSync(file)).toBe(true);
      await chat.provider.close();
      expect(isRunning(Number(readFileSync(file, "utf8")))).toBe(false);
      expect(await chat.pids()).toEqual([]);
    });
  });
}

/** The words that the fake agents know. */
export const fakeWords = {
  hang: "[[hang]]",
  crash: "[[crash]]",
  silent: "[[silent]]",
  flood: "[[flood 2000]]",
  bytes: "[[bytes]]",
  orphan: (file: string) => `[[orphan ${file}]]`,
  fail: (status: number) => `[[fail ${status}]]`,
} as const satisfies Subject["words"];

/** The prompts that an agent tells as JSON at the end of its answer. */
export function promptsOf(answer: string): readonly string[] {
  return JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
}

/** Folders of a fake agent, gone with `close`. */
export function openFolders(name: string) {
  const root = mkdtempSync(join(tmpdir(), `${name}-conformance-`));
  const workspace = join(root, "workspace");
  mkdirSync(workspace);
  const close = async () => rmSync(root, { recursive: true, force: true });
  return { root, workspace, close };
}
