/** Dispatch: at once, behind a turn that runs, once more, and as a hand-off that leaves no trace. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { expect } from "vitest";
import { Outcome, Visibility } from "../../../gen/sessionbroker/v1/session_pb.js";
import type { Accepted, TurnEvent } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { IdentityModel } from "../identity/model.js";
import {
  isRefused,
  type KeyShape,
  type Refused,
  type Row,
  refused,
  type Target,
  type Turn,
} from "../identity/rows.js";
import {
  at,
  type Chosen,
  type Command,
  command,
  expectFresh,
  expectSession,
  foreignTarget,
  pick,
  type Real,
  refusedBy,
  target,
  targetMessage,
  targetOf,
} from "./command.js";
import { endedAs, expectFence, newTurn, othersWait, queueTimeoutMs, started } from "./lanes.js";
import { expectReserved, unknownWorkspace, workspace } from "./reserving.js";
import { isConfigured } from "./setting.js";
import { collect, keptEvents, Reading } from "./streams.js";

const none = fc.constant(undefined);
const keptHandOffMs = 10 * 60_000;
const mostWaiting = 2;

export const dispatching: fc.Arbitrary<Command>[] = [
  command("Dispatch", { target, workspace, retry: none }, dispatch),
  command("Dispatch", { target, workspace: fc.constant(""), retry: none }, dispatch),
  command("Dispatch", { target, workspace, retry: pick }, dispatch),
  command("HandOff", { target, workspace }, handOff),
];

/** What a retry sends again. */
interface Sent {
  readonly where: Target;
}

async function dispatch(
  c: { readonly target: Chosen; readonly workspace: string; readonly retry: number | undefined },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  // A turn id is looked up in the caller's scopes; another's is a new one.
  const own = [...m.turns.values()].filter(({ external, row }) => !external && r.sees(row.key.scope));
  if (c.retry !== undefined && own.length > 0) return again(r, at(own, c.retry));
  const where = targetOf(m, c.target);
  const turnId = randomUUID();
  const sent: Sent = { where };
  const open = (signal?: AbortSignal) => send(r, where, turnId, { workspace: c.workspace }, signal);
  const key = foreignTarget(r, where) ?? dispatchKey(m, r, where);
  if (isRefused(key)) return refusedBy(key, collect(open()));
  const before = m.lane(key).length;
  if (before > mostWaiting || (before > 0 && othersWait(m, key))) return;
  const plan =
    unconfigured(key) ??
    unknownWorkspace(key, c.workspace) ??
    m.reserve(key, { workspace: c.workspace, forTurn: true });
  if (isRefused(plan)) return refusedBy(plan, collect(open()));
  if (plan.kind !== "row") throw new TypeError("a plain reservation has a row");
  const { row } = plan;
  const reading = new Reading((signal) => open(signal));
  const accepted = await acceptedOf(reading);
  expect(accepted.queuePosition).toBe(before);
  expect(accepted.previousSessionId).toBe(plan.outcome === "ROTATED" ? row.previous : "");
  expectReserved(m, plan, accepted);
  const turn = newTurn(m, { turnId, row, external: false, request: JSON.stringify(sent) });
  m.admitted(turn);
  if (before > 0) {
    reading.leave();
    return;
  }
  await run(m, r, turn, reading);
}

/** The turn has its lane: it ends at once, or goes on and on. */
async function run(
  m: IdentityModel,
  r: Real,
  turn: Turn,
  reading: Reading<{ event?: TurnEvent | undefined }>,
): Promise<void> {
  const { row } = turn;
  const isSlow = row.key.provider === "slow";
  if (!isSlow) await reading.ended;
  const { fence, nativeId } = await started(reading);
  if (row.nativeId !== "") expect(nativeId).toBe(row.nativeId);
  else expect([...m.nativeIds, ...m.sessionIds, ""]).not.toContain(nativeId);
  m.granted(turn, fence, nativeId);
  expectFence(m, turn);
  if (isSlow) return;
  const ending = await endedAs(m, r, turn, "succeeded", "completed");
  expect(ending).toMatchObject({ text: `turn ${row.turns}: hello`, nativeId });
  expect(turn.events).toEqual(keptEvents(reading.items));
  await expectSeen(m, r, row);
}

async function expectSeen(m: IdentityModel, r: Real, row: Row): Promise<void> {
  const selector = { case: "sessionId" as const, value: row.sessionId };
  const call = r.client.getSession({ selector, scope: row.key.scope });
  const { session } = await call.catch(() => ({ session: undefined }));
  if (session !== undefined) expectSession(m, session, row);
}

/** A turn id that ran, or runs: the retry meets it, whatever became of its session. */
async function again(r: Real, turn: Turn): Promise<void> {
  const { where } = JSON.parse(turn.request) as Sent;
  const key = where.kind === "key" ? where.key : turn.row.key;
  if (!isConfigured(key.provider)) return;
  const reading = new Reading((signal) => send(r, where, turn.turnId, {}, signal));
  if (turn.state === "ended") {
    await reading.ended;
    expect(keptEvents(reading.items)).toEqual(turn.events);
    return;
  }
  expect((await acceptedOf(reading)).session?.sessionId).toBe(turn.row.sessionId);
  reading.leave();
}

/** Runs in a session of its own, beside whatever the key has. */
async function handOff(
  c: { readonly target: Chosen; readonly workspace: string },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  // A hand-off to the slow agent would have no end.
  if (c.target.key.provider === "slow") return;
  const turnId = randomUUID();
  const reserve = { workspace: c.workspace, visibility: Visibility.INTERNAL };
  const call = collect(send(r, where, turnId, reserve));
  const key = foreignTarget(r, where) ?? dispatchKey(m, r, where);
  const refusal = isRefused(key)
    ? key
    : (unconfigured(key) ??
      (where.kind === "session-id" ? refused("INVALID_FIELD") : unknownWorkspace(key, c.workspace)));
  if (refusal !== undefined) return refusedBy(refusal, call);
  if (isRefused(key)) return;
  const events = await call;
  const [accepted] = events;
  if (accepted?.event.case !== "accepted") throw new Error("the first event is not Accepted");
  expect(Outcome[accepted.event.value.outcome]).toBe("EPHEMERAL");
  expectFresh(m, accepted.event.value.session?.sessionId);
  const ending = events.at(-1)?.event;
  if (ending?.case !== "completed") throw new Error(`the hand-off ended ${ending?.case}`);
  expect(ending.value.text).toBe("turn 1: hello");
  expect([...m.nativeIds, ...m.sessionIds, ""]).not.toContain(ending.value.nativeId);
  m.nativeIds.add(ending.value.nativeId);
  m.handOffs.set(turnId, { key, forgetAtMs: m.time.monotonic() + keptHandOffMs });
}

/** Only a live session takes turns. */
function dispatchKey(m: IdentityModel, r: Real, where: Target): KeyShape | Refused {
  if (where.kind === "key") return where.key;
  const rows = m.rows.filter((row) => row.sessionId === where.sessionId && r.sees(row.key.scope));
  const live = rows.filter((row) => row.state === "live");
  const [row] = live;
  if (live.length > 1) return refused("AMBIGUOUS_ID");
  return row?.key ?? refused(rows.length > 0 ? "ARCHIVED" : "SESSION_NOT_FOUND");
}

function unconfigured({ provider }: KeyShape): Refused | undefined {
  return isConfigured(provider) ? undefined : refused("UNSUPPORTED_BY_PROVIDER");
}

function send(
  r: Real,
  where: Target,
  turnId: string,
  reserve: { readonly workspace?: string; readonly visibility?: Visibility },
  signal?: AbortSignal,
) {
  return r.client.dispatch(
    {
      target: targetMessage(where),
      input: [{ part: { case: "text", value: "hello" } }],
      turnId,
      queueTimeout: { seconds: BigInt(queueTimeoutMs / 1000) },
      reserve,
    },
    signal === undefined ? {} : { signal },
  );
}

function acceptedOf(reading: Reading<{ event?: TurnEvent | undefined }>): Promise<Accepted> {
  return reading.until((items) => {
    const event = items[0]?.event?.event;
    return event?.case === "accepted" ? event.value : undefined;
  });
}
