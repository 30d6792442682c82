/** Bind, ResetSession, PinSession and DeleteSession. */
import fc from "fast-check";
import { expect } from "vitest";
import type { Session } from "../../../gen/sessionbroker/v1/session_pb.js";
import type { BrokerClient } from "../../support/broker.js";
import type { IdentityModel } from "../identity/model.js";
import {
  isRefused,
  type KeyShape,
  type Planned,
  type Refused,
  type Row,
  type Target,
} from "../identity/rows.js";
import {
  as,
  at,
  type Chosen,
  type Command,
  command,
  type Expected,
  expected,
  expectedGeneration,
  foreignTarget,
  idempotency,
  key,
  pick,
  type Real,
  refusedBy,
  target,
  targetMessage,
  targetOf,
  text,
} from "./command.js";
import { force } from "./lanes.js";
import { aliasList, commit, retries } from "./reserving.js";
import { nativeIds } from "./setting.js";

export const changing: fc.Arbitrary<Command>[] = [
  command(
    "Bind",
    {
      target,
      nativeId: fc.option(pick, { nil: undefined }),
      aliases: aliasList,
      expected,
      expectedNative: expected,
      idempotency,
      force: fc.boolean(),
    },
    bind,
  ),
  command("Bind", { target, nativeId: pick }, (c, m, r) =>
    bind(
      {
        ...c,
        aliases: [],
        expected: "current",
        expectedNative: "current",
        idempotency: undefined,
        force: false,
      },
      m,
      r,
    ),
  ),
  command("BindFenced", { key, nativeId: pick, stale: fc.boolean() }, bindFenced),
  command("Reset", { target, expected, idempotency, force: fc.boolean() }, reset),
  command("Pin", { target, pinned: fc.boolean(), expected }, pin),
  command("Delete", { target, expected, idempotency, force: fc.boolean() }, remove),
];

async function bind(
  c: {
    readonly target: Chosen;
    readonly nativeId: number | undefined;
    readonly aliases: readonly string[];
    readonly expected: Expected;
    readonly expectedNative: Expected;
    readonly idempotency: string | undefined;
    readonly force: boolean;
  },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const row = m.find(where, r.sees);
  const nativeId = c.nativeId === undefined ? undefined : at([...nativeIds, ...m.nativeIds], c.nativeId);
  const binding = {
    aliases: [...c.aliases],
    ...(nativeId === undefined ? {} : { nativeId }),
    ...expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation),
    ...expectedNativeId(c.expectedNative, isRefused(row) ? "" : row.nativeId),
  };
  const common = { force: c.force, idempotencyKey: c.idempotency ?? "" };
  const request = { selector: targetMessage(where), ...binding, ...common };
  await change(m, r, {
    where,
    request: { method: "Bind", ...request },
    // Of an archived session's bindings the design says nothing.
    defined: (found) => found.state === "live",
    send: (client) => client.bind(request),
    plan: (found) => m.bind(found, binding, r.sees),
  });
}

/** With the fence of the turn that holds the lane, or with another one. */
async function bindFenced(
  c: { readonly key: KeyShape; readonly nativeId: number; readonly stale: boolean },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where: Target = { kind: "key", key: c.key };
  const nativeId = at([...nativeIds, ...m.nativeIds], c.nativeId);
  const live = m.running(c.key)?.fence ?? 0n;
  const binding = { aliases: [], nativeId, fence: c.stale || live === 0n ? live + 1n : live };
  const request = { selector: targetMessage(where), ...binding, force: false, idempotencyKey: "" };
  await change(m, r, {
    where,
    request: { method: "Bind", ...request },
    send: (client) => client.bind(request),
    plan: (found) => m.bind(found, binding, r.sees),
  });
}

async function reset(
  c: {
    readonly target: Chosen;
    readonly expected: Expected;
    readonly idempotency: string | undefined;
    readonly force: boolean;
  },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const row = m.find(where, r.sees);
  const generation = expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation);
  const common = { force: c.force, idempotencyKey: c.idempotency ?? "" };
  const request = { selector: targetMessage(where), ...generation, ...common };
  if (c.expected === "none" && c.idempotency === undefined) {
    return refusedBy({ kind: "refused", reason: "INVALID_FIELD" }, r.client.resetSession(request));
  }
  await change(m, r, {
    where,
    request: { method: "Reset", ...request },
    // Nor of a reset of a pruned one.
    defined: (found) => found.state !== "pruned",
    send: (client) => client.resetSession(request),
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
  const row = m.find(where, r.sees);
  const generation = expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation);
  const request = { selector: targetMessage(where), ...generation, pinned: c.pinned, idempotencyKey: "" };
  await change(m, r, {
    where,
    request: { method: "Pin", ...request, force: false },
    send: (client) => client.pinSession(request),
    plan: (found) => m.pin(found, c.pinned, generation.expectedGeneration),
  });
}

async function remove(
  c: {
    readonly target: Chosen;
    readonly expected: Expected;
    readonly idempotency: string | undefined;
    readonly force: boolean;
  },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const row = m.find(where, r.sees);
  const generation = expectedGeneration(c.expected, isRefused(row) ? 1 : row.generation);
  const common = { force: c.force, idempotencyKey: c.idempotency ?? "" };
  const request = { selector: targetMessage(where), ...generation, ...common };
  let turns = 0;
  await change(m, r, {
    where,
    request: { method: "Delete", ...request },
    send: (client) => client.deleteSession(request),
    plan: (found) => {
      turns = [...m.turns.values()].filter((turn) => turn.row === found).length;
      return m.remove(found, generation.expectedGeneration);
    },
    check: (answer) => expect(answer.deletedTurns).toBe(turns),
  });
}

interface Change<A> {
  readonly where: Target;
  readonly request: { readonly method: string; readonly idempotencyKey: string; readonly force: boolean };
  /** Whether the design says what becomes of such a row; the call is left out otherwise. */
  readonly defined?: (row: Row) => boolean;
  readonly send: (client: BrokerClient) => Promise<A>;
  readonly plan: (row: Row) => Refused | Planned;
  readonly check?: (answer: A, row: Row) => void;
}

/** A call about an existing session. */
async function change<A extends { session?: Session | undefined }>(
  m: IdentityModel,
  r: Real,
  call: Change<A>,
): Promise<void> {
  const { method, idempotencyKey: name } = call.request;
  const send = () => call.send(r.client);
  const foreign = foreignTarget(r, call.where);
  if (foreign !== undefined) return refusedBy(foreign, send());
  const sent = text(call.request);
  const known = name === "" ? undefined : m.replay(`@${r.caller}`, name, sent);
  if (known?.kind === "refused") return refusedBy(known, send());
  if (known?.kind === "replayed") {
    expect(await send()).toEqual(known.answer);
    return;
  }
  const row = m.find(call.where, r.sees);
  if (!isRefused(row) && call.defined?.(row) === false) return;
  const first = isRefused(row) ? row : call.plan(row);
  const isForced =
    !isRefused(row) && isRefused(first) && first.reason === "SESSION_BUSY" && call.request.force;
  const answering = isForced ? force(m, r, row.key, send) : send();
  // What the turns have left decides.
  answering.catch(() => {});
  if (isForced) await answering.catch(() => {});
  const planned = isForced ? call.plan(row) : first;
  if (planned.kind === "refused") return refusedBy(planned, answering);
  const before = isRefused(row) ? planned.row : { ...row };
  const answer = await answering;
  commit(m, planned, answer.session);
  call.check?.(answer, before);
  if (name === "") return;
  m.remember(`@${r.caller}`, name, sent, answer, method === "Delete" ? undefined : planned.row);
  retries(m).push((stage) => change(m, as(stage, r.caller), call));
}

function expectedNativeId(wanted: Expected, nativeId: string): { expectedNativeId?: string } {
  if (wanted === "none") return {};
  return { expectedNativeId: wanted === "current" ? nativeId : `${nativeId}?` };
}
