import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import type { TurnEventSchema } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { followTurn } from "./follow-turn.js";

type Event = MessageInitShape<typeof TurnEventSchema>;

const accepted: Event = { sequence: 1, event: { case: "accepted", value: {} } };
const delta = (sequence: number): Event => ({
  sequence,
  event: { case: "textDelta", value: { text: `${sequence}` } },
});
const heartbeat: Event = { event: { case: "heartbeat", value: {} } };
const completed = (sequence: number): Event => ({ sequence, event: { case: "completed", value: {} } });
const broken = new ConnectError("reset", Code.Aborted);
const refused = new ConnectError("connect ECONNREFUSED", Code.Unavailable);
const draining = new ConnectError("draining", Code.Unavailable, undefined, [
  { desc: ErrorInfoSchema, value: { reason: "DRAINING" } },
]);
const gone = new ConnectError("gone", Code.NotFound, undefined, [
  { desc: ErrorInfoSchema, value: { reason: "TURN_NOT_FOUND" } },
]);

/** Follows a turn whose streams, one after the other, give these events and break with these errors. */
async function follow(...streams: (Event | ConnectError)[][]) {
  const attached: number[] = [];
  let dispatched = 0;
  let readToTheEnd = 0;
  async function* play() {
    for (const item of streams.shift() ?? [broken]) {
      if (item instanceof ConnectError) throw item;
      yield { event: item };
    }
    readToTheEnd++;
  }
  const transport = createRouterTransport(({ service }) => {
    service(SessionBroker, {
      dispatch(request) {
        expect(request.turnId).toBe("t");
        dispatched++;
        return play();
      },
      attach(request) {
        expect(request).toMatchObject({ turnId: "t", scope: "s" });
        attached.push(request.afterSequence);
        return play();
      },
    });
  });
  const events: (number | string | undefined)[] = [];
  let sleeps = 0;
  let failure: unknown;
  try {
    for await (const { sequence, event } of followTurn({
      broker: createClient(SessionBroker, transport),
      request: { turnId: "t" },
      scope: "s",
      headers: {},
      signal: new AbortController().signal,
      timers: {
        async sleep() {
          sleeps++;
        },
      },
      reattachAttempts: 2,
      reattachDelayMs: 1,
    })) {
      events.push(sequence || event.case);
    }
  } catch (error) {
    failure = error;
  }
  return { events, dispatched, attached, sleeps, readToTheEnd, failure };
}

describe("followTurn", () => {
  it("yields a whole turn", async () => {
    expect(await follow([accepted, heartbeat, delta(2), completed(3)])).toEqual({
      events: [1, "heartbeat", 2, 3],
      dispatched: 1,
      attached: [],
      sleeps: 0,
      readToTheEnd: 1,
      failure: undefined,
    });
  });

  it("has a turn that ended, whatever becomes of the stream", async () => {
    const { events, failure } = await follow([accepted, completed(2), broken]);
    expect(events).toEqual([1, 2]);
    expect(failure).toBeUndefined();
  });

  it("takes a broken stream up where it was, each event once", async () => {
    const { events, attached, failure } = await follow(
      [accepted, delta(2), broken],
      [delta(2), delta(3), heartbeat, draining],
      [completed(4)],
    );
    expect(events).toEqual([1, 2, 3, "heartbeat", 4]);
    expect(attached).toEqual([2, 3]);
    expect(failure).toBeUndefined();
  });

  it("takes up a stream that ends without an ending", async () => {
    const { events, attached } = await follow([accepted], [completed(2)]);
    expect(events).toEqual([1, 2]);
    expect(attached).toEqual([1]);
  });

  it("counts attempts in a row only", async () => {
    const { events, sleeps } = await follow(
      [accepted, broken],
      [broken],
      [delta(2), broken],
      [broken],
      [completed(3)],
    );
    expect(events).toEqual([1, 2, 3]);
    expect(sleeps).toBe(4);
  });

  it("gives up after some attempts", async () => {
    const { events, attached, failure } = await follow(
      [accepted, broken],
      [broken],
      [broken],
      [completed(2)],
    );
    expect(events).toEqual([1]);
    expect(attached).toEqual([1, 1]);
    expect(failure).toMatchObject({ code: Code.Aborted });
  });

  it("sends again, under the same id, what broke before the turn was accepted", async () => {
    expect(await follow([broken], [refused], [accepted, completed(2)])).toMatchObject({
      events: [1, 2],
      dispatched: 3,
      attached: [],
    });
    expect(await follow([broken], [broken], [broken])).toMatchObject({
      dispatched: 3,
      failure: { code: Code.Aborted },
    });
  });

  it.each([
    ["a connection that was not made", refused],
    ["what the broker answers", draining],
    ["any other failure", new ConnectError("bug", Code.Internal)],
  ])("throws %s at once before the turn is accepted", async (_, failure) => {
    expect(await follow([failure])).toMatchObject({
      events: [],
      dispatched: 1,
      failure: { code: failure.code },
    });
  });

  it("throws at once what the broker answers", async () => {
    expect(await follow([accepted, broken], [gone])).toMatchObject({
      attached: [1],
      failure: { code: Code.NotFound },
    });
  });
});
