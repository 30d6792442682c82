/** What a chat may expect: client, adapter, broker and agent are all real processes. */
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import OpenAI, { APIError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import {
  Cancelled_Reason as CancelReason,
  CancelTurnResponse_Action,
  Interrupted_Reason as InterruptReason,
  Notice_Kind,
  Notice_Recovered,
  TurnErrorCode,
  type TurnEvent,
  TurnState,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { findMarked } from "../../src/providers/marks.js";
import { TestBroker } from "../support/broker.js";
import { type Agent, hanging, historyOf } from "./agents.js";

const scope = "default";

export function describeChats(title: string, openAgent: () => Promise<Agent>): void {
  describe(title, { timeout: 180_000 }, () => {
    let agent: Agent;
    let broker: TestBroker;
    let openai: OpenAI;

    beforeAll(async () => {
      agent = await openAgent();
      const { executable, environment } = agent;
      // JSON is YAML.
      const config = JSON.stringify({ providers: [{ id: "claude", claude: { executable, environment } }] });
      broker = await TestBroker.start({ config });
      const baseURL = `${await broker.startAdapter()}/v1`;
      openai = new OpenAI({ baseURL, apiKey: broker.token, maxRetries: 0 });
    });

    afterAll(async () => {
      await broker?.close();
      await agent?.close();
    });

    const target = (key: string) => ({
      case: "key" as const,
      value: { scope, externalId: key, provider: "claude" },
    });
    const dispatch = (key: string, text: string, turnId = "") =>
      broker.client().dispatch({
        target: target(key),
        input: [{ part: { case: "text", value: text } }],
        turnId,
      });
    const turn = (key: string, text: string) => collect(dispatch(key, text));
    const body = (text: string) => ({
      model: "claude",
      messages: [{ role: "user" as const, content: text }],
    });
    const headersOf = (key: string) => ({ headers: { "X-Session-Broker-Key": key } });

    async function ask(key: string, text: string) {
      const { data, response } = await openai.chat.completions
        .create(body(text), headersOf(key))
        .withResponse();
      return {
        answer: data.choices[0]?.message.content ?? "",
        sessionId: response.headers.get("x-session-broker-session-id"),
        outcome: response.headers.get("x-session-broker-outcome"),
      };
    }

    async function askStreaming(key: string, text: string): Promise<string> {
      const chunks = await openai.chat.completions.create({ ...body(text), stream: true }, headersOf(key));
      let answer = "";
      for await (const chunk of chunks) answer += chunk.choices[0]?.delta.content ?? "";
      return answer;
    }

    /** A turn that has begun to answer and goes no further. */
    async function startHanging(key: string) {
      const turnId = randomUUID();
      const stream = dispatch(key, `wait ${hanging}`, turnId)[Symbol.asyncIterator]();
      const events: TurnEvent[] = [];
      while (events.at(-1)?.event.case !== "textDelta") {
        const { value } = await stream.next();
        if (value?.event === undefined) throw new Error("the turn has ended");
        events.push(value.event);
      }
      const sessionId = sessionIdOf(events);
      expect(await processesOf(sessionId)).not.toEqual([]);
      return { turnId, sessionId, rest: () => collect({ [Symbol.asyncIterator]: () => stream }) };
    }

    it("remembers what was said, streamed or not", async () => {
      expect(historyOf(await askStreaming("two turns", "My name is Ada."))).toEqual(["My name is Ada."]);
      const { answer, outcome } = await ask("two turns", "What is my name?");
      expect(historyOf(answer)).toEqual(["My name is Ada.", "What is my name?"]);
      expect(outcome).toBe("existing");
    });

    it("is one session for 20 first messages at once, and none of them is lost", async () => {
      const prompts = Array.from({ length: 20 }, (_, i) => `message ${i}`);
      const answers = await Promise.all(prompts.map((prompt) => ask("a crowd", prompt)));
      expect(new Set(answers.map(({ sessionId }) => sessionId)).size).toBe(1);
      expect(answers.filter(({ outcome }) => outcome === "created")).toHaveLength(1);
      // Each of them was told one more prompt than the one before.
      const lengths = answers.map(({ answer }) => historyOf(answer).length).sort((a, b) => a - b);
      expect(lengths).toEqual(prompts.map((_, i) => i + 1));
      const { answer } = await ask("a crowd", "the last");
      const history = historyOf(answer);
      expect(history.at(-1)).toBe("the last");
      expect(history.slice(0, -1).sort()).toEqual([...prompts].sort());
      // Such as Node's about too many listeners.
      expect(broker.output.join("").match(/.*Warning: .*/g)).toBeNull();
    });

    it("outlives kill -9 of the broker between two turns", async () => {
      const before = await ask("kill", "one");
      await broker.restart("SIGKILL");
      const after = await ask("kill", "two");
      expect(historyOf(after.answer)).toEqual(["one", "two"]);
      expect(after).toMatchObject({ sessionId: before.sessionId, outcome: "existing" });
      const third = await turn("kill", "three");
      expect(startedOf(third)).toMatchObject([{ attempt: 1, resumed: true }]);
      expect(historyOf(answerOf(third))).toEqual(["one", "two", "three"]);
    });

    it("goes on with what the broker kept when the agent has lost the conversation", async () => {
      const first = await turn("lost", "I am Ada");
      const second = await turn("lost", "I live in London");
      // A process that rests remembers it all the same.
      await endProcessesOf(sessionIdOf(second));
      rmSync(agent.transcriptOf(nativeIdOf(second)));

      const recovered = await turn("lost", "Who am I?");
      expect(recovered[0]?.event).toMatchObject({ case: "accepted", value: { outcome: Outcome.EXISTING } });
      expect(sessionIdOf(recovered)).toBe(sessionIdOf(first));
      expect(noticesOf(recovered)).toMatchObject([
        { kind: Notice_Kind.NATIVE_SESSION_LOST, recovered: Notice_Recovered.HISTORY },
      ]);
      expect(startedOf(recovered)).toMatchObject([{ attempt: 2, resumed: false }]);
      expect(nativeIdOf(recovered)).not.toBe(nativeIdOf(second));
      // The one prompt of the new conversation tells all of the old one, answers included.
      const told = historyOf(answerOf(recovered));
      expect(told).toHaveLength(1);
      for (const text of ["I am Ada", "I live in London", "Who am I?", "turns=2 "])
        expect(told[0]).toContain(text);

      const next = await turn("lost", "And now?");
      expect(noticesOf(next)).toEqual([]);
      expect(startedOf(next)).toMatchObject([{ attempt: 1, resumed: true, nativeId: nativeIdOf(recovered) }]);
      expect(historyOf(answerOf(next))).toEqual([...told, "And now?"]);
    });

    it("can be cancelled in the middle of an answer, and goes on", async () => {
      await turn("cancel", "one");
      const { turnId, sessionId, rest } = await startHanging("cancel");
      const { action } = await broker.client().cancelTurn({ turnId });
      expect(action).toBe(CancelTurnResponse_Action.INTERRUPTING);
      const ending = (await rest()).at(-1)?.event;
      expect(ending).toMatchObject({ case: "cancelled", value: { reason: CancelReason.REQUESTED } });
      const [rested, ...others] = await processesOf(sessionId);
      expect(others).toEqual([]);
      const { answer } = await ask("cancel", "two");
      expect(historyOf(answer).join("\n")).toMatch(/^one\n.*\ntwo$/s);
      expect(await processesOf(sessionId)).toEqual([rested]);
    });

    it("outlives kill -9 of the broker in the middle of an answer", async () => {
      await turn("kill in mid-turn", "one");
      const { turnId, sessionId, rest } = await startHanging("kill in mid-turn");
      await broker.kill("SIGKILL");
      await expect(rest()).rejects.toThrow();
      await broker.start();
      expect(await processesOf(sessionId)).toEqual([]);
      const { turn: row } = await broker.client().getTurn({ turnId });
      expect(row?.state).toBe(TurnState.INTERRUPTED);
      const events = await collect(broker.client().attach({ turnId }));
      expect(events.at(-1)?.event).toMatchObject({
        case: "interrupted",
        value: { reason: InterruptReason.BROKER_CRASHED },
      });
      const next = await turn("kill in mid-turn", "two");
      expect(sessionIdOf(next)).toBe(sessionId);
      expect(startedOf(next)).toMatchObject([{ attempt: 1, resumed: true }]);
      expect(historyOf(answerOf(next)).join("\n")).toMatch(/^one\n.*\ntwo$/s);
    });

    it.each([
      [401, "AUTH", 502],
      [429, "RATE_LIMITED", 429],
      [529, "OVERLOADED", 503],
    ] as const)("says why a model that answers %i failed, and goes on", async (status, code, http) => {
      const key = `failing ${status}`;
      const prompt = `hello ${agent.failing(status)}`;
      const failed = await turn(key, prompt);
      expect(failed.at(-1)?.event).toMatchObject({
        case: "failed",
        value: { error: { code: TurnErrorCode[code] } },
      });
      const name = code.toLowerCase();
      const error = await ask(key, prompt).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(APIError);
      expect(error).toMatchObject({ status: http, code: name });
      await expect(askStreaming(key, prompt)).rejects.toMatchObject({ code: name });
      const { answer, sessionId } = await ask(key, "better?");
      expect(historyOf(answer).join("\n")).toContain("better?");
      expect(sessionId).toBe(sessionIdOf(failed));
    });
  });
}

async function collect(stream: AsyncIterable<{ event?: TurnEvent | undefined }>): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const { event } of stream) if (event !== undefined) events.push(event);
  return events;
}

function valuesOf<Case extends TurnEvent["event"]["case"]>(events: readonly TurnEvent[], wanted: Case) {
  type Wanted = Extract<TurnEvent["event"], { case: Case }>["value"];
  return events.flatMap(({ event }) => (event.case === wanted ? [event.value as Wanted] : []));
}

const startedOf = (events: readonly TurnEvent[]) => valuesOf(events, "started");
const noticesOf = (events: readonly TurnEvent[]) => valuesOf(events, "notice");

function answerOf(events: readonly TurnEvent[]): string {
  return completedOf(events).text;
}

function nativeIdOf(events: readonly TurnEvent[]): string {
  return completedOf(events).nativeId;
}

function completedOf(events: readonly TurnEvent[]) {
  const [completed] = valuesOf(events, "completed");
  if (completed === undefined) throw new Error(`no answer, but ${events.at(-1)?.event.case}`);
  return completed;
}

function sessionIdOf(events: readonly TurnEvent[]): string {
  const [accepted] = valuesOf(events, "accepted");
  if (accepted?.session === undefined) throw new Error("the turn was not accepted");
  return accepted.session.sessionId;
}

/** As if they had crashed. */
async function endProcessesOf(sessionId: string): Promise<void> {
  for (const pid of await processesOf(sessionId)) process.kill(pid, "SIGKILL");
  await expect.poll(() => processesOf(sessionId)).toEqual([]);
}

/** Every process that was started for the session, by whichever life of the broker. */
async function processesOf(sessionId: string): Promise<readonly number[]> {
  const found = await findMarked((mark) => mark.endsWith(`/${sessionId}`));
  return found.map(({ pid }) => pid);
}
