import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  FinishReason,
  Notice_Kind,
  Notice_Recovered,
  TurnErrorCode,
  type TurnEvent,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { systemClock } from "../clock.js";
import { type OpenedStore, openStore } from "../store/lmdb/open.js";
import { type AdmitRequest, Dispatcher } from "./dispatcher.js";
import type { Provider, ProviderEvent, ProviderTurn } from "./provider.js";

let folder: string;
let opened: OpenedStore;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "turns-"));
  opened = await openStore({ path: join(folder, "s"), now: Date.now, writer: "inline", onLost: () => {} });
});

afterEach(async () => {
  await opened[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** An agent whose turns end when the test says so, and which notes what it was given. */
class ScriptedAgent implements Provider {
  readonly id = "agent";
  readonly kind = "scripted";
  readonly models = [];
  readonly timeoutMs = 60_000;
  maxRunning = 10;
  permissionMs = 60_000;
  survivorChecks = 0;
  leftBehind: readonly number[] = [];
  onSurvivorCheck = () => {};
  readonly turns: ProviderTurn[] = [];
  script: (turn: ProviderTurn) => AsyncIterable<ProviderEvent> = answer;
  readonly capabilities = {
    assignsNativeId: "broker",
    resume: true,
    interrupt: true,
    steer: false,
    warm: false,
    fork: false,
    reasoning: false,
    images: false,
    usage: true,
    cost: true,
    toolEvents: false,
    permissionRequests: false,
    jsonObject: false,
    jsonSchema: false,
  } as const;

  run(turn: ProviderTurn): AsyncIterable<ProviderEvent> {
    this.turns.push(turn);
    return this.script(turn);
  }

  async release() {
    return [];
  }

  async health() {
    return { available: true, detail: "" };
  }

  async close() {}
}

async function* answer(turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
  yield { kind: "started", resumed: turn.binding.state === "bound", warm: false };
  const text = `answer ${turn.turnNumber}`;
  yield { kind: "text", text };
  yield { kind: "end", outcome: { status: "completed", text, finishReason: FinishReason.STOP } };
}

function dispatcherFor(
  agent: ScriptedAgent,
  limits = {
    running: 10,
    waiting: 100,
    waitingOfGrant: 50,
    waitingInSession: 3,
    collectDebounceMs: 0,
    readersPerTurn: 10,
    readerBufferBytes: 1024,
  },
  log: (message: string, error: unknown) => void = (message, error) => {
    throw new Error(message, { cause: error });
  },
) {
  let native = 0;
  return new Dispatcher({
    store: opened.store,
    clock: systemClock,
    providers: new Map([[agent.id, agent]]),
    limits,
    newNativeId: () => `native-${++native}`,
    workspace: async () => folder,
    childMark: (sessionId) => sessionId,
    leftBehind: () => agent.leftBehind,
    chainAfter: (link) => link,
    stillRunning: async () => {
      agent.survivorChecks += 1;
      agent.onSurvivorCheck();
      return agent.survivorChecks < 2 ? [4242] : [];
    },
    log,
    readRequest: (encoded) => {
      const text = Buffer.from(encoded).toString();
      const told = /^told: (.*)/.exec(text)?.[1]?.split(", ") ?? [];
      const author = (index: number) => (index % 2 === 0 ? "user" : "assistant");
      return {
        input: [{ kind: "text", text }],
        history: told.map((each, index) => ({ author: author(index), text: each })),
      };
    },
    onEnded: () => {},
  });
}

let turnCount = 0;

function request(chat: string, more: Partial<AdmitRequest> = {}): AdmitRequest {
  const turnId = `turn-${++turnCount}`;
  const key = { scope: "acme", externalId: chat, provider: "agent" };
  return {
    reserve: {
      reservation: { key, aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} },
      nowMs: Date.now(),
      clockBelieved: true,
      newSessionId: crypto.randomUUID(),
    },
    identity: { storeKey: chat, requestKey: chat, agent: "" },
    turnId,
    clientChoseId: true,
    payloadHash: Buffer.from(turnId),
    credential: "test",
    grant: "acme",
    cancelOnDisconnect: false,
    onConflict: "ENQUEUE",
    mergeKey: "",
    external: false,
    queueDeadlineMs: Date.now() + 60_000,
    labels: {},
    request: Buffer.from(`prompt of ${turnId}`),
    ...more,
  };
}

const forever = new AbortController().signal;

async function collect(events: AsyncIterable<TurnEvent>): Promise<TurnEvent[]> {
  const all: TurnEvent[] = [];
  for await (const event of events) if (event.sequence > 0) all.push(event);
  return all;
}

async function run(dispatcher: Dispatcher, admit: AdmitRequest): Promise<TurnEvent[]> {
  const admission = await dispatcher.admit(admit);
  if (admission.kind !== "admitted" && admission.kind !== "repeated") throw new Error(admission.kind);
  return collect(dispatcher.follow(admission.turn, 0, forever));
}

function cases(events: readonly TurnEvent[]): (string | undefined)[] {
  return events.map(({ event }) => event.case);
}

/** An agent that says one word and then waits to be let go or stopped. */
function held() {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  async function* script(turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
    yield { kind: "started", resumed: false, warm: false };
    yield { kind: "text", text: "word" };
    const stopped = new Promise<void>((resolve) => {
      turn.signal.addEventListener("abort", () => resolve());
      if (turn.signal.aborted) resolve();
    });
    await Promise.race([released, stopped]);
    yield turn.signal.aborted
      ? { kind: "end", outcome: { status: "cancelled" } }
      : { kind: "end", outcome: { status: "completed", text: "word", finishReason: FinishReason.STOP } };
  }
  return { script, release: () => release() };
}

async function started(agent: ScriptedAgent): Promise<void> {
  while (agent.turns.length === 0) await new Promise((resolve) => setImmediate(resolve));
}

describe("a turn", () => {
  it("streams densely from Accepted to its ending, and the same again once it has ended", async () => {
    const dispatcher = dispatcherFor(new ScriptedAgent());
    const admit = request("chat");
    const events = await run(dispatcher, admit);
    expect(cases(events)).toEqual(["accepted", "started", "textDelta", "completed"]);
    expect(events.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4]);
    expect(events.at(-1)?.event.value).toMatchObject({ text: "answer 1", nativeId: "native-1" });
    expect(await run(dispatcher, admit)).toEqual(events);
  });

  it("goes on with the native conversation that the one before bound", async () => {
    const agent = new ScriptedAgent();
    const dispatcher = dispatcherFor(agent);
    await run(dispatcher, request("chat"));
    await run(dispatcher, request("chat"));
    expect(agent.turns.map(({ binding }) => binding)).toEqual([
      { nativeId: "native-1", state: "fresh" },
      { nativeId: "native-1", state: "bound" },
    ]);
  });

  it("runs alone in its session, in order, while other sessions run", async () => {
    const agent = new ScriptedAgent();
    const hold = held();
    const [holder, waiter, other] = [request("one"), request("one"), request("two")];
    agent.script = (turn) => (turn.turnId === holder.turnId ? hold.script(turn) : answer(turn));
    const dispatcher = dispatcherFor(agent);
    const first = run(dispatcher, holder);
    const second = run(dispatcher, waiter);
    await run(dispatcher, other);
    expect(agent.turns.map(({ turnId }) => turnId)).toEqual([holder.turnId, other.turnId]);
    hold.release();
    expect(cases(await first).at(-1)).toBe("completed");
    expect(cases(await second).at(-1)).toBe("completed");
  });

  it("tells a second reader the same events as the first, from any sequence on", async () => {
    const agent = new ScriptedAgent();
    const hold = held();
    agent.script = hold.script;
    const dispatcher = dispatcherFor(agent);
    const admission = await dispatcher.admit(request("chat"));
    if (admission.kind !== "admitted") throw new Error(admission.kind);
    const all = collect(dispatcher.follow(admission.turn, 0, forever));
    await started(agent);
    const late = collect(dispatcher.follow(admission.turn, 2, forever));
    hold.release();
    expect(await late).toEqual((await all).slice(2));
    expect(await collect(dispatcher.follow(admission.turn, 3, forever))).toEqual((await all).slice(3));
    await expect(collect(dispatcher.follow(admission.turn, 99, forever))).rejects.toMatchObject({
      reason: "CURSOR_AHEAD",
    });
  });

  it("ends CANCELLED when it is cancelled, waiting or running, and the next one runs", async () => {
    const agent = new ScriptedAgent();
    agent.script = held().script;
    const dispatcher = dispatcherFor(agent);
    const first = await dispatcher.admit(request("chat"));
    const second = await dispatcher.admit(request("chat"));
    const third = await dispatcher.admit(request("chat"));
    if (first.kind !== "admitted" || second.kind !== "admitted" || third.kind !== "admitted")
      throw new Error();
    const events = collect(dispatcher.follow(first.turn, 0, forever));
    const waiting = collect(dispatcher.follow(second.turn, 0, forever));
    expect(await dispatcher.cancel(second.turn)).toBe("REMOVED_FROM_QUEUE");
    expect(cases(await waiting)).toEqual(["accepted", "cancelled"]);
    await started(agent);
    agent.script = answer;
    expect(await dispatcher.cancel(first.turn)).toBe("INTERRUPTING");
    expect(cases(await events).at(-1)).toBe("cancelled");
    expect(cases(await collect(dispatcher.follow(third.turn, 0, forever))).at(-1)).toBe("completed");
  });

  it("is refused over the session's queue limit, and a known turn is met all the same", async () => {
    const agent = new ScriptedAgent();
    const hold = held();
    agent.script = hold.script;
    const dispatcher = dispatcherFor(agent);
    const admits = [1, 2, 3, 4].map(() => request("chat"));
    for (const admit of admits) await dispatcher.admit(admit);
    await started(agent);
    await expect(dispatcher.admit(request("chat"))).rejects.toMatchObject({ reason: "QUEUE_FULL" });
    expect((await dispatcher.admit(admits[3] ?? request("chat"))).kind).toBe("repeated");
    hold.release();
    await dispatcher.drain(10_000);
  });

  it("is refused over the queue limit of its grant, and another grant's is not", async () => {
    const agent = new ScriptedAgent();
    const hold = held();
    agent.script = hold.script;
    const limits = {
      running: 1,
      waiting: 10,
      waitingOfGrant: 2,
      waitingInSession: 5,
      collectDebounceMs: 0,
      readersPerTurn: 10,
      readerBufferBytes: 1024,
    };
    const dispatcher = dispatcherFor(agent, limits);
    for (const chat of ["a", "b", "c"]) await dispatcher.admit(request(chat, { grant: "loud" }));
    const tooMany = dispatcher.admit(request("d", { grant: "loud" }));
    await expect(tooMany).rejects.toMatchObject({ reason: "QUEUE_FULL" });
    expect((await dispatcher.admit(request("d", { grant: "quiet" }))).kind).toBe("admitted");
    hold.release();
    await dispatcher.drain(10_000);
  });

  it("is given, once it has the lane, what its caller was told by others since the last answer", async () => {
    const agent = new ScriptedAgent();
    const dispatcher = dispatcherFor(agent);
    const told = (history: string) => ({ request: Buffer.from(`told: ${history}`) });
    await run(dispatcher, request("chat", told("before, yes")));
    await run(dispatcher, request("chat", told("first, answer 1")));
    await run(dispatcher, request("chat", told("first, answer 1, second, answer 2, other, from elsewhere")));
    expect(agent.turns.map(({ unseen }) => unseen)).toEqual([
      [{ user: "before", assistant: "yes" }],
      [],
      [{ user: "other", assistant: "from elsewhere" }],
    ]);
  });

  it("with a known id and another payload is refused", async () => {
    const dispatcher = dispatcherFor(new ScriptedAgent());
    const admit = request("chat");
    await run(dispatcher, admit);
    expect(await dispatcher.admit({ ...admit, payloadHash: Buffer.from("other") })).toMatchObject({
      kind: "refused",
      reason: "TURN_ID_REUSED",
    });
  });

  it("that rejects conflicts is refused while another runs, with that one's id", async () => {
    const agent = new ScriptedAgent();
    const hold = held();
    agent.script = hold.script;
    const dispatcher = dispatcherFor(agent);
    const first = request("chat");
    await dispatcher.admit(first);
    const refused = await dispatcher.admit(request("chat", { onConflict: "REJECT" }));
    expect(refused).toMatchObject({ reason: "SESSION_BUSY", metadata: { turn_id: first.turnId } });
    hold.release();
    await dispatcher.drain(10_000);
  });
});

it("a process that cannot be ended keeps the lane shut, and is shown, until it is gone", async () => {
  const agent = new ScriptedAgent();
  const dispatcher = dispatcherFor(agent, undefined, () => {});
  let checksAtSecond = 0;
  agent.script = async function* (turn) {
    if (agent.turns.length === 2) checksAtSecond = agent.survivorChecks;
    for await (const event of answer(turn)) {
      yield event.kind === "end" && agent.turns.length === 1 ? { ...event, survivors: [4242] } : event;
    }
  };
  const shown: [boolean, number][] = [];
  const show = () => {
    const recordNo = agent.turns[0]?.recordNo ?? 0;
    shown.push([dispatcher.stuck.has(recordNo), dispatcher.stuck.countOf("agent")]);
  };
  agent.onSurvivorCheck = show;
  await run(dispatcher, request("chat"));
  await run(dispatcher, request("chat"));
  expect(checksAtSecond).toBe(2);
  show();
  expect(shown).toEqual([
    [true, 1],
    [true, 1],
    [false, 0],
  ]);
});

it("a process of an earlier life that cannot be ended keeps the lane shut until it is gone", async () => {
  const agent = new ScriptedAgent();
  const dispatcher = dispatcherFor(agent, undefined, () => {});
  agent.leftBehind = [4242];
  let turnsWhileLeft = -1;
  agent.onSurvivorCheck = () => {
    turnsWhileLeft = agent.turns.length;
  };
  await run(dispatcher, request("chat"));
  expect(turnsWhileLeft).toBe(0);
  expect(agent.survivorChecks).toBe(2);
});

describe("a lost native conversation", () => {
  it("is replaced once, with the kept history, and said so", async () => {
    const agent = new ScriptedAgent();
    const dispatcher = dispatcherFor(agent);
    await run(dispatcher, request("chat"));
    agent.script = (turn) => (turn.attempt === 1 ? lose() : answer(turn));
    const events = await run(dispatcher, request("chat"));
    expect(cases(events)).toEqual(["accepted", "notice", "started", "textDelta", "completed"]);
    const [, second] = agent.turns.slice(-2);
    expect(second).toMatchObject({
      attempt: 2,
      binding: { state: "fresh" },
      unseen: [{ assistant: "answer 1" }],
    });
    expect(second?.binding.nativeId).not.toBe("native-1");
    agent.script = answer;
    await run(dispatcher, request("chat"));
    expect(agent.turns.at(-1)?.binding).toEqual({ nativeId: second?.binding.nativeId, state: "bound" });
  });

  it("stays lost, and every turn is given the history, until one succeeds", async () => {
    const agent = new ScriptedAgent();
    const dispatcher = dispatcherFor(agent);
    await run(dispatcher, request("chat"));
    agent.script = lose;
    expect(cases(await run(dispatcher, request("chat"))).at(-1)).toBe("failed");
    agent.script = answer;
    const events = await run(dispatcher, request("chat"));
    expect(cases(events)).toEqual(["accepted", "notice", "started", "textDelta", "completed"]);
    expect(agent.turns.at(-1)?.unseen).toHaveLength(1);
  });

  it("says so if only a part of the history was kept", async () => {
    const agent = new ScriptedAgent();
    const dispatcher = dispatcherFor(agent);
    agent.script = async function* (turn) {
      for await (const event of answer(turn))
        yield event.kind === "text" ? { ...event, text: "x".repeat(600_000) } : event;
    };
    for (const _ of [1, 2]) await run(dispatcher, request("chat"));
    agent.script = (turn) => (turn.attempt === 1 ? lose() : answer(turn));
    const events = await run(dispatcher, request("chat"));
    expect(cases(events)).toEqual(["accepted", "notice", "notice", "started", "textDelta", "completed"]);
    expect(events.slice(1, 3).map(({ event }) => event.value)).toMatchObject([
      { kind: Notice_Kind.NATIVE_SESSION_LOST, recovered: Notice_Recovered.HISTORY },
      { kind: Notice_Kind.HISTORY_TRUNCATED },
    ]);
    expect(agent.turns.at(-1)?.unseen).toHaveLength(1);
  });

  async function* lose(): AsyncGenerator<ProviderEvent> {
    yield {
      kind: "end",
      outcome: {
        status: "failed",
        code: TurnErrorCode.NATIVE_SESSION_LOST,
        message: "gone",
        retryable: false,
        modelNotAsked: true,
      },
    };
  }
});

describe("a restart", () => {
  it("ends what ran as INTERRUPTED and runs what waited, each once", async () => {
    const agent = new ScriptedAgent();
    agent.script = held().script;
    // It is dead to the test once the other one has taken over.
    const before = dispatcherFor(agent, undefined, () => {});
    const first = await before.admit(request("chat"));
    const second = await before.admit(request("chat"));
    const third = await before.admit(request("chat", { clientChoseId: false }));
    if (first.kind !== "admitted" || second.kind !== "admitted" || third.kind !== "admitted")
      throw new Error();
    await started(agent);

    const next = new ScriptedAgent();
    const after = dispatcherFor(next);
    await after.restart();
    expect(cases(await collect(after.follow(first.turn, 0, forever))).at(-1)).toBe("interrupted");
    expect(cases(await collect(after.follow(second.turn, 0, forever))).at(-1)).toBe("completed");
    expect(cases(await collect(after.follow(third.turn, 0, forever)))).toEqual(["accepted", "cancelled"]);
    expect(next.turns.map(({ turnId }) => turnId)).toEqual([second.turn.turnId]);
  });
});
