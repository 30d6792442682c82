/** Reserve, in all its forms. */
import fc from "fast-check";
import { expect } from "vitest";
import {
  Outcome,
  type ReserveResponse,
  RotationReason,
  type Session,
  Visibility,
} from "../../../gen/sessionbroker/v1/session_pb.js";
import type { Accepted } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { IdentityModel } from "../identity/model.js";
import {
  type KeyShape,
  type Planned,
  type Policy,
  type Refused,
  type ReserveOptions,
  refused,
} from "../identity/rows.js";
import {
  as,
  type Command,
  command,
  expected,
  expectedGeneration,
  expectFresh,
  expectSession,
  foreign,
  idempotency,
  key,
  keyMessage,
  laneOf,
  pick,
  policyMessage,
  type Real,
  refusedBy,
  type Stage,
  someSessionId,
  text,
} from "./command.js";
import { aliases, hasWorkspace, hourMs, workspaces } from "./setting.js";

const india = { hour: 4, timeZone: "Asia/Kolkata", aheadMs: 5.5 * hourMs };
const utc = { hour: 4, timeZone: "", aheadMs: 0 };

export const policy = fc.constantFrom<Policy>(
  { idleMs: hourMs },
  { idleMs: 24 * hourMs },
  { daily: utc },
  { daily: india },
  { idleMs: 6 * hourMs, daily: utc },
);
export const aliasList = fc.subarray(aliases, { maxLength: 2 });
/** Mostly none. */
export const workspace = fc.constantFrom<(typeof workspaces)[number] | "">("", "", "", "red", "blue");

export const reserving: fc.Arbitrary<Command>[] = [
  ...Array.from({ length: 3 }, () => command("Reserve", { key }, ({ key }, m, r) => reserve(m, r, key, {}))),
  command(
    "Reserve",
    {
      key,
      id: fc.option(pick, { nil: undefined }),
      expected,
      internal: fc.boolean(),
      aliases: aliasList,
      color: fc.option(fc.constantFrom("red", "blue"), { nil: undefined }),
      policy: fc.option(policy, { nil: undefined }),
      workspace,
      idempotency,
    },
    (c, m, r) => {
      const generation = m.current(c.key)?.generation ?? 1;
      const sessionId = c.id === undefined ? undefined : someSessionId(m, c.id);
      const options: ReserveOptions = {
        ...(sessionId === undefined ? {} : { sessionId }),
        ...expectedGeneration(sessionId === undefined ? "none" : c.expected, generation),
        ...(c.internal && sessionId === undefined ? { internal: true } : {}),
        aliases: c.aliases,
        ...(c.color === undefined ? {} : { labels: { color: c.color } }),
        ...(c.policy === undefined ? {} : { policy: c.policy }),
        workspace: c.workspace,
      };
      return reserve(m, r, c.key, options, c.idempotency);
    },
  ),
  command("ReserveWorkspace", { key, workspace: fc.constantFrom(...workspaces) }, (c, m, r) =>
    reserve(m, r, c.key, { workspace: c.workspace }),
  ),
  command("ReservePolicy", { key, policy }, (c, m, r) => reserve(m, r, c.key, { policy: c.policy })),
  command("Rebind", { key, id: pick, workspace }, (c, m, r) => {
    const generation = m.current(c.key)?.generation;
    return reserve(m, r, c.key, {
      sessionId: someSessionId(m, c.id),
      workspace: c.workspace,
      ...(generation === undefined ? {} : { expectedGeneration: generation }),
    });
  }),
  command("ReserveUnknownProvider", { key }, (c, m, r) =>
    reserve(m, r, { ...c.key, provider: "nobody" }, {}),
  ),
  command("Retry", { pick }, async ({ pick }, m, r) => {
    const known = retries(m);
    await known[pick % Math.max(1, known.length)]?.(r);
  }),
];

export async function reserve(
  m: IdentityModel,
  r: Real,
  key: KeyShape,
  options: ReserveOptions,
  idempotencyKey?: string,
): Promise<void> {
  const request = {
    key: keyMessage(key),
    sessionId: options.sessionId ?? "",
    ...(options.expectedGeneration === undefined ? {} : { expectedGeneration: options.expectedGeneration }),
    ...(options.internal ? { visibility: Visibility.INTERNAL } : {}),
    aliases: [...(options.aliases ?? [])],
    labels: { ...options.labels },
    ...(options.policy === undefined ? {} : { resetPolicy: policyMessage(options.policy) }),
    workspace: options.workspace ?? "",
    idempotencyKey: idempotencyKey ?? "",
  };
  const call = r.client.reserve(request);
  const malformed = malformedKey(r, key) ?? unknownWorkspace(key, options.workspace);
  if (malformed !== undefined) return refusedBy(malformed, call);
  const sent = text(request);
  const known = idempotencyKey === undefined ? undefined : m.replay(key.scope, idempotencyKey, sent);
  if (known?.kind === "refused") return refusedBy(known, call);
  if (known?.kind === "replayed") {
    const answer = known.answer as ReserveResponse;
    expect(await call).toEqual(answer);
    // The key was used, whatever it was told before.
    const row = m.live(key);
    if (answer.outcome !== Outcome.EPHEMERAL && !options.internal && row !== undefined) m.used(row);
    return;
  }
  const plan = m.reserve(key, options);
  if (plan.kind === "refused") return refusedBy(plan, call);
  const answer = await call;
  if (plan.kind === "ephemeral") {
    expect(Outcome[answer.outcome]).toBe("EPHEMERAL");
    expectFresh(m, answer.session?.sessionId);
  } else {
    expectReserved(m, plan, answer);
    expect([answer.runningTurnId, answer.queuedTurns]).toEqual(laneOf(m, plan.row));
  }
  if (idempotencyKey === undefined) return;
  m.remember(key.scope, idempotencyKey, sent, answer);
  retries(m).push((stage) => reserve(m, as(stage, r.caller), key, options, idempotencyKey));
}

/** What is wrong with a key, whatever it points to. */
export function malformedKey(r: Real, { scope, provider }: KeyShape): Refused | undefined {
  return foreign(r, scope) ?? (provider === "nobody" ? refused("UNKNOWN_PROVIDER") : undefined);
}

export function unknownWorkspace({ scope }: KeyShape, name = ""): Refused | undefined {
  return hasWorkspace(scope, name) ? undefined : refused("UNKNOWN_WORKSPACE");
}

/** The outcome, reason and session of a reservation or of the Accepted of a turn. */
export function expectReserved(
  m: IdentityModel,
  plan: Planned,
  answer: Pick<ReserveResponse | Accepted, "session" | "outcome" | "rotationReason">,
): void {
  expect([Outcome[answer.outcome], RotationReason[answer.rotationReason]]).toEqual([
    plan.outcome,
    plan.reason ?? "UNSPECIFIED",
  ]);
  commit(m, plan, answer.session);
}

/** Takes an answer over into the model; an id that the broker minted is one that nobody had. */
export function commit(m: IdentityModel, plan: Planned, session: Session | undefined): void {
  if (session === undefined) throw new Error("the answer names no session");
  if (plan.row.sessionId === "") {
    expectFresh(m, session.sessionId);
    plan.row.sessionId = session.sessionId;
  }
  m.sessionIds.add(plan.row.sessionId);
  const { generation } = plan.row;
  plan.commit();
  if (plan.anyGeneration) {
    expect(session.generation).toBeGreaterThanOrEqual(generation);
    plan.row.generation = session.generation;
  }
  expectSession(m, session, plan.row);
}

/** Calls with an idempotency key, to be made again by whoever made them. */
export function retries(m: IdentityModel): ((stage: Stage) => Promise<void>)[] {
  const known = retriesOf.get(m) ?? [];
  retriesOf.set(m, known);
  return known;
}

const retriesOf = new WeakMap<IdentityModel, ((stage: Stage) => Promise<void>)[]>();
