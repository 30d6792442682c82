/** Commands against a broker, each checked against the model. */
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { expect } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { PruneResponse_Reason } from "../../gen/sessionbroker/v1/admin_pb.js";
import {
  type ResolveSelectionRequestSchema,
  Selected_Match,
} from "../../gen/sessionbroker/v1/selection_pb.js";
import {
  AliasKind,
  NativeState,
  Outcome,
  type ReserveResponse,
  type ResetPolicySchema,
  RotationReason,
  type Session,
  SessionState,
  Visibility,
} from "../../gen/sessionbroker/v1/session_pb.js";
import type { Accepted, TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { InProcessBroker, ManualClock } from "../support/in-process.js";
import {
  type Filters,
  type IdentityModel,
  isRefused,
  type KeyShape,
  keyText,
  latestBoundary,
  type Planned,
  type Policy,
  type Query,
  type Refused,
  type ReserveOptions,
  type Row,
  sameKey,
  type Target,
} from "./identity-model.js";

export interface Real {
  readonly broker: InProcessBroker;
  readonly clock: ManualClock;
}

type Command = fc.AsyncCommand<IdentityModel, Real>;

const hourMs = 3_600_000;
const provider = "echo";
const chats = "acme/chats";
const openclaw = "acme/openclaw";

const keys: readonly KeyShape[] = [
  opaque("Room:run-1"),
  opaque("room:run-1"),
  agentKey("agent:main:room", "room", "main"),
  agentKey("ROOM", "room", "main"),
  agentKey("Agent:Main:Room", "room", "main"),
  agentKey("agent:retired:acp:run-1", "acp:run-1", "retired"),
  agentKey("AGENT:Retired:ACP:Run-1", "acp:run-1", "retired"),
];
const explicitIds = ["run-1", "room", "2f1ce7aa-0b1c-4c7e-9d52-9c3ad2bdf0e5"];
const aliases = ["alias-1", "alias-2", "run-1"];
const nativeIds = ["native-1", "native-2"];
const unknownId = "00000000-0000-4000-8000-000000000000";

export const config = `
providers: [{ id: echo, echo: {} }]
scopes: [{ pattern: ${openclaw}, resetPolicy: { idle: 604800s } }]
maintenance: { archiveAfter: 0s, purgeAfter: 0s }
`;

export function scopePolicy(scope: string): Policy {
  return scope === openclaw ? { idleMs: 168 * hourMs } : {};
}

const india = { hour: 4, timeZone: "Asia/Kolkata", aheadMs: 5.5 * hourMs };
const utc = { hour: 4, timeZone: "", aheadMs: 0 };

const key = fc.constantFrom(...keys);
const pick = fc.nat(1000);
const policy = fc.constantFrom<Policy>(
  { idleMs: hourMs },
  { idleMs: 24 * hourMs },
  { daily: utc },
  { daily: india },
  { idleMs: 6 * hourMs, daily: utc },
);
const expected = fc.constantFrom<Expected>("current", "current", "wrong", "none");
const idempotency = fc.option(fc.constantFrom("once-1", "once-2"), { nil: undefined, freq: 4 });
const aliasList = fc.subarray(aliases, { maxLength: 2 });

/** Which session a call is about; the number is an index into the ids that exist by then. */
const target = fc.oneof(
  fc.record({ key, pick: fc.constant(undefined) }),
  fc.record({ key, pick: fc.option(pick, { nil: undefined, freq: 4 }) }),
);
type Chosen = { readonly key: KeyShape; readonly pick: number | undefined };
type Expected = "current" | "wrong" | "none";

export const commands: fc.Arbitrary<Command>[] = [
  ...Array.from({ length: 3 }, () => command("Reserve", { key }, ({ key }, m, r) => reserve(m, r, key, {}))),
  command(
    "Reserve",
    {
      key,
      id: fc.option(pick, { nil: undefined }),
      expected,
      internal: fc.boolean().map((yes) => yes),
      aliases: aliasList,
      color: fc.option(fc.constantFrom("red", "blue"), { nil: undefined }),
      policy: fc.option(policy, { nil: undefined }),
      idempotency,
    },
    (c, m, r) => {
      const generation = m.current(c.key)?.generation ?? 1;
      const sessionId = c.id === undefined ? undefined : someSessionId(m, c.id);
      const options: ReserveOptions = {
        ...(sessionId === undefined ? {} : { sessionId }),
        ...expectedGeneration(sessionId === undefined ? "none" : c.expected, generation),
        // Hand-offs ask for nothing else.
        ...(c.internal && sessionId === undefined ? { internal: true } : {}),
        aliases: c.aliases,
        ...(c.color === undefined ? {} : { labels: { color: c.color } }),
        ...(c.policy === undefined ? {} : { policy: c.policy }),
      };
      return reserve(m, r, c.key, options, c.idempotency);
    },
  ),
  command("ReservePolicy", { key, policy }, (c, m, r) => reserve(m, r, c.key, { policy: c.policy })),
  command("Rebind", { key, id: pick }, (c, m, r) => {
    const generation = m.current(c.key)?.generation;
    return reserve(m, r, c.key, {
      sessionId: someSessionId(m, c.id),
      ...(generation === undefined ? {} : { expectedGeneration: generation }),
    });
  }),
  command("Dispatch", { target, turn: fc.option(pick, { nil: undefined, freq: 3 }) }, dispatch),
  command("Dispatch", { target }, (c, m, r) => dispatch({ ...c, turn: undefined }, m, r)),
  command(
    "Bind",
    {
      target,
      nativeId: fc.option(pick, { nil: undefined }),
      aliases: aliasList,
      expected,
      expectedNative: expected,
      idempotency,
    },
    bind,
  ),
  command("Bind", { target, nativeId: pick }, (c, m, r) =>
    bind({ ...c, aliases: [], expected: "current", expectedNative: "current", idempotency: undefined }, m, r),
  ),
  command("Reset", { target, expected, idempotency }, reset),
  command("Pin", { target, pinned: fc.boolean(), expected }, pin),
  command("Delete", { target, expected, idempotency }, remove),
  command(
    "Prune",
    {
      scope: fc.constantFrom("", chats, openclaw, "acme/*"),
      olderThanMs: fc.option(fc.constantFrom(1, hourMs, 24 * hourMs), { nil: undefined }),
      maxSessions: fc.option(fc.constantFrom(1, 2), { nil: undefined }),
      states: fc.constantFrom<State[]>([], [], [], ["RESERVED"], ["ACTIVE"]),
      dryRun: fc.boolean(),
      purge: fc.boolean(),
      limit: fc.constantFrom(0, 0, 1, 2),
    },
    prune,
  ),
  command("Purge", { olderThanMs: fc.constantFrom(1, hourMs) }, (c, m, r) =>
    prune(
      { ...c, scope: "", maxSessions: undefined, states: [], dryRun: false, purge: true, limit: 0 },
      m,
      r,
    ),
  ),
  command(
    "Import",
    { keys: fc.uniqueArray(key, { minLength: 1, maxLength: 3, selector: keyText }), id: pick },
    importRows,
  ),
  command(
    "Resolve",
    {
      by: fc.constantFrom("key", "session-id", "session-id", "short-id", "native-id", "alias", "turn-id"),
      scope: fc.constantFrom(undefined, undefined, undefined, chats, openclaw),
      agent: fc.constantFrom(undefined, undefined, undefined, "main", "retired"),
    },
    resolve,
  ),
  command(
    "Resolve",
    {
      by: fc.constantFrom("key", "session-id", "session-id", "short-id", "native-id", "alias", "turn-id"),
      scope: fc.constantFrom(undefined, undefined, undefined, chats, openclaw),
      agent: fc.constantFrom(undefined, undefined, undefined, "main", "retired"),
    },
    resolve,
  ),
  command("Get", { target, scope: fc.constantFrom(undefined, undefined, chats, openclaw) }, getSession),
  command(
    "List",
    {
      scope: fc.constantFrom("", chats, openclaw, "acme/*"),
      states: fc.constantFrom<State[]>([], ["ACTIVE"], ["ARCHIVED"], ["RESERVED", "ACTIVE", "ARCHIVED"]),
      agent: fc.constantFrom("", "", "main"),
      pageSize: fc.constantFrom(1, 2, 3),
      touched: fc.array(key, { maxLength: 2 }),
    },
    list,
  ),
  command(
    "Advance",
    { ms: fc.constantFrom(1, 30_000, 61_000, hourMs, hourMs + 1, 5 * hourMs, 26 * hourMs, 200 * hourMs) },
    async ({ ms }, _, { clock }) => clock.advance(ms),
  ),
  command("ReserveAtEdge", { key, policy, byMs: fc.constantFrom(0, 1) }, async (c, m, r) => {
    const nowMs = r.clock.now();
    const row = m.live(c.key);
    const { idleMs, daily } = c.policy;
    const edges = [
      ...(idleMs === undefined || row === undefined ? [] : [row.activeAtMs + idleMs]),
      ...(daily === undefined ? [] : [latestBoundary(daily, nowMs) + 24 * hourMs]),
    ].filter((edgeMs) => edgeMs >= nowMs);
    r.clock.advance((edges[0] ?? nowMs) - nowMs + c.byMs);
    await reserve(m, r, c.key, { policy: c.policy });
    r.clock.advance(1);
    await reserve(m, r, c.key, { policy: c.policy });
  }),
  command("Retry", { pick }, async ({ pick }, m, r) => {
    const known = retries(m);
    await known[pick % Math.max(1, known.length)]?.(r);
  }),
  command("Restart", {}, async (_, m, { broker }) => {
    await broker.restart();
    m.flushed();
  }),
];

/** Lists everything, and compares it with the model. */
export async function compareAll(m: IdentityModel, { broker }: Real): Promise<void> {
  const states = [SessionState.RESERVED, SessionState.ACTIVE, SessionState.ARCHIVED];
  const { sessions } = await broker.client.listSessions({ states, pageSize: 1000 });
  compare(m, sessions);
}

/** The same by an export. */
export async function compareExport(m: IdentityModel, { broker }: Real): Promise<void> {
  const exported: Session[] = [];
  for await (const { session } of broker.client.exportSessions({ includeArchived: true })) {
    if (session !== undefined) exported.push(session);
  }
  compare(m, exported);
}

function compare(m: IdentityModel, sessions: readonly Session[]): void {
  expect(sessions.map(name).sort()).toEqual(m.rows.map((row) => rowName(row)).sort());
  for (const session of sessions) {
    const row = m.rows.find((each) => rowName(each) === name(session));
    if (row !== undefined) expectSession(session, row);
  }
}

type State = "RESERVED" | "ACTIVE" | "ARCHIVED";

async function reserve(
  m: IdentityModel,
  { broker }: Real,
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
    idempotencyKey: idempotencyKey ?? "",
  };
  const call = broker.client.reserve(request);
  const text = JSON.stringify(request, bigintText);
  const known = idempotencyKey === undefined ? undefined : m.replay(key.scope, idempotencyKey, text);
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
  }
  if (idempotencyKey === undefined) return;
  m.remember(key.scope, idempotencyKey, text, answer);
  retries(m).push((r) => reserve(m, r, key, options, idempotencyKey));
}

/** The outcome, reason and session of a reservation or of the Accepted of a turn. */
function expectReserved(
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
function commit(m: IdentityModel, plan: Planned, session: Session | undefined): void {
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
  expectSession(session, plan.row);
}

async function dispatch(
  c: { readonly target: Chosen; readonly turn: number | undefined },
  m: IdentityModel,
  { broker }: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const known = c.turn === undefined ? undefined : [...m.turns][c.turn % Math.max(1, m.turns.size)];
  const turnId = known?.[0] ?? randomUUID();
  // A turn id is looked up in the scope of the target.
  const request =
    known === undefined ? { where, text: "hello" } : (JSON.parse(known[1].request) as typeof sent);
  const sent = { where, text: "hello" };
  const stream = collect(
    broker.client.dispatch({
      target: targetMessage(request.where),
      input: [{ part: { case: "text", value: request.text } }],
      turnId,
    }),
  );
  if (known !== undefined) {
    expect(await stream).toEqual(known[1].events);
    return;
  }
  const key = dispatchKey(m, where);
  if (isRefused(key)) return refusedBy(key, stream);
  const plan = m.reserve(key, {});
  if (plan.kind !== "row") throw new TypeError("a plain reservation is never refused");
  const events = await stream;
  const [accepted] = events;
  if (accepted?.event.case !== "accepted") throw new Error("the first event is not Accepted");
  const { row } = plan;
  expect(accepted.event.value.previousSessionId).toBe(plan.outcome === "ROTATED" ? row.previous : "");
  expectReserved(m, plan, accepted.event.value);
  const last = events.at(-1);
  if (last?.event.case !== "completed") throw new Error(`the turn ended ${last?.event.case}`);
  expect(last.event.value.text).toBe(`turn ${row.turns + 1}: hello`);
  const { nativeId } = last.event.value;
  if (row.nativeId !== "") expect(nativeId).toBe(row.nativeId);
  else expect([...m.nativeIds, ...m.sessionIds, ""]).not.toContain(nativeId);
  m.turnRan(turnId, { row, request: JSON.stringify(request), events }, nativeId);
  const { session } = await broker.client
    .getSession({
      selector: { case: "sessionId", value: row.sessionId },
      scope: row.key.scope,
    })
    .catch(() => ({ session: undefined }));
  if (session !== undefined) expectSession(session, row);
}

/** Only a live session takes turns. */
function dispatchKey(m: IdentityModel, where: Target): KeyShape | Refused {
  if (where.kind === "key") return where.key;
  const rows = m.rows.filter((row) => row.sessionId === where.sessionId);
  const live = rows.filter((row) => row.state === "live");
  const [row] = live;
  if (live.length > 1) return { kind: "refused", reason: "AMBIGUOUS_ID" };
  if (row !== undefined) return row.key;
  return { kind: "refused", reason: rows.length > 0 ? "ARCHIVED" : "SESSION_NOT_FOUND" };
}

async function bind(
  c: {
    readonly target: Chosen;
    readonly nativeId: number | undefined;
    readonly aliases: readonly string[];
    readonly expected: Expected;
    readonly expectedNative: Expected;
    readonly idempotency: string | undefined;
  },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const row = m.find(where);
  const nativeId = c.nativeId === undefined ? undefined : at([...nativeIds, ...m.nativeIds], c.nativeId);
  const binding = {
    aliases: [...c.aliases],
    ...(nativeId === undefined ? {} : { nativeId }),
    ...expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation),
    ...expectedNativeId(c.expectedNative, isRefused(row) ? "" : row.nativeId),
  };
  const request = { selector: targetMessage(where), ...binding, idempotencyKey: c.idempotency ?? "" };
  await change(m, r, {
    where,
    request: { method: "Bind", ...request },
    // Of an archived session's bindings the design says nothing.
    defined: (found) => found.state === "live",
    send: ({ client }) => client.bind(request),
    plan: (found) => m.bind(found, binding),
  });
}

async function reset(
  c: { readonly target: Chosen; readonly expected: Expected; readonly idempotency: string | undefined },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const row = m.find(where);
  const generation = expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation);
  const request = { selector: targetMessage(where), ...generation, idempotencyKey: c.idempotency ?? "" };
  if (c.expected === "none" && c.idempotency === undefined) {
    return refusedBy({ kind: "refused", reason: "INVALID_FIELD" }, r.broker.client.resetSession(request));
  }
  await change(m, r, {
    where,
    request: { method: "Reset", ...request },
    // Nor of a reset of a pruned one.
    defined: (found) => found.state !== "pruned",
    send: ({ client }) => client.resetSession(request),
    plan: (found) => m.reset(found, generation.expectedGeneration),
    check: (answer, found) => expect(answer.previousSessionId).toBe(found.sessionId),
  });
}

async function pin(
  c: { readonly target: Chosen; readonly pinned: boolean; readonly expected: Expected },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const row = m.find(where);
  const generation = expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation);
  const request = { selector: targetMessage(where), ...generation, pinned: c.pinned, idempotencyKey: "" };
  await change(m, r, {
    where,
    request: { method: "Pin", ...request },
    send: ({ client }) => client.pinSession(request),
    plan: (found) => m.pin(found, c.pinned, generation.expectedGeneration),
  });
}

async function remove(
  c: { readonly target: Chosen; readonly expected: Expected; readonly idempotency: string | undefined },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const row = m.find(where);
  const generation = expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation);
  const request = { selector: targetMessage(where), ...generation, idempotencyKey: c.idempotency ?? "" };
  let turns = 0;
  await change(m, r, {
    where,
    request: { method: "Delete", ...request },
    send: ({ client }) => client.deleteSession(request),
    plan: (found) => {
      turns = [...m.turns.values()].filter((turn) => turn.row === found).length;
      return m.remove(found, generation.expectedGeneration);
    },
    check: (answer) => expect(answer.deletedTurns).toBe(turns),
  });
}

interface Change<A> {
  readonly where: Target;
  readonly request: { readonly method: string; readonly idempotencyKey: string };
  /** Whether the design says what becomes of such a row; the call is left out otherwise. */
  readonly defined?: (row: Row) => boolean;
  readonly send: (broker: InProcessBroker) => Promise<A>;
  readonly plan: (row: Row) => Refused | Planned;
  readonly check?: (answer: A, row: Row) => void;
}

/** A call about an existing session. */
async function change<A extends { session?: Session | undefined }>(
  m: IdentityModel,
  { broker }: Real,
  call: Change<A>,
): Promise<void> {
  const { method, idempotencyKey: name } = call.request;
  const text = JSON.stringify(call.request, bigintText);
  const known = name === "" ? undefined : m.replay("@", name, text);
  if (known?.kind === "refused") return refusedBy(known, call.send(broker));
  if (known?.kind === "replayed") {
    expect(await call.send(broker)).toEqual(known.answer);
    return;
  }
  const row = m.find(call.where);
  if (!isRefused(row) && call.defined?.(row) === false) return;
  const planned = isRefused(row) ? row : call.plan(row);
  if (planned.kind === "refused") return refusedBy(planned, call.send(broker));
  const before = isRefused(row) ? planned.row : { ...row };
  const answer = await call.send(broker);
  commit(m, planned, answer.session);
  call.check?.(answer, before);
  if (name === "") return;
  m.remember("@", name, text, answer, method === "Delete" ? undefined : planned.row);
  retries(m).push((r) => change(m, r, call));
}

/** Calls with an idempotency key, to be made again. */
function retries(m: IdentityModel): ((r: Real) => Promise<void>)[] {
  const known = retriesOf.get(m) ?? [];
  retriesOf.set(m, known);
  return known;
}

const retriesOf = new WeakMap<IdentityModel, ((r: Real) => Promise<void>)[]>();

async function prune(
  c: {
    readonly scope: string;
    readonly olderThanMs: number | undefined;
    readonly maxSessions: number | undefined;
    readonly states: readonly State[];
    readonly dryRun: boolean;
    readonly purge: boolean;
    readonly limit: number;
  },
  m: IdentityModel,
  real: Real,
): Promise<void> {
  await settle(m, real);
  const states = new Set<State>(
    c.states.length > 0 ? c.states : c.purge ? ["ARCHIVED"] : ["RESERVED", "ACTIVE"],
  );
  // What a cap counts when only some states are looked at is not said.
  const maxSessions = c.states.length > 0 ? undefined : c.maxSessions;
  const olderThanMs = c.olderThanMs ?? (maxSessions === undefined ? hourMs : undefined);
  const candidates = m.rows.filter((row) => inScope(c.scope, row) && states.has(stateOf(row)));
  const { due, pinned } = m.prunable(candidates, {
    ...(olderThanMs === undefined ? {} : { olderThanMs }),
    ...(maxSessions === undefined ? {} : { maxSessions }),
  });
  const report = await real.broker.client.prune({
    scope: c.scope,
    ...(olderThanMs === undefined ? {} : { olderThan: durationFromMs(olderThanMs) }),
    ...(maxSessions === undefined ? {} : { maxSessions }),
    states: c.states.map((state) => SessionState[state]),
    dryRun: c.dryRun,
    purge: c.purge,
    limit: c.limit,
  });
  const names = new Map([...due].map(([row, reason]) => [rowName(row), reason]));
  const told = report.rows.map((row) => [name(row), PruneResponse_Reason[row.reason]] as const);
  for (const [row, reason] of told) expect([row, reason]).toEqual([row, names.get(row)]);
  const most = c.limit === 0 ? due.size : Math.min(c.limit, due.size);
  expect([new Set(told.map(([row]) => row)).size, told.length]).toEqual([most, most]);
  expect(c.purge ? [report.archived, report.purged] : [report.purged, report.archived]).toEqual([0, most]);
  if (most < due.size) expect(report.more).toBe(true);
  const pinnedNames = pinned.map((row) => rowName(row));
  if (most === due.size && !report.more) {
    expect(report.skipped.map(name).sort()).toEqual([...pinnedNames].sort());
    expect(report.skippedTotal).toBe(pinned.length);
  }
  for (const skip of report.skipped) expect(pinnedNames).toContain(name(skip));
  if (c.dryRun) return;
  const taken = new Set(told.map(([row]) => row));
  for (const row of [...due.keys()].filter((each) => taken.has(rowName(each)))) {
    if (c.purge) m.purge(row);
    else m.archive(row);
  }
}

async function importRows(
  c: { readonly keys: readonly KeyShape[]; readonly id: number },
  m: IdentityModel,
  real: Real,
): Promise<void> {
  await settle(m, real);
  const sessionId = at(["imported-1", "room"], c.id);
  const atMs = Date.UTC(2025, 0, 1);
  const chosen = c.keys.filter(
    (key) =>
      !m.rows.some((row) => row.state === "rotated" && row.sessionId === sessionId && sameKey(row.key, key)),
  );
  const sessions = chosen.map((key) => ({
    key: { ...keyMessage(key), externalId: key.storeKey },
    sessionId,
    lastActivityAt: timestampFromMs(atMs),
  }));
  const report = await real.broker.client.importSessions(
    (async function* () {
      for (const session of sessions) yield { session };
    })(),
  );
  const count = { created: 0, kept: 0, conflicting: 0, rejected: 0 };
  for (const key of chosen) {
    const present = m.current(key);
    if (present !== undefined) {
      count[present.sessionId === sessionId ? "kept" : "conflicting"] += 1;
      continue;
    }
    count.created += 1;
    m.sessionIds.add(sessionId);
    m.imported({
      key,
      sessionId,
      generation: 1,
      state: "live",
      nativeId: "",
      platform: [],
      former: [],
      labels: {},
      startedAtMs: atMs,
      activeAtMs: atMs,
      writtenAtMs: atMs,
      turns: 0,
      pinned: false,
      previous: "",
      imported: true,
      changed: 0,
    });
  }
  expect(report).toMatchObject(count);
}

/** Asks for everything that may have an id of some kind. */
async function resolve(
  c: {
    readonly by: Query["kind"];
    readonly scope: string | undefined;
    readonly agent: string | undefined;
  },
  m: IdentityModel,
  real: Real,
): Promise<void> {
  await settle(m, real);
  const filters: Filters = {
    ...(c.scope === undefined ? {} : { scope: c.scope }),
    ...(c.agent === undefined ? {} : { agent: c.agent }),
  };
  await Promise.all(queriesOf(m, c.by).map((query) => resolveOne(m, real, query, filters)));
}

async function resolveOne(m: IdentityModel, { broker }: Real, query: Query, filters: Filters): Promise<void> {
  const { selection } = await broker.client.resolveSelection({ selector: selectorOf(query), ...filters });
  const wanted = m.select(query, filters);
  expect(selection.case).toBe(wanted.kind);
  if (wanted.kind === "selected" && selection.case === "selected") {
    const { storeKey, requestKey, agent, generation, match, session } = selection.value;
    const { key } = wanted.row;
    expect([storeKey, requestKey, agent, generation, Selected_Match[match]]).toEqual([
      key.storeKey,
      key.requestKey,
      key.agent,
      wanted.row.generation,
      wanted.match,
    ]);
    if (session !== undefined) expectSession(session, wanted.row);
  }
  if (wanted.kind === "ambiguous" && selection.case === "ambiguous") {
    const { candidates, total } = selection.value;
    expect(total).toBe(wanted.rows.length);
    expect(candidates.map(({ session }) => session && name(session))).toEqual(
      wanted.rows.map((row) => rowName(row)),
    );
  }
}

async function getSession(
  c: { readonly target: Chosen; readonly scope: string | undefined },
  m: IdentityModel,
  { broker }: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const scope = where.kind === "key" ? undefined : c.scope;
  const row = m.find(where, scope);
  const call = broker.client.getSession({ selector: targetMessage(where), scope: scope ?? "" });
  if (isRefused(row)) return refusedBy(row, call);
  const { session } = await call;
  if (session === undefined) throw new Error("the answer names no session");
  expectSession(session, row);
}

/** Pages through a listing while rows are touched; the untouched ones appear once each. */
async function list(
  c: {
    readonly scope: string;
    readonly states: readonly State[];
    readonly agent: string;
    readonly pageSize: number;
    readonly touched: readonly KeyShape[];
  },
  m: IdentityModel,
  real: Real,
): Promise<void> {
  await settle(m, real);
  const states = new Set<State>(c.states.length > 0 ? c.states : ["RESERVED", "ACTIVE"]);
  const before = new Set(
    m.rows
      .filter((row) => inScope(c.scope, row) && states.has(stateOf(row)))
      .filter((row) => c.agent === "" || row.key.agent === c.agent)
      .map((row) => rowName(row)),
  );
  const touched = new Set<string>();
  const seen: string[] = [];
  let pageToken = "";
  for (let page = 0; page === 0 || pageToken !== ""; page++) {
    const { sessions, nextPageToken } = await real.broker.client.listSessions({
      scope: c.scope,
      states: c.states.map((state) => SessionState[state]),
      agent: c.agent,
      pageSize: c.pageSize,
      pageToken,
    });
    expect(sessions.length).toBeLessThanOrEqual(c.pageSize);
    const ages = sessions.map((session) => stampMs(session.lastActivityAt));
    expect(ages).toEqual([...ages].sort((a, b) => b - a));
    seen.push(...sessions.map(name));
    pageToken = nextPageToken;
    const key = c.touched[page];
    if (key === undefined) continue;
    real.clock.advance(1);
    const known = new Set(m.rows.filter((row) => sameKey(row.key, key)).map((row) => rowName(row)));
    await reserve(m, real, key, { labels: { page: String(page) } });
    await settle(m, real);
    for (const row of m.rows) if (sameKey(row.key, key)) known.add(rowName(row));
    for (const row of known) touched.add(row);
    expect(page).toBeLessThan(1000);
  }
  const untouched = (names: Iterable<string>) => [...names].filter((each) => !touched.has(each)).sort();
  expect(untouched(seen)).toEqual(untouched(before));
}

/** Makes the broker write the activity that it holds back, and reads what was archived with how much of it. */
async function settle(m: IdentityModel, { broker }: Real): Promise<void> {
  await broker.client.prune({ olderThan: durationFromMs(10_000 * 24 * hourMs), dryRun: true });
  m.flushed();
  if (m.rows.every((row) => row.writtenAtMs === row.activeAtMs)) return;
  const { sessions } = await broker.client.listSessions({ states: [SessionState.ARCHIVED], pageSize: 1000 });
  for (const session of sessions) {
    const row = m.rows.find((each) => rowName(each) === name(session));
    if (row === undefined) continue;
    expectSession(session, row);
    row.activeAtMs = stampMs(session.lastActivityAt);
    row.writtenAtMs = row.activeAtMs;
  }
}

function expectSession(session: Session, row: Row): void {
  const activeAtMs = stampMs(session.lastActivityAt);
  expect({
    key: { ...session.key },
    sessionId: session.sessionId,
    generation: session.generation,
    state: SessionState[session.state],
    nativeId: session.nativeId,
    bound: session.nativeState === NativeState.BOUND,
    aliases: session.aliases.map(({ id, kind }) => `${AliasKind[kind]} ${id}`).sort(),
    labels: session.labels,
    startedAtMs: stampMs(session.startedAt),
    turns: session.turnCount,
    pinned: session.pinned,
    previous: session.previousSessionId,
    requestKey: session.requestKey,
    agent: session.agent,
    activity: activeAtMs >= row.writtenAtMs && activeAtMs <= row.activeAtMs ? "as it was" : activeAtMs,
  }).toEqual({
    key: {
      ...keyMessage({ ...row.key, spelling: row.key.storeKey }),
      $typeName: "sessionbroker.v1.SessionKey",
    },
    sessionId: row.sessionId,
    generation: row.generation,
    state: stateOf(row),
    nativeId: row.nativeId,
    bound: row.nativeId !== "",
    aliases: [
      ...row.platform.map((id) => `PLATFORM ${id}`),
      ...row.former.map((id) => `NATIVE ${id}`),
    ].sort(),
    labels: row.labels,
    startedAtMs: row.startedAtMs,
    turns: row.turns,
    pinned: row.pinned,
    previous: row.previous,
    requestKey: row.key.requestKey,
    agent: row.key.agent,
    activity: "as it was",
  });
}

function expectFresh(m: IdentityModel, sessionId: string | undefined): void {
  expect(sessionId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect([...m.sessionIds, ...m.nativeIds]).not.toContain(sessionId);
  m.sessionIds.add(sessionId ?? "");
}

async function refusedBy(refused: Refused, call: Promise<unknown>): Promise<void> {
  const error = await call.then(
    (answer) => new Error(`it was answered, and had to be refused with ${refused.reason}: ${text(answer)}`),
    (failure: unknown) => ConnectError.from(failure),
  );
  if (!(error instanceof ConnectError)) throw error;
  const [info] = error.findDetails(ErrorInfoSchema);
  expect([info?.reason, error.message]).toEqual([refused.reason, error.message]);
  expect(info?.metadata).toMatchObject(refused.metadata ?? {});
}

async function collect(stream: AsyncIterable<{ event?: TurnEvent | undefined }>): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const { event } of stream) if (event !== undefined && event.sequence > 0) events.push(event);
  return events;
}

function targetOf(m: IdentityModel, { key, pick }: Chosen): Target {
  return pick === undefined
    ? { kind: "key", key }
    : { kind: "session-id", sessionId: someSessionId(m, pick) };
}

function targetMessage(where: Target) {
  return where.kind === "key"
    ? { case: "key" as const, value: keyMessage(where.key) }
    : { case: "sessionId" as const, value: where.sessionId };
}

function someSessionId(m: IdentityModel, pick: number): string {
  return at([...explicitIds, ...m.rows.map((row) => row.sessionId), ...m.sessionIds], pick);
}

function queriesOf(m: IdentityModel, kind: Query["kind"]): readonly Query[] {
  if (kind === "key") return keys.map((key) => ({ kind, key }));
  return [...new Set(idsOf(m, kind))].map((id) => ({ kind, id }));
}

function idsOf(m: IdentityModel, kind: Exclude<Query["kind"], "key">): readonly string[] {
  const sessionIds = [...explicitIds, ...m.sessionIds, unknownId];
  switch (kind) {
    case "session-id":
      return sessionIds;
    case "short-id": {
      const hex = sessionIds.map((id) => id.replaceAll("-", "")).filter((id) => /^[0-9a-f]{8,}$/.test(id));
      return hex.map((id, index) => id.slice(0, 8 + (index % 25)));
    }
    case "native-id":
      return [...nativeIds, ...m.nativeIds];
    case "alias":
      return [...aliases, ...nativeIds, ...m.nativeIds];
    case "turn-id":
      return [...m.turns.keys(), ...explicitIds, unknownId];
  }
}

function selectorOf(
  query: Query,
): NonNullable<MessageInitShape<typeof ResolveSelectionRequestSchema>["selector"]> {
  switch (query.kind) {
    case "key":
      return { case: "key", value: keyMessage(query.key) };
    case "session-id":
      return { case: "sessionId", value: query.id };
    case "short-id":
      return { case: "shortId", value: query.id };
    case "native-id":
      return { case: "nativeId", value: query.id };
    case "alias":
      return { case: "alias", value: query.id };
    case "turn-id":
      return { case: "turnId", value: query.id };
  }
}

function expectedGeneration(wanted: Expected, generation: number): { expectedGeneration?: number } {
  if (wanted === "none") return {};
  return { expectedGeneration: wanted === "current" ? generation : generation + 1 };
}

function expectedNativeId(wanted: Expected, nativeId: string): { expectedNativeId?: string } {
  if (wanted === "none") return {};
  return { expectedNativeId: wanted === "current" ? nativeId : `${nativeId}?` };
}

function stateOf(row: Row): State {
  if (row.state !== "live") return "ARCHIVED";
  return row.turns > 0 ? "ACTIVE" : "RESERVED";
}

function inScope(pattern: string, row: Row): boolean {
  if (pattern === "") return true;
  return pattern.endsWith("/*") ? row.key.scope.startsWith(pattern.slice(0, -1)) : row.key.scope === pattern;
}

function rowName(row: Row): string {
  return [row.key.scope, row.key.storeKey, row.sessionId].join(" ");
}

function name(session: Pick<Session, "key" | "sessionId">): string {
  return [session.key?.scope, session.key?.externalId, session.sessionId].join(" ");
}

function keyMessage(key: KeyShape) {
  return { scope: key.scope, externalId: key.spelling, provider };
}

function policyMessage({ idleMs, daily }: Policy): MessageInitShape<typeof ResetPolicySchema> {
  return {
    ...(idleMs === undefined ? {} : { idle: durationFromMs(idleMs) }),
    ...(daily === undefined ? {} : { daily: { hour: daily.hour, timeZone: daily.timeZone } }),
  };
}

function stampMs(stamp: Session["startedAt"]): number {
  return stamp === undefined ? 0 : timestampMs(stamp);
}

function at<T>(list: readonly T[], index: number): T {
  const found = list[index % list.length];
  if (found === undefined) throw new RangeError("an empty list");
  return found;
}

function text(value: unknown): string {
  return JSON.stringify(value, bigintText);
}

function bigintText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}

function opaque(spelling: string): KeyShape {
  return { scope: chats, spelling, storeKey: spelling, requestKey: spelling, agent: "" };
}

function agentKey(spelling: string, requestKey: string, agent: string): KeyShape {
  return { scope: openclaw, spelling, storeKey: `agent:${agent}:${requestKey}`, requestKey, agent };
}

/** A millisecond passes after each command, so that no two stamps are the same by chance. */
function command<P extends object>(
  label: string,
  parameters: { [K in keyof P]: fc.Arbitrary<P[K]> },
  run: (parameters: P, m: IdentityModel, r: Real) => Promise<void>,
): fc.Arbitrary<Command> {
  return (fc.record(parameters) as fc.Arbitrary<P>).map((chosen) => ({
    check: () => true,
    async run(m, r) {
      await run(chosen, m, r);
      await compareAll(m, r);
      r.clock.advance(1);
    },
    toString: () => `${label}(${JSON.stringify(chosen, shortKey)})`,
  }));
}

function shortKey(name: string, value: unknown): unknown {
  const isKey = typeof value === "object" && value !== null && "spelling" in value && "scope" in value;
  return name === "key" && isKey ? `${value.scope} ${value.spelling}` : value;
}
