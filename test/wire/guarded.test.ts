/** What a turn that runs or waits keeps from being done to its session, and the fences turns are given. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { NativeState, Outcome, RotationReason, Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import type { TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import { detailOf, reasonOf } from "../support/answers.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

/** `slow` says nothing for a minute, and stops when it is told to. */
const config = `
providers:
  - id: slow
    echo: { delay: 60s }
  - id: echo
    echo: {}
scopes:
  - pattern: idle
    resetPolicy: { idle: 60s }
`;
const hour = 3_600_000;

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, config);
});

afterEach(async () => {
  await broker.client.cancelTurn({ turnId: "running" }).catch(() => {});
  await broker.close();
});

const key = (externalId = "chat", scope = "acme", provider = "slow") => ({ scope, externalId, provider });
const byKey = (...parts: Parameters<typeof key>) => ({ case: "key" as const, value: key(...parts) });
const input = [{ part: { case: "text" as const, value: "hello" } }];

/** Dispatches a turn and reads it until an event of this kind. */
async function dispatch(
  target: ReturnType<typeof byKey>,
  turnId: string,
  until: TurnEvent["event"]["case"],
): Promise<TurnEvent["event"]["value"]> {
  for await (const { event } of broker.client.dispatch({ target, turnId, input })) {
    if (event !== undefined && event.event.case === until) return event.event.value;
  }
  throw new Error(`the turn ended without ${until}`);
}

const runningTurn = (target = byKey()) => dispatch(target, "running", "started");

const fenceOf = async (target: ReturnType<typeof byKey>, turnId: string) => {
  const started = await dispatch(target, turnId, "started");
  return Number((started as { fence: bigint }).fence);
};

it("a session does not age while a turn runs or waits in it", async () => {
  const target = byKey("chat", "idle");
  await runningTurn(target);
  await dispatch(target, "waiting", "accepted");
  clock.advance(hour);
  const handOff = { key: key("chat", "idle"), visibility: Visibility.INTERNAL };
  expect((await broker.client.reserve(handOff)).outcome).toBe(Outcome.EXISTING);
  const read = await broker.client.reserve({ key: key("chat", "idle") });
  const written = await broker.client.reserve({ key: key("chat", "idle"), labels: { a: "b" } });
  expect([read, written]).toMatchObject(
    Array(2).fill({ outcome: Outcome.EXISTING, runningTurnId: "running", queuedTurns: 1 }),
  );
  const accepted = await dispatch(target, "later", "accepted");
  expect(accepted).toMatchObject({ outcome: Outcome.EXISTING });
  for (const turnId of ["later", "waiting", "running"]) await broker.client.cancelTurn({ turnId });
  for await (const _ of broker.client.attach({ turnId: "running" }));
  clock.advance(hour);
  expect(await broker.client.reserve({ key: key("chat", "idle") })).toMatchObject({
    outcome: Outcome.ROTATED,
    rotationReason: RotationReason.IDLE,
  });
});

const changes = {
  Bind: (force: boolean) =>
    broker.client.getSession({ selector: byKey() }).then(({ session }) =>
      broker.client.bind({
        selector: byKey(),
        nativeId: "n-1",
        expectedGeneration: 1,
        expectedNativeId: session?.nativeId ?? "",
        force,
      }),
    ),
  ResetSession: (force: boolean) =>
    broker.client.resetSession({ selector: byKey(), expectedGeneration: 1, force }),
  DeleteSession: (force: boolean) => broker.client.deleteSession({ selector: byKey(), force }),
};

it.each(Object.entries(changes))(
  "%s waits for nobody: ABORTED with the turn, or by force",
  async (_, change) => {
    await runningTurn();
    expect(await reasonOf(change(false))).toBe("Aborted SESSION_BUSY");
    expect(await detailOf(change(false))).toEqual({ turn_id: "running" });
    expect((await broker.client.getTurn({ turnId: "running" })).turn?.fence).toBeGreaterThan(0n);
    const { session } = await change(true);
    expect([session?.runningTurnId, session?.queuedTurns]).toEqual(["", 0]);
  },
);

it("another explicit id for the key is ABORTED with the turn", async () => {
  await runningTurn();
  const rebind = { key: key(), sessionId: "mine", expectedGeneration: 1 };
  expect(await reasonOf(broker.client.reserve(rebind))).toBe("Aborted SESSION_BUSY");
  expect(await detailOf(broker.client.reserve(rebind))).toEqual({ turn_id: "running" });
});

it("Bind takes the fence of the running turn, and only that one", async () => {
  const started = await runningTurn();
  const { fence } = started as { fence: bigint };
  const bind = (stale: bigint) => broker.client.bind({ selector: byKey(), nativeId: "n-1", fence: stale });
  for (const stale of [0n, fence - 1n, fence + 1n]) {
    expect(await reasonOf(bind(stale))).toBe("FailedPrecondition STALE_FENCE");
    expect(await detailOf(bind(stale))).toEqual({ fence: String(fence) });
  }
  const { session } = await bind(fence);
  expect([session?.nativeId, session?.nativeState]).toEqual(["n-1", NativeState.BOUND]);
  await broker.client.cancelTurn({ turnId: "running" });
  for await (const _ of broker.client.attach({ turnId: "running" }));
  expect(await reasonOf(bind(fence))).toBe("FailedPrecondition STALE_FENCE");
});

it("without a fence Bind needs the generation and the native id, each of them the current one", async () => {
  await broker.client.reserve({ key: key() });
  const bind = (more: { expectedGeneration?: number; expectedNativeId?: string }) =>
    reasonOf(broker.client.bind({ selector: byKey(), aliases: ["a"], ...more }));
  expect(await bind({})).toBe("FailedPrecondition STALE_GENERATION");
  expect(await bind({ expectedGeneration: 1 })).toBe("FailedPrecondition NATIVE_ID_MISMATCH");
  expect(await bind({ expectedNativeId: "" })).toBe("FailedPrecondition STALE_GENERATION");
  expect(await bind({ expectedGeneration: 1, expectedNativeId: "n" })).toBe(
    "FailedPrecondition NATIVE_ID_MISMATCH",
  );
  expect(await bind({ expectedGeneration: 1, expectedNativeId: "" })).toBe("none");
});

it("fences grow from turn to turn over all sessions, whatever becomes of these, and over restarts", async () => {
  const echo = (chat: string) => byKey(chat, "acme", "echo");
  const fences: number[] = [];
  const next = async (chat: string) => {
    const turnId = `turn-${fences.length}`;
    fences.push(await fenceOf(echo(chat), turnId));
    for await (const _ of broker.client.attach({ turnId }));
  };
  await next("one");
  await next("two");
  await broker.client.resetSession({ selector: echo("one"), expectedGeneration: 1 });
  await next("one");
  await broker.client.deleteSession({ selector: echo("one") });
  await next("one");
  clock.advance(hour);
  await broker.client.prune({ olderThan: { seconds: 1n } });
  await broker.client.prune({ olderThan: { seconds: 1n }, purge: true });
  await next("one");
  await broker.restart();
  await next("one");
  for (const [index, fence] of fences.slice(1).entries()) expect(fence).toBeGreaterThan(fences[index] ?? 0);
  // The start itself took one: nothing of an earlier life can be equal.
  expect((fences.at(-1) ?? 0) - (fences.at(-2) ?? 0)).toBe(2);
});
