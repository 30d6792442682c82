/** Lanes that are held from one command to the next, and what becomes of the turns in them. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { expect } from "vitest";
import {
  Cancelled_Reason,
  CancelTurnResponse_Action,
  FinishReason,
  Interrupted_Reason,
  type TurnEvent,
  TurnState,
} from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { IdentityModel } from "../identity/model.js";
import {
  isRefused,
  type KeyShape,
  type Lane,
  type Row,
  refused,
  sameKey,
  type Turn,
} from "../identity/rows.js";
import {
  at,
  type Command,
  command,
  expectSession,
  key,
  keyMessage,
  ownCommand,
  pick,
  type Real,
  refusedBy,
  type Stage,
} from "./command.js";
import { expectReserved, unknownWorkspace, workspace } from "./reserving.js";
import { collect, Holder, keptEvents, Reading } from "./streams.js";

const leaseMs = 20_000;
export const queueTimeoutMs = 24 * 3_600_000;

export const lanes: fc.Arbitrary<Command>[] = [
  ownCommand("AcquireLane", { key, workspace }, acquire),
  ownCommand(
    "RecordTurn",
    { pick, how: fc.constantFrom("completed", "completed", "failed", "cancelled") },
    async (c, m, r) => {
      const turn = choose(c.pick, held(m));
      if (turn !== undefined) await record(m, r, turn, c.how);
    },
  ),
  command("CancelTurn", { pick }, cancel),
  command("GetTurn", { pick }, getTurn),
];

/** A lane is asked for only if it is free: who waits for one is told by the wire tests. */
async function acquire(
  c: { readonly key: KeyShape; readonly workspace: string },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  if (m.lane(c.key).length > 0) return;
  const turnId = randomUUID();
  const request = {
    key: keyMessage(c.key),
    turnId,
    ...(c.workspace === "" ? {} : { reserve: { workspace: c.workspace } }),
  };
  const open = (signal: AbortSignal) => r.client.acquireLane(request, { signal });
  const plan =
    unknownWorkspace(c.key, c.workspace) ?? m.reserve(c.key, { workspace: c.workspace, forTurn: true });
  if (isRefused(plan)) return refusedBy(plan, drain(open));
  if (plan.kind !== "row") throw new TypeError("a lane belongs to a session that can be seen");
  const holder = new Holder(open);
  r.streams.holders.set(turnId, holder);
  expectReserved(m, plan, await holder.reserved());
  const turn = newTurn(m, { turnId, row: plan.row, external: true, request: JSON.stringify(request) });
  m.admitted(turn);
  const { fence, session, previousHolderLost } = await holder.granted();
  m.granted(turn, fence);
  expectFence(m, turn);
  expect(previousHolderLost).toBe(lostBefore(m, turn));
  if (session === undefined) throw new Error("the grant names no session");
  expectSession(m, session, turn.row);
}

async function record(
  m: IdentityModel,
  r: Stage,
  turn: Turn,
  how: "completed" | "failed" | "cancelled",
): Promise<void> {
  const { client } = r.broker;
  const ending = {
    completed: { case: "completed" as const, value: { text: "done", finishReason: FinishReason.STOP } },
    failed: { case: "failed" as const, value: { partialText: "half" } },
    cancelled: { case: "cancelled" as const, value: { partialText: "half" } },
  }[how];
  const { turnId, fence } = turn;
  await refusedBy(
    refused("STALE_FENCE"),
    client.recordTurn({ turnId, fence: fence + 1n, ending: { ...ending } }),
  );
  const { turn: recorded } = await client.recordTurn({ turnId, fence, ending });
  const states = { completed: "COMPLETED", failed: "FAILED", cancelled: "CANCELLED" } as const;
  expect(TurnState[recorded?.state ?? 0]).toBe(states[how]);
  await r.streams.holders.get(turnId)?.ended;
  await endedAs(m, r, turn, how === "completed" ? "succeeded" : "stopped", how);
}

async function cancel(c: { readonly pick: number }, m: IdentityModel, r: Real): Promise<void> {
  const turn = choose(
    c.pick,
    [...m.turns.values()].filter(({ external }) => !external),
  );
  if (turn === undefined) return;
  const call = r.client.cancelTurn({ turnId: turn.turnId });
  if (!r.sees(turn.row.key.scope)) return refusedBy(refused("TURN_NOT_FOUND"), call);
  const { action } = await call;
  const actions = { waiting: "REMOVED_FROM_QUEUE", running: "INTERRUPTING", ended: "ALREADY_ENDED" } as const;
  expect(CancelTurnResponse_Action[action]).toBe(actions[turn.state]);
  if (turn.state === "ended") return;
  const wasRunning = turn.state === "running";
  const ending = await endedAs(m, r, turn, "stopped", "cancelled");
  expect(ending).toMatchObject({ reason: Cancelled_Reason.REQUESTED });
  if (wasRunning) await next(m, r, turn.row.key);
}

/** Any turn, those of hand-offs included as long as they are known. */
async function getTurn(c: { readonly pick: number }, m: IdentityModel, r: Real): Promise<void> {
  const turnId = choose(c.pick, [...m.turns.keys(), ...m.handOffs.keys()]);
  if (turnId === undefined) return;
  const call = r.client.getTurn({ turnId });
  const handOff = m.handOffs.get(turnId);
  if (handOff !== undefined) {
    const isKnown = m.time.monotonic() < handOff.forgetAtMs && r.sees(handOff.key.scope);
    if (!isKnown) return refusedBy(refused("TURN_NOT_FOUND"), call);
    expect((await call).turn?.state).toBe(TurnState.COMPLETED);
    return;
  }
  const turn = m.turns.get(turnId);
  if (turn === undefined || !r.sees(turn.row.key.scope)) return refusedBy(refused("TURN_NOT_FOUND"), call);
  const { turn: told } = await call;
  const { key, sessionId } = turn.row;
  expect(told?.key).toMatchObject(keyMessage({ ...key, spelling: key.storeKey }));
  expect(told?.sessionId).toBe(sessionId);
  const states = { waiting: "QUEUED", running: "RUNNING", ended: TurnState[told?.state ?? 0] } as const;
  expect(TurnState[told?.state ?? 0]).toBe(states[turn.state]);
  expect(told?.ending !== undefined).toBe(turn.state === "ended");
}

/** Whether turns wait in another lane: two lanes that go on at the same time do so in no certain order. */
export function othersWait(m: IdentityModel, key: KeyShape): boolean {
  return m.busyLanes().some((lane) => {
    const [first] = lane;
    return first !== undefined && !sameKey(first.row.key, key) && lane.length > 1;
  });
}

/** Time passes; holders renew in time, or are gone. */
export async function pass(
  m: IdentityModel,
  stage: Stage,
  ms: number,
  holders: "renew" | "are gone",
): Promise<void> {
  const { clock, broker } = stage;
  clock.advance(ms);
  if (holders === "renew") {
    for (const turn of held(m)) {
      await broker.client.renewLane({ turnId: turn.turnId, fence: turn.fence });
      turn.renewedAtMs = clock.monotonic();
    }
  }
  const nowMs = clock.monotonic();
  const waiting = m.busyLanes().flatMap((lane) => lane.filter(({ state }) => state === "waiting"));
  const late = waiting.filter(({ expiresAtMs }) => expiresAtMs <= nowMs);
  const lost = held(m).filter(({ renewedAtMs }) => renewedAtMs + leaseMs <= nowMs);
  clock.pass(0);
  for (const turn of late) await endedAs(m, stage, turn, "stopped", "failed");
  for (const turn of lost) await lose(m, stage, turn);
}

async function lose(m: IdentityModel, stage: Stage, turn: Turn): Promise<void> {
  const ending = await endedAs(m, stage, turn, "stopped", "interrupted");
  expect(ending).toMatchObject({ reason: Interrupted_Reason.HOLDER_LOST });
}

/** By force: whoever waits is cancelled, whoever runs is stopped, and then the call goes on. */
export async function force<A>(
  m: IdentityModel,
  stage: Stage,
  key: KeyShape,
  send: () => Promise<A>,
): Promise<A> {
  const turns = [...m.lane(key)];
  const own = turns.filter(({ external }) => !external);
  // Their ending is read even if they are deleted right after.
  const readings = own.map(({ turnId }) => follow(stage, turnId));
  for (const reading of readings) await reading.until((items) => items[0]);
  const call = send();
  call.catch(() => {});
  const [first] = turns;
  if (first?.external === true) {
    const holder = stage.streams.holders.get(first.turnId);
    if (holder === undefined) throw new Error("nobody holds the lane");
    await holder.revoked();
    const { turnId, fence } = first;
    await stage.broker.client.recordTurn({
      turnId,
      fence,
      ending: { case: "cancelled", value: { partialText: "" } },
    });
    await holder.ended;
  }
  for (const reading of readings) {
    await reading.ended;
    expect(keptEvents(reading.items).at(-1)?.event).toMatchObject({
      case: "cancelled",
      value: { reason: Cancelled_Reason.SESSION_ENDED },
    });
  }
  const events = new Map(own.map(({ turnId }, index) => [turnId, keptEvents(readings[index]?.items ?? [])]));
  for (const turn of turns) m.ended(turn, "stopped", events.get(turn.turnId));
  return call;
}

/** The turn has ended, or is about to, in the way that is said; those that waited for it go on. */
export async function endedAs(
  m: IdentityModel,
  stage: Stage,
  turn: Turn,
  how: "succeeded" | "stopped",
  wanted: TurnEvent["event"]["case"],
): Promise<unknown> {
  const { turnId, row, external } = turn;
  const wasRunning = turn.state === "running";
  const events = await collect(stage.broker.client.attach({ turnId, scope: row.key.scope }));
  const ending = events.at(-1)?.event;
  expect(ending?.case).toBe(wanted);
  m.ended(turn, how, events);
  if (external) stage.streams.holders.delete(turnId);
  if (wasRunning && external) await next(m, stage, row.key);
  return ending?.value;
}

/** The turns that waited for a lane, now that it is free: one after the other, as far as they end. */
export async function next(
  m: IdentityModel,
  stage: Stage,
  key: KeyShape,
  floor = lastFence.get(m) ?? 0n,
): Promise<void> {
  let above = floor;
  for (;;) {
    const [turn] = m.lane(key);
    if (turn?.state !== "waiting") return;
    const { fence, nativeId } = await started(follow(stage, turn.turnId));
    m.granted(turn, fence, nativeId);
    expectFenceAbove(m, turn, above);
    above = fence;
    if (key.provider === "slow") return;
    const { row } = turn;
    const ending = await endedAs(m, stage, turn, "succeeded", "completed");
    expect(ending).toMatchObject({ text: `turn ${row.turns}: hello`, nativeId: row.nativeId });
  }
}

/** The broker is stopped in a hurry; turns that it ran are interrupted, all others live on. */
export async function restart(m: IdentityModel, stage: Stage): Promise<void> {
  const { broker, streams, clock } = stage;
  // Timers that are about to run are the system's, and are not waited for here.
  const isClose = ({ deadlineMs }: Turn) => Math.abs(deadlineMs - clock.now()) < 10_000;
  if ([...m.turns.values()].some((turn) => turn.state === "waiting" && isClose(turn))) return;
  const busy = m.busyLanes().map((lane) => [...lane]);
  await broker.restart("in a hurry");
  streams.gone();
  m.flushed();
  m.belief.restart();
  m.handOffs.forEach(({ key }, turnId) => {
    m.handOffs.set(turnId, { key, forgetAtMs: Number.NEGATIVE_INFINITY });
  });
  // Lanes that are free are granted again while the holders of others come back.
  const floor = lastFence.get(m) ?? 0n;
  for (const lane of busy) await resume(m, stage, lane, floor);
}

async function resume(m: IdentityModel, stage: Stage, lane: Lane, floor: bigint): Promise<void> {
  const { clock, broker, streams } = stage;
  for (const turn of lane.filter(({ state }) => state === "waiting")) {
    turn.expiresAtMs = clock.monotonic() + turn.deadlineMs - clock.now();
    if (clock.now() < turn.deadlineMs) continue;
    const ending = await endedAs(m, stage, turn, "stopped", "cancelled");
    expect(ending).toMatchObject({ reason: Cancelled_Reason.RESTARTED });
  }
  const [first] = lane;
  if (first?.state !== "running") return;
  if (!first.external) {
    const ending = await endedAs(m, stage, first, "stopped", "interrupted");
    expect(ending).toMatchObject({ reason: Interrupted_Reason.BROKER_STOPPED });
    return next(m, stage, first.row.key, floor);
  }
  // Its caller comes back, and has the lane with a new fence.
  const holder = new Holder((signal) =>
    broker.client.acquireLane(JSON.parse(first.request) as { turnId: string }, { signal }),
  );
  streams.holders.set(first.turnId, holder);
  const { fence, previousHolderLost } = await holder.granted();
  expect(previousHolderLost).toBe(true);
  first.fence = fence;
  first.renewedAtMs = clock.monotonic();
  expectFenceAbove(m, first, floor);
}

/** What a turn is told of itself when it has the lane. */
export async function started(
  reading: Reading<{ event?: TurnEvent | undefined }>,
): Promise<{ readonly fence: bigint; readonly nativeId: string }> {
  const found = await reading.until((items) => {
    const event = items.find((item) => item.event?.event.case === "started")?.event?.event;
    return event?.case === "started" ? event.value : undefined;
  });
  reading.leave();
  return found;
}

export function newTurn(
  m: IdentityModel,
  turn: { readonly turnId: string; readonly row: Row; readonly external: boolean; readonly request: string },
): Turn {
  return {
    ...turn,
    state: "waiting",
    fence: 0n,
    renewedAtMs: 0,
    deadlineMs: m.now() + queueTimeoutMs,
    expiresAtMs: m.time.monotonic() + queueTimeoutMs,
  };
}

/** Fences grow over all lanes. */
export function expectFence(m: IdentityModel, turn: Turn): void {
  expectFenceAbove(m, turn, lastFence.get(m) ?? 0n);
}

function expectFenceAbove(m: IdentityModel, { turnId, fence }: Turn, floor: bigint): void {
  expect([turnId, fence > floor]).toEqual([turnId, true]);
  const last = lastFence.get(m) ?? 0n;
  lastFence.set(m, fence > last ? fence : last);
}

const lastFence = new WeakMap<IdentityModel, bigint>();

function follow({ broker }: Stage, turnId: string): Reading<{ event?: TurnEvent | undefined }> {
  return new Reading((signal) => broker.client.attach({ turnId }, { signal }));
}

/** Whether the turn of the session that had the lane before was lost with its caller. */
function lostBefore(m: IdentityModel, turn: Turn): boolean {
  const before = [...m.turns.values()].filter(
    (other) => other.row === turn.row && other !== turn && other.fence > 0n,
  );
  const last = before.sort((a, b) => (a.fence < b.fence ? 1 : -1))[0];
  if (last?.external !== true) return false;
  const events = last.events as TurnEvent[] | undefined;
  return events?.at(-1)?.event.case === "interrupted";
}

/** Turns whose callers run them. */
export function held(m: IdentityModel): Turn[] {
  return m
    .busyLanes()
    .flatMap((lane) => lane.filter(({ state, external }) => state === "running" && external));
}

function choose<T>(pick: number, list: readonly T[]): T | undefined {
  return list.length === 0 ? undefined : at(list, pick);
}

async function drain(open: (signal: AbortSignal) => AsyncIterable<unknown>): Promise<void> {
  for await (const _ of open(new AbortController().signal)) return;
}
