import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { Selected_Source } from "../../gen/sessionbroker/v1/selection_pb.js";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import {
  CancelTurnResponse_Action,
  OnConflict,
  type TurnEvent,
  TurnState,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { type BrokerClient, type Protocol, TestBroker } from "../support/broker.js";

/** Two providers that answer word by word, one of them slowly enough to be met in the middle. */
const config = `
providers:
  - id: echo
    echo: {}
  - id: slow
    echo: { delay: 0.05s }
    maxRunning: 50
`;

let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  broker = await TestBroker.start({ config });
  client = broker.client();
});

afterAll(() => broker.close());

const target = (externalId: string, provider = "echo") => ({
  case: "key" as const,
  value: { scope: "acme", externalId, provider },
});
const say = (text: string) => [{ part: { case: "text" as const, value: text } }];
const longText = Array.from({ length: 40 }, (_, i) => `word${i}`).join(" ");

async function collect(
  stream: AsyncIterable<{ event?: TurnEvent | undefined }>,
  until = (_: TurnEvent) => false,
): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const { event } of stream) {
    if (event === undefined || event.sequence === 0) continue;
    events.push(event);
    if (until(event)) break;
  }
  return events;
}

const cases = (events: readonly TurnEvent[]) => events.map(({ event }) => event.case);

function textOf(events: readonly TurnEvent[]): string {
  return events.map(({ event }) => (event.case === "textDelta" ? event.value.text : "")).join("");
}

describe.each(["connect", "connect-h2", "grpc", "grpc-web"] as const)("over %s", (protocol: Protocol) => {
  it("a chat remembers: the second turn is turn 2 of the same session", async () => {
    const over = broker.client(protocol);
    const chat = target(`memory ${protocol}`);
    const first = await collect(over.dispatch({ target: chat, input: say("hello there") }));
    const second = await collect(over.dispatch({ target: chat, input: say("again") }));
    expect(cases(first)).toEqual(["accepted", "started", ...Array(4).fill("textDelta"), "completed"]);
    expect(first.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(textOf(second)).toBe("turn 2: again");
    expect(first[0]?.event.value).toMatchObject({ outcome: Outcome.CREATED, queuePosition: 0 });
    expect(second[0]?.event.value).toMatchObject({ outcome: Outcome.EXISTING });
    expect(second.at(-1)?.event.value).toMatchObject({ text: "turn 2: again" });
  });
});

describe("a turn id", () => {
  it("runs once, however often and by however many it is dispatched", async () => {
    const request = { target: target("idempotent", "slow"), input: say("only once"), turnId: randomUUID() };
    const streams = await Promise.all(Array.from({ length: 8 }, () => collect(client.dispatch(request))));
    expect(new Set(streams.map((events) => JSON.stringify(events, bigint))).size).toBe(1);
    expect(textOf(streams[0] ?? [])).toBe("turn 1: only once");
    expect(await collect(client.dispatch(request))).toEqual(streams[0]);
    const other = client.dispatch({ ...request, input: say("something else") });
    await expect(collect(other)).rejects.toMatchObject({ code: Code.AlreadyExists });
  });

  it("finds its session while it runs and afterwards", async () => {
    const turnId = randomUUID();
    const stream = client.dispatch({ target: target("by turn", "slow"), input: say(longText), turnId });
    await collect(stream, ({ event }) => event.case === "textDelta");
    const active = await client.resolveSelection({ selector: { case: "turnId", value: turnId } });
    expect(active.selection.value).toMatchObject({
      source: Selected_Source.ACTIVE_TURN,
      storeKey: "by turn",
    });
    await client.cancelTurn({ turnId });
    await collect(client.attach({ turnId }));
    const ended = await client.resolveSelection({ selector: { case: "turnId", value: turnId } });
    expect(ended.selection.value).toMatchObject({ source: Selected_Source.STORE, storeKey: "by turn" });
  });
});

describe("one turn at a time", () => {
  it("20 turns at once of one session run one after the other, none lost", async () => {
    const chat = target("queue", "slow");
    const streams = Array.from({ length: 20 }, (_, i) =>
      collect(client.dispatch({ target: chat, input: say(`m${i}`) })),
    );
    const all = await Promise.all(streams);
    const answers = all.map(textOf).sort((a, b) => Number(/\d+/.exec(a)) - Number(/\d+/.exec(b)));
    expect(answers.map((answer) => Number(/^turn (\d+):/.exec(answer)?.[1]))).toEqual(
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    const spans = all
      .map((events) => [events.find(({ event }) => event.case === "started"), events.at(-1)])
      .map(([from, to]) => [stamp(from), stamp(to)] as const)
      .sort(([a], [b]) => a - b);
    for (const [index, [begun]] of spans.entries())
      expect(begun).toBeGreaterThanOrEqual(spans[index - 1]?.[1] ?? 0);
  });

  it("REJECT is told at once which turn runs", async () => {
    const turnId = randomUUID();
    const chat = target("busy", "slow");
    await collect(
      client.dispatch({ target: chat, input: say(longText), turnId }),
      ({ event }) => event.case === "started",
    );
    const error = await collect(
      client.dispatch({ target: chat, input: say("no"), onConflict: OnConflict.REJECT }),
    ).then(() => undefined, ConnectError.from);
    expect(error?.code).toBe(Code.Aborted);
    expect(error?.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: "SESSION_BUSY", metadata: { turn_id: turnId } },
    ]);
    await client.cancelTurn({ turnId });
  });

  it("a waiting turn can be cancelled, and one that waits too long fails", async () => {
    const chat = target("waiting", "slow");
    const running = randomUUID();
    const waiting = randomUUID();
    await collect(
      client.dispatch({ target: chat, input: say(longText), turnId: running }),
      ({ event }) => event.case === "started",
    );
    const late = collect(
      client.dispatch({ target: chat, input: say("late"), queueTimeout: { nanos: 1_000_000 } }),
    );
    const cancelled = collect(client.dispatch({ target: chat, input: say("never"), turnId: waiting }));
    expect((await late).at(-1)?.event.value).toMatchObject({
      error: { message: expect.stringContaining("queue_timeout") },
    });
    while ((await client.getTurn({ turnId: waiting }).catch(() => undefined)) === undefined);
    const { action, turn } = await client.cancelTurn({ turnId: waiting });
    expect([action, turn?.state]).toEqual([
      CancelTurnResponse_Action.REMOVED_FROM_QUEUE,
      TurnState.CANCELLED,
    ]);
    expect(cases(await cancelled)).toEqual(["accepted", "cancelled"]);
    expect((await client.cancelTurn({ turnId: running })).action).toBe(
      CancelTurnResponse_Action.INTERRUPTING,
    );
    expect(cases(await collect(client.attach({ turnId: running }))).at(-1)).toBe("cancelled");
    expect((await client.cancelTurn({ turnId: running })).action).toBe(
      CancelTurnResponse_Action.ALREADY_ENDED,
    );
  });

  it("a session is not deleted or rebound under a turn", async () => {
    const chat = target("guarded", "slow");
    const turnId = randomUUID();
    await collect(
      client.dispatch({ target: chat, input: say(longText), turnId }),
      ({ event }) => event.case === "started",
    );
    await expect(client.deleteSession({ selector: chat })).rejects.toMatchObject({ code: Code.Aborted });
    const bind = { selector: chat, nativeId: "other", expectedGeneration: 1, expectedNativeId: "?" };
    await expect(client.bind(bind)).rejects.toMatchObject({ code: Code.FailedPrecondition });
    const skipped = await client.prune({
      scope: "acme",
      provider: "slow",
      olderThan: { nanos: 1_000_000 },
      dryRun: true,
    });
    expect(skipped.skipped.map((row) => row.key?.externalId)).toContain("guarded");
    const deleted = await client.deleteSession({ selector: chat, force: true });
    expect(deleted.deletedTurns).toBe(1);
    await expect(client.getSession({ selector: chat })).rejects.toMatchObject({ code: Code.NotFound });
    await expect(client.getTurn({ turnId })).rejects.toMatchObject({ code: Code.NotFound });
  });
});

describe("a reader", () => {
  it("that leaves changes nothing, and one that attaches sees the same from any place on", async () => {
    const turnId = randomUUID();
    const request = { target: target("attach", "slow"), input: say(longText), turnId };
    const seen = await collect(client.dispatch(request), ({ sequence }) => sequence === 5);
    const rest = await collect(client.attach({ turnId, afterSequence: 5 }));
    const whole = await collect(client.attach({ turnId }));
    expect([...seen, ...rest]).toEqual(whole);
    expect(textOf(whole)).toBe(`turn 1: ${longText}`);
    await expect(collect(client.attach({ turnId, afterSequence: 5000 }))).rejects.toMatchObject({
      code: Code.OutOfRange,
    });
    await expect(collect(client.attach({ turnId: "nothing" }))).rejects.toMatchObject({
      code: Code.NotFound,
    });
  });
});

describe("a restart", () => {
  it("keeps the memory of a chat", async () => {
    const chat = target("restart");
    await collect(client.dispatch({ target: chat, input: say("one") }));
    await broker.restart("SIGKILL");
    client = broker.client();
    expect(textOf(await collect(client.dispatch({ target: chat, input: say("two") })))).toBe("turn 2: two");
  });

  it("ends what ran as INTERRUPTED, after what readers had seen, and runs what waited once", async () => {
    const chat = target("crash", "slow");
    const [running, waiting] = [randomUUID(), randomUUID()];
    const seen = await collect(
      client.dispatch({ target: chat, input: say(longText), turnId: running }),
      ({ sequence }) => sequence === 6,
    );
    const queued = collect(client.dispatch({ target: chat, input: say("after"), turnId: waiting })).catch(
      () => {},
    );
    while ((await client.getTurn({ turnId: waiting }).catch(() => undefined)) === undefined);
    await broker.restart("SIGKILL");
    await queued;
    client = broker.client();
    const whole = await collect(client.attach({ turnId: running }));
    expect(whole.at(-1)?.event.case).toBe("interrupted");
    for (const [index, event] of whole.slice(0, -1).entries()) {
      expect(event.sequence).toBe(index + 1);
      if (index < seen.length) expect(event).toEqual(seen[index]);
    }
    expect(textOf(await collect(client.attach({ turnId: waiting })))).toBe("turn 2: after");
  });

  it("by SIGTERM lets running turns end and refuses new ones", async () => {
    const turnId = randomUUID();
    const stream = collect(
      client.dispatch({ target: target("drain", "slow"), input: say(longText), turnId }),
    );
    while ((await client.getTurn({ turnId }).catch(() => undefined)) === undefined);
    const stopped = broker.kill("SIGTERM");
    expect(cases(await stream).at(-1)).toBe("completed");
    expect(await stopped).toBe(0);
    await broker.start();
    client = broker.client();
  });
});

describe("a second broker on the same store", () => {
  it("is refused with the pid of the first", async () => {
    const { spawnSync } = await import("node:child_process");
    const main = new URL("../../dist/src/main.js", import.meta.url).pathname;
    const second = spawnSync(process.execPath, [
      main,
      "serve",
      "--data",
      broker.data,
      "--listen",
      "127.0.0.1:0",
    ]);
    expect(second.status).toBe(1);
    expect(String(second.stderr)).toContain(`process ${broker.pid}`);
  });
});

function stamp(event: TurnEvent | undefined): number {
  return Number(event?.time?.seconds ?? 0n) * 1000 + (event?.time?.nanos ?? 0) / 1e6;
}

function bigint(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
