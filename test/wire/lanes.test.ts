/** Callers that run the agent themselves: one at a time, with fences and leases. */
import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import type { AcquireLaneResponse, LaneGranted } from "../../gen/sessionbroker/v1/lane_pb.js";
import {
  FinishReason,
  Interrupted_Reason,
  OnConflict,
  type TurnEvent,
  TurnState,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { InProcessBroker, SteppedClock } from "../support/in-process.js";

const second = 1_000;
const key = (externalId: string) => ({ scope: "acme", externalId, provider: "codex" });

let clock: SteppedClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new SteppedClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock);
});

afterEach(() => broker.close());

/** A caller that asks for a lane, and what it is told. */
function acquire(
  chat: string,
  turnId: string = randomUUID(),
  more: { queueTimeout?: { seconds: bigint } } = {},
) {
  const events: AcquireLaneResponse["event"][] = [];
  const stop = new AbortController();
  const stream = broker.client.acquireLane({ key: key(chat), turnId, ...more }, { signal: stop.signal });
  const ended = (async () => {
    for await (const { event } of stream) events.push(event);
  })();
  ended.catch(() => {});
  const granted = async (nth = 1): Promise<LaneGranted> => {
    const grants = () => events.flatMap((event) => (event.case === "granted" ? [event.value] : []));
    await expect.poll(() => grants().length).toBeGreaterThanOrEqual(nth);
    return grants()[nth - 1] as LaneGranted;
  };
  const cases = () => events.map((event) => event.case);
  return {
    turnId,
    events,
    ended,
    granted,
    cases,
    leave: () => stop.abort(),
    fence: async () => (await granted()).fence,
  };
}

async function reasonOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => expect.fail("it was taken"),
    (failure: unknown) => ConnectError.from(failure),
  );
  return error.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[error.code];
}

const completed = (text: string) => ({
  case: "completed" as const,
  value: { text, finishReason: FinishReason.STOP },
});

async function record(turnId: string, fence: bigint, text = "done", inputText = "do it") {
  return broker.client.recordTurn({
    turnId,
    fence,
    ending: completed(text),
    inputText,
    usage: { outputTokens: 7n },
  });
}

async function follow(turnId: string): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const { event } of broker.client.attach({ turnId })) if (event !== undefined) events.push(event);
  return events;
}

describe("a lane", () => {
  it("goes from one caller to the next, in order, with a growing fence", async () => {
    const first = acquire("chat");
    const fence = await first.fence();
    const [second_, third] = [acquire("chat"), acquire("chat")];
    await expect.poll(() => third.cases()).toContain("waiting");
    expect(second_.cases()).not.toContain("granted");
    await record(first.turnId, fence);
    await first.ended;
    const next = await second_.fence();
    expect(next).toBeGreaterThan(fence);
    expect(third.cases()).not.toContain("granted");
    await record(second_.turnId, next);
    expect(await third.fence()).toBeGreaterThan(next);
    const { session } = await broker.client.getSession({ selector: { case: "key", value: key("chat") } });
    expect(session).toMatchObject({
      runningTurnId: third.turnId,
      turnCount: 3,
      usage: { outputTokens: 14n },
    });
  });

  it("is found by those who read the turn, from Accepted to the ending that was recorded", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    await broker.client.bind({ selector: { case: "key", value: key("chat") }, nativeId: "thread-1", fence });
    const reading = follow(holder.turnId);
    const { turn } = await record(holder.turnId, fence, "hello");
    expect(turn).toMatchObject({ state: TurnState.COMPLETED, fence, usage: { outputTokens: 7n } });
    const events = await reading;
    expect(events.map(({ event, sequence }) => [sequence, event.case])).toEqual([
      [1, "accepted"],
      [2, "started"],
      [3, "completed"],
    ]);
    expect(events[1]?.event.value).toMatchObject({ fence, provider: "codex" });
    expect(await follow(holder.turnId)).toEqual(events);
  });

  it("is not had by a caller whose fence is stale", async () => {
    const first = acquire("chat");
    const fence = await first.fence();
    await record(first.turnId, fence);
    const next = acquire("chat");
    const live = await next.fence();
    const { client } = broker;
    const selector = { case: "key" as const, value: key("chat") };
    expect(await reasonOf(client.bind({ selector, nativeId: "thread", fence }))).toBe("STALE_FENCE");
    expect(await reasonOf(client.renewLane({ turnId: next.turnId, fence }))).toBe("STALE_FENCE");
    expect(await reasonOf(record(next.turnId, fence))).toBe("STALE_FENCE");
    expect((await client.bind({ selector, nativeId: "thread", fence: live })).session?.nativeId).toBe(
      "thread",
    );
  });

  it("records one ending: a repeat is answered again, another is refused, and an ended turn is not granted", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    const first = await record(holder.turnId, fence);
    expect(await record(holder.turnId, fence)).toEqual(first);
    const cancelled = { case: "cancelled" as const, value: {} };
    const other = broker.client.recordTurn({ turnId: holder.turnId, fence, ending: cancelled });
    expect(await reasonOf(other)).toBe("TURN_ENDED");
    expect(await reasonOf(acquire("chat", holder.turnId).ended)).toBe("TURN_ENDED");
  });

  it("takes native ids by Bind alone", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    const ending = { case: "completed" as const, value: { text: "x", nativeId: "thread-9" } };
    const call = () => broker.client.recordTurn({ turnId: holder.turnId, fence, ending });
    expect(await reasonOf(call())).toBe("NATIVE_ID_MISMATCH");
    await broker.client.bind({ selector: { case: "key", value: key("chat") }, nativeId: "thread-9", fence });
    expect((await call()).turn?.nativeId).toBe("thread-9");
  });

  it("of a turn id that another turn has is refused", async () => {
    const holder = acquire("chat");
    await holder.granted();
    expect(await reasonOf(acquire("other chat", holder.turnId).ended)).toBe("TURN_ID_REUSED");
  });

  it("is not waited for by a caller that has gone", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    const waiting = acquire("chat", "gone");
    await expect.poll(() => waiting.cases()).toContain("waiting");
    waiting.leave();
    await waiting.ended.catch(() => {});
    const state = async () => {
      await broker.client.renewLane({ turnId: holder.turnId, fence });
      clock.pass(10 * second);
      return (await broker.client.getTurn({ turnId: "gone" })).turn?.state;
    };
    await expect.poll(state).toBe(TurnState.CANCELLED);
  });

  it("that is waited for too long is not granted", async () => {
    const holder = acquire("chat");
    await holder.granted();
    const waiting = acquire("chat", "late", { queueTimeout: { seconds: 6n } });
    await expect.poll(() => waiting.cases()).toContain("waiting");
    clock.pass(6 * second);
    expect(await reasonOf(waiting.ended)).toBe("LANE_NOT_GRANTED");
    expect((await broker.client.getTurn({ turnId: "late" })).turn?.state).toBe(TurnState.FAILED);
  });
});

describe("a holder that does not renew", () => {
  it("loses the lane after 20 s, and the next one is told", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    const next = acquire("chat");
    await expect.poll(() => next.cases()).toContain("waiting");
    clock.pass(19 * second);
    await broker.client.renewLane({ turnId: holder.turnId, fence });
    clock.pass(19 * second);
    expect(next.cases()).not.toContain("granted");
    clock.pass(1 * second);
    expect(await next.granted()).toMatchObject({ previousHolderLost: true });
    expect(await reasonOf(holder.ended)).toBe("LANE_LOST");
    expect((await follow(holder.turnId)).at(-1)?.event).toMatchObject({
      case: "interrupted",
      value: { reason: Interrupted_Reason.HOLDER_LOST },
    });
    expect(await reasonOf(record(holder.turnId, fence))).toBe("TURN_ENDED");
    expect(await reasonOf(broker.client.renewLane({ turnId: holder.turnId, fence }))).toBe("TURN_ENDED");
  });

  it("keeps it without its stream, as long as it renews", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    holder.leave();
    await holder.ended.catch(() => {});
    for (let i = 0; i < 10; i++) {
      clock.pass(5 * second);
      await broker.client.renewLane({ turnId: holder.turnId, fence });
    }
    expect((await record(holder.turnId, fence)).turn?.state).toBe(TurnState.COMPLETED);
  });

  it("is taken over by the same turn id: a new fence, and the first stream ends", async () => {
    const first = acquire("chat", "same");
    const fence = await first.fence();
    const again = acquire("chat", "same");
    const taken = await again.fence();
    expect(taken).toBeGreaterThan(fence);
    expect(await reasonOf(first.ended)).toBe("LANE_TAKEN_OVER");
    expect(await reasonOf(record("same", fence))).toBe("STALE_FENCE");
    expect((await record("same", taken)).turn?.state).toBe(TurnState.COMPLETED);
  });
});

describe("a restart of the broker", () => {
  it("leaves the lane with its holder, who goes on renewing and records the turn", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    await broker.restart();
    const next = acquire("chat");
    await expect.poll(() => next.cases()).toContain("waiting");
    clock.pass(19 * second);
    await broker.client.renewLane({ turnId: holder.turnId, fence });
    clock.pass(19 * second);
    expect(next.cases()).not.toContain("granted");
    expect((await record(holder.turnId, fence)).turn?.state).toBe(TurnState.COMPLETED);
    expect((await next.granted()).previousHolderLost).toBe(false);
    expect((await follow(holder.turnId)).map(({ event }) => event.case)).toEqual([
      "accepted",
      "started",
      "completed",
    ]);
  });

  it("waits 20 s more for a holder that is gone", async () => {
    const holder = acquire("chat");
    await holder.granted();
    await broker.restart();
    const next = acquire("chat");
    await expect.poll(() => next.cases()).toContain("waiting");
    clock.pass(19 * second);
    expect(next.cases()).not.toContain("granted");
    clock.pass(1 * second);
    expect((await next.granted()).previousHolderLost).toBe(true);
  });

  it("cancels those who waited: their streams are gone", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    const waiting = acquire("chat", "waited");
    await expect.poll(() => waiting.cases()).toContain("waiting");
    await broker.restart();
    expect((await broker.client.getTurn({ turnId: "waited" })).turn?.state).toBe(TurnState.CANCELLED);
    await record(holder.turnId, fence);
  });
});

describe("a holder that is asked to let go", () => {
  it("by CancelTurn has ten seconds, then no renewals", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    await broker.client.cancelTurn({ turnId: holder.turnId });
    await expect.poll(() => holder.cases()).toContain("revoked");
    clock.pass(9 * second);
    await broker.client.renewLane({ turnId: holder.turnId, fence });
    clock.pass(1 * second);
    expect(await reasonOf(broker.client.renewLane({ turnId: holder.turnId, fence }))).toBe("LANE_REVOKED");
    const cancelled = { case: "cancelled" as const, value: { partialText: "half" } };
    const { turn } = await broker.client.recordTurn({ turnId: holder.turnId, fence, ending: cancelled });
    expect(turn?.state).toBe(TurnState.CANCELLED);
  });

  const dispatch = async (onConflict: OnConflict) => {
    const target = { case: "key" as const, value: { ...key("chat"), provider: "echo" } };
    const input = [{ part: { case: "text" as const, value: "now" } }];
    const cases: (string | undefined)[] = [];
    for await (const { event } of broker.client.dispatch({ target, input, onConflict }))
      cases.push(event?.event.case);
    return cases;
  };
  const acquireEcho = () => {
    const events: AcquireLaneResponse["event"][] = [];
    const stream = broker.client.acquireLane({ key: { ...key("chat"), provider: "echo" }, turnId: "held" });
    const ended = (async () => {
      for await (const { event } of stream) events.push(event);
    })();
    ended.catch(() => {});
    const granted = async () => {
      await expect.poll(() => events.some(({ case: name }) => name === "granted")).toBe(true);
      return events.find((event) => event.case === "granted")?.value.fence ?? 0n;
    };
    return { events, granted };
  };

  it("by a turn with INTERRUPT that does lets it run", async () => {
    const holder = acquireEcho();
    const fence = await holder.granted();
    const interrupting = dispatch(OnConflict.INTERRUPT);
    await expect.poll(() => holder.events.some(({ case: name }) => name === "revoked")).toBe(true);
    await record("held", fence);
    expect((await interrupting).at(-1)).toBe("completed");
  });

  it("by a turn with INTERRUPT that does not is left alone, and the other is refused", async () => {
    const holder = acquireEcho();
    const fence = await holder.granted();
    const interrupting = reasonOf(dispatch(OnConflict.INTERRUPT));
    await expect.poll(() => holder.events.some(({ case: name }) => name === "revoked")).toBe(true);
    clock.pass(10 * second);
    expect(await interrupting).toBe("HOLDER_KEEPS_LANE");
    await broker.client.renewLane({ turnId: "held", fence });
    expect((await record("held", fence)).turn?.state).toBe(TurnState.COMPLETED);
  });

  it("by STEER: its agent takes no text from the broker", async () => {
    const holder = acquireEcho();
    await holder.granted();
    expect(await reasonOf(dispatch(OnConflict.STEER))).toBe("UNSUPPORTED_BY_PROVIDER");
  });

  it("keeps the session from being reset, unless by force", async () => {
    const holder = acquire("chat");
    const fence = await holder.fence();
    const selector = { case: "key" as const, value: key("chat") };
    const reset = (force: boolean) => broker.client.resetSession({ selector, expectedGeneration: 1, force });
    expect(await reasonOf(reset(false))).toBe("SESSION_BUSY");
    const forced = reset(true);
    await expect.poll(() => holder.cases()).toContain("revoked");
    await record(holder.turnId, fence);
    expect((await forced).session?.generation).toBe(2);
  });
});
