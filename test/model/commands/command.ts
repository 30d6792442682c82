/** What all commands share: who calls, the choice of a session, and the comparison of answers. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { expect } from "vitest";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import {
  AliasKind,
  NativeState,
  type ResetPolicySchema,
  type Session,
  SessionState,
} from "../../../gen/sessionbroker/v1/session_pb.js";
import type { BrokerClient } from "../../support/broker.js";
import type { InProcessBroker, SteppedClock } from "../../support/in-process.js";
import type { IdentityModel } from "../identity/model.js";
import {
  type KeyShape,
  type Policy,
  type Refused,
  type Row,
  refused,
  type Sees,
  type Target,
} from "../identity/rows.js";
import { type CallerName, explicitIds, hourMs, keys, sees, tokenOf } from "./setting.js";
import type { Streams } from "./streams.js";

/** The broker of one sequence. */
export interface Stage {
  readonly broker: InProcessBroker;
  readonly clock: SteppedClock;
  readonly streams: Streams;
}

/** The broker as one caller has it. */
export interface Real extends Stage {
  readonly caller: CallerName;
  readonly client: BrokerClient;
  readonly sees: Sees;
}

const longestCommandMs = 30_000;

export type Command = fc.AsyncCommand<IdentityModel, Stage>;

export function as(stage: Stage, caller: CallerName): Real {
  const { broker, clock, streams } = stage;
  const client = caller === "admin-token" ? broker.client : streams.clientOf(broker, tokenOf(caller));
  return { broker, clock, streams, caller, client, sees: sees(caller) };
}

export const key = fc.constantFrom(...keys);
export const pick = fc.nat(1000);
const caller = fc.constantFrom<CallerName>(
  "admin-token",
  "admin-token",
  "admin-token",
  "chats-only",
  "openclaw-only",
);

/** Which session a call is about; the number is an index into the ids that exist by then. */
export const target = fc.oneof(
  fc.record({ key, pick: fc.constant(undefined) }),
  fc.record({ key, pick: fc.option(pick, { nil: undefined, freq: 4 }) }),
);
export type Chosen = { readonly key: KeyShape; readonly pick: number | undefined };

export const expected = fc.constantFrom<Expected>("current", "current", "wrong", "none");
export type Expected = "current" | "wrong" | "none";

export const idempotency = fc.option(fc.constantFrom("once-1", "once-2"), { nil: undefined, freq: 4 });

export type State = "RESERVED" | "ACTIVE" | "ARCHIVED";

/** A millisecond passes after each command, so that no two stamps are the same by chance. */
export function command<P extends object>(
  label: string,
  parameters: { [K in keyof P]: fc.Arbitrary<P[K]> },
  run: (parameters: P, m: IdentityModel, r: Real) => Promise<void>,
): fc.Arbitrary<Command> {
  return fc
    .tuple(fc.record(parameters) as fc.Arbitrary<P>, caller)
    .map(([chosen, by]) => commandOf(label, chosen, by, run));
}

/** A command of the administrator, or of nobody. */
export function ownCommand<P extends object>(
  label: string,
  parameters: { [K in keyof P]: fc.Arbitrary<P[K]> },
  run: (parameters: P, m: IdentityModel, r: Real) => Promise<void>,
): fc.Arbitrary<Command> {
  return (fc.record(parameters) as fc.Arbitrary<P>).map((chosen) =>
    commandOf(label, chosen, "admin-token", run),
  );
}

function commandOf<P extends object>(
  label: string,
  chosen: P,
  by: CallerName,
  run: (parameters: P, m: IdentityModel, r: Real) => Promise<void>,
): Command {
  return {
    check: () => true,
    async run(m, stage) {
      await inTime(run(chosen, m, as(stage, by)));
      await compareAll(m, stage);
      stage.clock.advance(1);
    },
    toString: () => `${label}(${JSON.stringify(chosen, shortKey)})${by === "admin-token" ? "" : ` as ${by}`}`,
  };
}

/** What never comes is a failure that can be shrunk. */
export async function inTime(work: Promise<void>): Promise<void> {
  let cancel = () => {};
  const tooLate = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error("the command does not end")), longestCommandMs);
    cancel = () => clearTimeout(timer);
  });
  try {
    await Promise.race([work, tooLate]);
  } finally {
    cancel();
  }
}

/** Lists everything, and compares it with the model. */
export async function compareAll(m: IdentityModel, { broker }: Stage): Promise<void> {
  const states = [SessionState.RESERVED, SessionState.ACTIVE, SessionState.ARCHIVED];
  const { sessions } = await broker.client.listSessions({ states, pageSize: 1000 });
  compare(m, m.rows, sessions);
}

/** Compares a listing with the rows that it has to hold. */
export function compare(m: IdentityModel, rows: readonly Row[], sessions: readonly Session[]): void {
  expect(sessions.map(name).sort()).toEqual(rows.map((row) => rowName(row)).sort());
  for (const session of sessions) {
    const row = rows.find((each) => rowName(each) === name(session));
    if (row !== undefined) expectSession(m, session, row);
  }
}

/** Makes the broker write the activity that it holds back, and reads what was archived with how much of it. */
export async function settle(m: IdentityModel, { broker }: Stage): Promise<void> {
  await broker.client.prune({ olderThan: durationFromMs(10_000 * 24 * hourMs), dryRun: true });
  m.flushed();
  if (m.rows.every((row) => row.writtenAtMs === row.activeAtMs)) return;
  const { sessions } = await broker.client.listSessions({ states: [SessionState.ARCHIVED], pageSize: 1000 });
  for (const session of sessions) {
    const row = m.rows.find((each) => rowName(each) === name(session));
    if (row === undefined) continue;
    expectSession(m, session, row);
    row.activeAtMs = stampMs(session.lastActivityAt);
    row.writtenAtMs = row.activeAtMs;
  }
}

/** @param lane how the session's lane was when the answer was made; default: how it is */
export function expectSession(m: IdentityModel, session: Session, row: Row, lane = laneOf(m, row)): void {
  const activeAtMs = stampMs(session.lastActivityAt);
  expect({
    key: { ...session.key },
    sessionId: session.sessionId,
    generation: session.generation,
    state: SessionState[session.state],
    nativeId: session.nativeId,
    native: NativeState[session.nativeState],
    aliases: session.aliases.map(({ id, kind }) => `${AliasKind[kind]} ${id}`).sort(),
    labels: session.labels,
    workspace: session.workspace,
    startedAtMs: stampMs(session.startedAt),
    turns: session.turnCount,
    pinned: session.pinned,
    previous: session.previousSessionId,
    requestKey: session.requestKey,
    agent: session.agent,
    lane: [session.runningTurnId, session.queuedTurns],
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
    native: row.native,
    aliases: [
      ...row.platform.map((id) => `PLATFORM ${id}`),
      ...row.former.map((id) => `NATIVE ${id}`),
    ].sort(),
    labels: row.labels,
    workspace: row.workspace,
    startedAtMs: row.startedAtMs,
    turns: row.turns,
    pinned: row.pinned,
    previous: row.previous,
    requestKey: row.key.requestKey,
    agent: row.key.agent,
    lane,
    activity: "as it was",
  });
}

/** The turn that runs in the session, and how many wait. */
export function laneOf(m: IdentityModel, row: Row): readonly [string, number] {
  if (row.state === "rotated") return ["", 0];
  const running = m.running(row.key)?.turnId ?? "";
  return [running, m.lane(row.key).length - (running === "" ? 0 : 1)];
}

export function expectFresh(m: IdentityModel, sessionId: string | undefined): void {
  expect(sessionId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect([...m.sessionIds, ...m.nativeIds]).not.toContain(sessionId);
  m.sessionIds.add(sessionId ?? "");
}

export async function refusedBy({ reason, metadata = {} }: Refused, call: Promise<unknown>): Promise<void> {
  const error = await call.then(
    (answer) => new Error(`it was answered, and had to be refused with ${reason}: ${text(answer)}`),
    (failure: unknown) => ConnectError.from(failure),
  );
  if (!(error instanceof ConnectError)) throw error;
  const [info] = error.findDetails(ErrorInfoSchema);
  expect([info?.reason, error.message]).toEqual([reason, error.message]);
  expect(info?.metadata).toMatchObject(metadata);
}

/** The refusal of a call that names a scope which is not the caller's. */
export function foreign({ sees }: Real, scope: string | undefined): Refused | undefined {
  return scope === undefined || sees(scope) ? undefined : refused("FOREIGN_SCOPE");
}

/** The same for the key of a target. */
export function foreignTarget(r: Real, where: Target): Refused | undefined {
  return foreign(r, where.kind === "key" ? where.key.scope : undefined);
}

export function targetOf(m: IdentityModel, { key, pick }: Chosen): Target {
  return pick === undefined
    ? { kind: "key", key }
    : { kind: "session-id", sessionId: someSessionId(m, pick) };
}

export function targetMessage(where: Target) {
  return where.kind === "key"
    ? { case: "key" as const, value: keyMessage(where.key) }
    : { case: "sessionId" as const, value: where.sessionId };
}

export function someSessionId(m: IdentityModel, pick: number): string {
  return at([...explicitIds, ...m.rows.map((row) => row.sessionId), ...m.sessionIds], pick);
}

export function expectedGeneration(wanted: Expected, generation: number): { expectedGeneration?: number } {
  if (wanted === "none") return {};
  return { expectedGeneration: wanted === "current" ? generation : generation + 1 };
}

export function stateOf(row: Row): State {
  if (row.state !== "live") return "ARCHIVED";
  return row.turns > 0 ? "ACTIVE" : "RESERVED";
}

/** Whether a row lies where a caller looks. */
export function inScope(
  pattern: string,
  { sees }: Pick<Real, "sees">,
  { key: { scope } }: Pick<Row, "key">,
): boolean {
  if (!sees(scope)) return false;
  if (pattern === "") return true;
  return pattern.endsWith("/*") ? scope.startsWith(pattern.slice(0, -1)) : scope === pattern;
}

/** The refusal of a pattern that reaches beyond the caller's scopes. */
export function foreignPattern(r: Real, pattern: string): Refused | undefined {
  if (pattern === "" || r.caller === "admin-token") return undefined;
  return pattern.endsWith("/*") || !r.sees(pattern) ? refused("FOREIGN_SCOPE") : undefined;
}

export function rowName(row: Pick<Row, "key" | "sessionId">): string {
  return [row.key.scope, row.key.storeKey, row.key.provider, row.sessionId].join(" ");
}

export function name(session: Pick<Session, "key" | "sessionId">): string {
  const { scope, externalId, provider } = session.key ?? {};
  return [scope, externalId, provider, session.sessionId].join(" ");
}

export function keyMessage({ scope, spelling, provider }: KeyShape) {
  return { scope, externalId: spelling, provider };
}

export function policyMessage({ idleMs, daily }: Policy): MessageInitShape<typeof ResetPolicySchema> {
  return {
    ...(idleMs === undefined ? {} : { idle: durationFromMs(idleMs) }),
    ...(daily === undefined ? {} : { daily: { hour: daily.hour, timeZone: daily.timeZone } }),
  };
}

export function stampMs(stamp: Session["startedAt"]): number {
  return stamp === undefined ? 0 : timestampMs(stamp);
}

export function at<T>(list: readonly T[], index: number): T {
  const found = list[index % list.length];
  if (found === undefined) throw new RangeError("an empty list");
  return found;
}

/** As text, for a comparison with a repeat. */
export function text(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? String(each) : each));
}

function shortKey(name: string, value: unknown): unknown {
  const isKey = typeof value === "object" && value !== null && "spelling" in value && "scope" in value;
  if (!isKey || !/^(key|\d+)$/.test(name)) return value;
  const { scope, spelling, provider } = value as KeyShape;
  return `${scope} ${spelling} ${provider}`;
}
