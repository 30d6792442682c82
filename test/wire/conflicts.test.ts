/** What a turn does that finds its session busy. */
import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import {
  Cancelled_Reason,
  CancelTurnResponse_Action,
  OnConflict,
  OnDisconnect,
  type TurnEvent,
  TurnState,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";

const config = `
providers:
  - id: echo
    echo: {}
  - id: slow
    echo: { delay: 0.05s }
limits:
  collectDebounce: 0.3s
`;
const longText = Array.from({ length: 400 }, (_, i) => `word${i}`).join(" ");

let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  broker = await TestBroker.start({ config });
  client = broker.client();
});

afterAll(() => broker.close());

interface Wanted {
  readonly onConflict?: OnConflict;
  readonly turnId?: string;
  readonly model?: string;
  readonly system?: string;
  readonly onDisconnect?: OnDisconnect;
  readonly provider?: string;
}

/** A turn and the events it has had so far. */
function dispatch(chat: string, text: string, wanted: Wanted = {}) {
  const { provider = "slow", turnId = randomUUID(), ...more } = wanted;
  const events: TurnEvent[] = [];
  const target = { case: "key" as const, value: { scope: "acme", externalId: chat, provider } };
  const stream = client.dispatch({
    target,
    turnId,
    input: [{ part: { case: "text", value: text } }],
    ...more,
  });
  const ended = (async () => {
    for await (const { event } of stream) if (event !== undefined) events.push(event);
    return events;
  })();
  ended.catch(() => {});
  const cases = () => events.map(({ event }) => event.case);
  return {
    turnId,
    events,
    ended,
    accepted: () => expect.poll(cases).toContain("accepted"),
    answering: () => expect.poll(cases).toContain("textDelta"),
  };
}

const endingOf = async (turn: { ended: Promise<TurnEvent[]> }) => (await turn.ended).at(-1)?.event;
const stateOf = async (turnId: string) => (await client.getTurn({ turnId })).turn?.state;

async function reasonOf(turn: {
  ended: Promise<unknown>;
}): Promise<{ code: Code; reason?: string; turnId?: string }> {
  const error = ConnectError.from(
    await turn.ended.then(
      () => expect.fail("it was taken"),
      (failure: unknown) => failure,
    ),
  );
  const [info] = error.findDetails(ErrorInfoSchema);
  return {
    code: error.code,
    ...(info === undefined ? {} : { reason: info.reason, turnId: info.metadata.turn_id ?? "" }),
  };
}

describe("INTERRUPT", () => {
  it("ends the running turn as superseded, and goes before those that wait", async () => {
    const running = dispatch("interrupt", longText);
    await running.answering();
    const waiting = dispatch("interrupt", "I was first");
    await waiting.accepted();
    const urgent = dispatch("interrupt", "listen", { onConflict: OnConflict.INTERRUPT });
    expect(await endingOf(running)).toMatchObject({
      case: "cancelled",
      value: { reason: Cancelled_Reason.SUPERSEDED, byTurnId: urgent.turnId },
    });
    expect(await endingOf(urgent)).toMatchObject({ value: { text: "turn 2: listen" } });
    expect(await endingOf(waiting)).toMatchObject({ value: { text: "turn 3: I was first" } });
  });

  it("supersedes a turn that waits to interrupt, and no other", async () => {
    const running = dispatch("twice", longText);
    await running.answering();
    const all = Array.from({ length: 6 }, (_, i) =>
      dispatch("twice", `number ${i}`, { onConflict: OnConflict.INTERRUPT }),
    );
    const patient = dispatch("twice", "patient");
    const endings = await Promise.all(all.map(endingOf));
    const done = endings.filter((ending) => ending?.case === "completed");
    const superseded = endings.filter((ending) => ending?.case === "cancelled");
    expect(done.length).toBeGreaterThanOrEqual(1);
    expect(done.length + superseded.length).toBe(6);
    const turnIds = all.map(({ turnId }) => turnId);
    for (const ending of superseded) {
      if (ending?.case !== "cancelled") continue;
      expect(ending.value.reason).toBe(Cancelled_Reason.SUPERSEDED);
      expect(turnIds).toContain(ending.value.byTurnId);
    }
    expect((await endingOf(patient))?.case).toBe("completed");
  });

  it("runs at once in a session that is idle", async () => {
    const turn = dispatch("idle", "hi", { onConflict: OnConflict.INTERRUPT, provider: "echo" });
    expect(await endingOf(turn)).toMatchObject({ value: { text: "turn 1: hi" } });
  });
});

describe("STEER", () => {
  it("puts the text into the running turn, and both callers follow that one", async () => {
    const running = dispatch("steer", "one two three four five six seven eight nine ten");
    await running.answering();
    const more = dispatch("steer", "and this", { onConflict: OnConflict.STEER });
    const [first, second] = await Promise.all([running.ended, more.ended]);
    expect(first.at(-1)?.event.value).toMatchObject({
      text: "turn 1: one two three four five six seven eight nine ten and this",
    });
    expect(second.filter(({ sequence }) => sequence > 0)).toEqual(
      first.filter(({ sequence }) => sequence > 0),
    );
    const { turn } = await client.getTurn({ turnId: more.turnId });
    expect(turn).toMatchObject({ state: TurnState.MERGED, mergedIntoTurnId: running.turnId });
    // A retry of the text meets the turn that took it.
    const retry = dispatch("steer", "and this", { onConflict: OnConflict.STEER, turnId: more.turnId });
    expect((await retry.ended).at(-1)).toEqual(first.at(-1));
    const next = dispatch("steer", "next", { provider: "slow" });
    expect(await endingOf(next)).toMatchObject({ value: { text: "turn 2: next" } });
  });

  it("is a turn of its own in a session that is idle", async () => {
    const turn = dispatch("steer idle", "hi", { onConflict: OnConflict.STEER });
    expect(await endingOf(turn)).toMatchObject({ value: { text: "turn 1: hi" } });
  });

  it("is refused while a turn runs with another system prompt", async () => {
    const running = dispatch("steer other", longText);
    await running.answering();
    const other = dispatch("steer other", "more", { onConflict: OnConflict.STEER, system: "be brief" });
    expect(await reasonOf(other)).toEqual({
      code: Code.FailedPrecondition,
      reason: "MERGE_MISMATCH",
      turnId: running.turnId,
    });
    await client.cancelTurn({ turnId: running.turnId });
  });

  it("can be detached from the turn that took it, which goes on", async () => {
    const running = dispatch("steer detach", longText);
    await running.answering();
    const more = dispatch("steer detach", "more", { onConflict: OnConflict.STEER });
    await more.answering();
    expect((await client.cancelTurn({ turnId: more.turnId })).action).toBe(
      CancelTurnResponse_Action.DETACHED,
    );
    expect(await stateOf(running.turnId)).toBe(TurnState.RUNNING);
    await client.cancelTurn({ turnId: running.turnId });
    expect((await endingOf(more))?.case).toBe("cancelled");
  });
});

describe("COLLECT", () => {
  const collect = { onConflict: OnConflict.COLLECT };

  it("gathers messages that come in a burst into one turn, in order", async () => {
    const turns = [];
    for (const text of ["one", "two", "three"]) {
      const turn = dispatch("burst", text, collect);
      await turn.accepted();
      turns.push(turn);
    }
    const [first, ...others] = await Promise.all(turns.map((turn) => turn.ended));
    expect(first?.at(-1)?.event.value).toMatchObject({ text: "turn 1: one\ntwo\nthree" });
    for (const other of others) expect(other.at(-1)).toEqual(first?.at(-1));
    const next = dispatch("burst", "next", { provider: "slow" });
    expect(await endingOf(next)).toMatchObject({ value: { text: "turn 2: next" } });
  });

  it("gathers what comes while a turn runs, and a retry meets the gathered turn", async () => {
    const running = dispatch("gather", longText);
    await running.answering();
    const first = dispatch("gather", "a", collect);
    await first.accepted();
    const second = dispatch("gather", "b", collect);
    await second.accepted();
    const retry = dispatch("gather", "b", { ...collect, turnId: second.turnId });
    await retry.accepted();
    await client.cancelTurn({ turnId: running.turnId });
    const endings = await Promise.all([first, second, retry].map(endingOf));
    for (const ending of endings) expect(ending).toMatchObject({ value: { text: "turn 2: a\nb" } });
    expect(await stateOf(second.turnId)).toBe(TurnState.MERGED);
    const reused = dispatch("gather", "something else", { ...collect, turnId: second.turnId });
    expect(await reasonOf(reused)).toMatchObject({ code: Code.AlreadyExists, reason: "TURN_ID_REUSED" });
  });

  it("gives no message that outlives a restart to a turn that does not", async () => {
    const running = dispatch("outlives", longText);
    await running.answering();
    const minted = dispatch("outlives", "a", { ...collect, turnId: "" });
    await minted.accepted();
    const chosen = dispatch("outlives", "b", collect);
    await chosen.accepted();
    const joining = dispatch("outlives", "c", { ...collect, turnId: "" });
    await joining.accepted();
    await broker.restart();
    client = broker.client();
    for (const turn of [running, minted, joining]) await turn.ended.catch(() => {});
    const again = dispatch("outlives", "b", { ...collect, turnId: chosen.turnId });
    expect(await endingOf(again)).toMatchObject({ value: { text: "turn 2: b\nc" } });
  });

  it("takes a cancelled message out while the gathered turn waits", async () => {
    const running = dispatch("take out", longText);
    await running.answering();
    const first = dispatch("take out", "a", collect);
    await first.accepted();
    const others = [];
    for (const text of ["b", "c"]) {
      const turn = dispatch("take out", text, collect);
      await turn.accepted();
      others.push(turn);
    }
    const taken = others[0]?.turnId ?? "";
    expect(await client.cancelTurn({ turnId: taken })).toMatchObject({
      action: CancelTurnResponse_Action.REMOVED_FROM_QUEUE,
      turn: { state: TurnState.CANCELLED },
    });
    await client.cancelTurn({ turnId: running.turnId });
    expect(await endingOf(first)).toMatchObject({ value: { text: "turn 2: a\nc" } });
  });

  it.each([
    ["system prompt", { system: "be brief" }],
    ["on_disconnect", { onDisconnect: OnDisconnect.CANCEL }],
  ])("does not mix turns with another %s", async (_, other) => {
    const chat = `mixed ${Object.keys(other)[0]}`;
    const running = dispatch(chat, longText);
    await running.answering();
    const first = dispatch(chat, "a", collect);
    await first.accepted();
    const second = dispatch(chat, "b", { ...collect, ...other });
    await second.accepted();
    await client.cancelTurn({ turnId: running.turnId });
    expect(await endingOf(first)).toMatchObject({ value: { text: "turn 2: a" } });
    expect(await endingOf(second)).toMatchObject({ value: { text: "turn 3: b" } });
  });

  it("survives a kill: the gathered text is in the turn that runs afterwards", async () => {
    const running = dispatch("killed", longText);
    await running.answering();
    const turns = [];
    for (const text of ["a", "b"]) {
      const turn = dispatch("killed", text, collect);
      await turn.accepted();
      turns.push(turn);
    }
    await broker.restart("SIGKILL");
    client = broker.client();
    for (const { turnId } of turns) {
      const events: TurnEvent[] = [];
      for await (const { event } of client.attach({ turnId })) if (event !== undefined) events.push(event);
      expect(events.at(-1)?.event).toMatchObject({ case: "completed", value: { text: "turn 2: a\nb" } });
    }
  });
});
