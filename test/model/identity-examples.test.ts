/** Short sequences that the model test has found, or that it seldom finds, spelt out. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import {
  NativeState,
  Outcome,
  RotationReason,
  SessionState,
  Visibility,
  WatchSessionsResponse_Change,
} from "../../gen/sessionbroker/v1/session_pb.js";
import type { TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { BrokerClient } from "../support/broker.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const clock = new ManualClock(Date.UTC(2025, 5, 1));
const hourMs = 3_600_000;
const anyAge = { nanos: 1_000_000 };

const directory = mkdtempSync(join(tmpdir(), "workspace-"));
const ownToken = "token-of-one-scope";
const config = `
providers: [{ id: echo, echo: {} }, { id: slow, echo: { delay: 3600s } }]
scopes: [{ pattern: "*", workspaces: { red: ${directory} } }]
credentials:
  - name: own
    tokenSha256: ${createHash("sha256").update(ownToken).digest("hex")}
    role: ROLE_ADMIN
    scopes: [own]
`;

let broker: InProcessBroker;
let client: BrokerClient;

beforeAll(async () => {
  broker = await InProcessBroker.start(clock, config);
  client = broker.client;
});

afterAll(async () => {
  await broker.close();
  rmSync(directory, { recursive: true });
});

const key = (externalId: string, scope = "acme", provider = "echo") => ({ scope, externalId, provider });
const byKey = (externalId: string, scope?: string) => ({
  case: "key" as const,
  value: key(externalId, scope),
});
const byId = (sessionId: string) => ({ case: "sessionId" as const, value: sessionId });

it("a reset by the id of a replaced session leaves the key's session alone", async () => {
  await client.reserve({ key: key("replaced"), sessionId: "replaced-1" });
  const { session } = await client.resetSession({ selector: byKey("replaced"), expectedGeneration: 1 });
  const again = client.resetSession({ selector: byId("replaced-1"), expectedGeneration: 1 });
  expect(await reasonOf(again)).toBe("ARCHIVED");
  expect((await client.getSession({ selector: byKey("replaced") })).session).toEqual(session);
  expect((await client.getSession({ selector: byId(session?.sessionId ?? "") })).session).toEqual(session);
});

it("a pruned session is found by its id, and by its key no longer", async () => {
  await client.reserve({ key: key("pruned", "pruned"), sessionId: "pruned-1" });
  clock.advance(hourMs);
  expect((await client.prune({ scope: "pruned", olderThan: anyAge })).archived).toBe(1);
  const { session } = await client.getSession({ selector: byId("pruned-1") });
  expect(session?.state).toBe(SessionState.ARCHIVED);
  const selector = byKey("pruned", "pruned");
  for (const call of [
    () => client.getSession({ selector }),
    () => client.pinSession({ selector, pinned: true }),
    () => client.resetSession({ selector, expectedGeneration: 1 }),
    () => client.deleteSession({ selector }),
  ]) {
    expect(await reasonOf(call())).toBe("SESSION_NOT_FOUND");
  }
});

it("an archived session is revived, not made a second time, when its key has none", async () => {
  await client.reserve({ key: key("revived"), sessionId: "revived-1" });
  await say("revived", "one");
  await client.resetSession({ selector: byKey("revived"), expectedGeneration: 1 });
  await client.deleteSession({ selector: byKey("revived") });
  const revived = await client.reserve({ key: key("revived"), sessionId: "revived-1" });
  expect(revived).toMatchObject({ outcome: Outcome.EXPLICIT, session: { turnCount: 1 } });
  expect((await client.getSession({ selector: byId("revived-1") })).session).toEqual(revived.session);
});

it.each(["rotated", "pruned"])("a %s session that is revived takes aliases and labels", async (how) => {
  const id = `${how}-with-aliases`;
  await client.reserve({ key: key(id, how), sessionId: id });
  clock.advance(hourMs);
  if (how === "pruned") await client.prune({ scope: how, olderThan: anyAge });
  else await client.resetSession({ selector: byKey(id, how), expectedGeneration: 1 });
  const { session } = await client.reserve({
    key: key(id, how),
    sessionId: id,
    aliases: [`alias of ${id}`],
    labels: { color: "red" },
    ...(how === "pruned" ? {} : { expectedGeneration: 2 }),
  });
  expect(session?.aliases.map((alias) => alias.id)).toEqual([`alias of ${id}`]);
  expect(session?.labels).toEqual({ color: "red" });
});

it("a revived session has its native id only if no other live session took it", async () => {
  const bind = (externalId: string) =>
    client.bind({
      selector: byKey(externalId),
      nativeId: "taken",
      expectedGeneration: 1,
      expectedNativeId: "",
    });
  await client.reserve({ key: key("first owner"), sessionId: "first-owner" });
  await bind("first owner");
  await client.resetSession({ selector: byKey("first owner"), expectedGeneration: 1 });
  await client.reserve({ key: key("second owner") });
  await bind("second owner");
  const revival = { key: key("first owner"), sessionId: "first-owner", expectedGeneration: 2 };
  expect(await reasonOf(client.reserve(revival))).toBe("NATIVE_ID_IN_USE");
});

it("a revived session is not announced with the reason it once had, and begins anew", async () => {
  const resetPolicy = { daily: { hour: 4 } };
  await client.reserve({ key: key("announced"), resetPolicy });
  const { session } = await client.resetSession({ selector: byKey("announced"), expectedGeneration: 1 });
  await client.reserve({ key: key("announced"), sessionId: "announced-3", expectedGeneration: 2 });
  clock.advance(48 * hourMs);
  const revival = { key: key("announced"), sessionId: session?.sessionId ?? "", expectedGeneration: 3 };
  expect((await client.reserve(revival)).outcome).toBe(Outcome.EXPLICIT);
  expect(await client.reserve({ key: key("announced") })).toMatchObject({
    outcome: Outcome.EXISTING,
    rotationReason: RotationReason.UNSPECIFIED,
  });
});

it("a prune of RESERVED passes over sessions that had a turn", async () => {
  await client.reserve({ key: key("reserved", "states") });
  await say("active", "one", { scope: "states" });
  clock.advance(hourMs);
  const report = await client.prune({
    scope: "states",
    olderThan: anyAge,
    states: [SessionState.RESERVED],
  });
  expect(report.rows.map((row) => row.key?.externalId)).toEqual(["reserved"]);
});

it("a former native id is an alias once", async () => {
  await client.reserve({ key: key("rebound") });
  const ids = ["a", "b", "a", "b"];
  for (const [index, nativeId] of ids.entries()) {
    await client.bind({
      selector: byKey("rebound"),
      nativeId: `rebound-${nativeId}`,
      expectedGeneration: 1,
      expectedNativeId: index === 0 ? "" : `rebound-${ids[index - 1]}`,
    });
  }
  const { session } = await client.getSession({ selector: byKey("rebound") });
  expect(session?.aliases.map((alias) => alias.id).sort()).toEqual(["rebound-a", "rebound-b"]);
});

it("a retry of a turn by session id meets it, also when the session was replaced since", async () => {
  await client.reserve({ key: key("retried"), sessionId: "retried-1" });
  const turn = { sessionId: "retried-1", turnId: "retried-turn" };
  const events = await say("retried", "one", turn);
  await client.resetSession({ selector: byKey("retried"), expectedGeneration: 1 });
  expect(await say("retried", "one", turn)).toEqual(events);
});

it.each([
  ["archived", {}],
  ["in another workspace", { workspace: "red" }],
])("a native id of somebody else's session is not had, be it %s", async (how, options) => {
  const [foreign, own] = [key(`has ${how}`, "foreign"), key(`wants ${how}`, "own")];
  const nativeId = how.replaceAll(" ", "-");
  await client.reserve({ key: foreign, ...options });
  const selector = { case: "key" as const, value: foreign };
  await client.bind({ selector, nativeId, expectedGeneration: 1, expectedNativeId: "" });
  if (how === "archived") await client.resetSession({ selector, expectedGeneration: 1 });
  const restricted = broker.clientOf(ownToken);
  await restricted.reserve({ key: own });
  const call = restricted.bind({
    selector: { case: "key", value: own },
    nativeId,
    expectedGeneration: 1,
    expectedNativeId: "",
  });
  expect(await reasonOf(call)).toBe("SESSION_NOT_FOUND");
  const imported = { ...own, externalId: `imports ${how}` };
  const report = await restricted.importSessions(
    (async function* () {
      yield { session: { key: imported, sessionId: imported.externalId, nativeId } };
    })(),
  );
  expect([report.created, report.rows.length]).toEqual([1, 1]);
  const { session } = await restricted.getSession({ selector: { case: "key", value: imported } });
  expect(session?.nativeId).toBe("");
});

it("a hand-off is not told of a session that works elsewhere", async () => {
  await client.reserve({ key: key("elsewhere") });
  const call = client.reserve({
    key: key("elsewhere"),
    workspace: "red",
    visibility: Visibility.INTERNAL,
  });
  expect(await reasonOf(call)).toBe("WORKSPACE_MISMATCH");
});

it("watchers are told once that a session was archived, and that the key has it again", async () => {
  const where = { scope: "watched", provider: "echo" };
  const stop = new AbortController();
  const stream = client.watchSessions(where, { signal: stop.signal })[Symbol.asyncIterator]();
  const next = async () => {
    const { value } = await stream.next();
    return [WatchSessionsResponse_Change[value?.change ?? 0], value?.session?.sessionId];
  };
  expect(await next()).toEqual(["HEARTBEAT", undefined]);
  const watched = key("watched", "watched");
  await client.reserve({ key: watched, sessionId: "watched-1" });
  await client.reserve({ key: watched, sessionId: "watched-2", expectedGeneration: 1 });
  await client.pinSession({ selector: byId("watched-1"), pinned: true });
  await client.reserve({ key: watched, sessionId: "watched-1", expectedGeneration: 2 });
  await client.pinSession({ selector: byId("watched-1"), pinned: false });
  clock.advance(hourMs);
  await client.prune({ scope: "watched", olderThan: anyAge });
  await client.pinSession({ selector: byId("watched-1"), pinned: true });
  const told: unknown[] = [];
  for (let i = 0; i < 7; i++) told.push(await next());
  expect(told).toEqual([
    ["CREATED", "watched-1"],
    ["ROTATED", "watched-2"],
    ["UPDATED", "watched-1"],
    ["ROTATED", "watched-1"],
    ["UPDATED", "watched-1"],
    ["ARCHIVED", "watched-1"],
    ["UPDATED", "watched-1"],
  ]);
  stop.abort();
});

it("a turn that its caller says has failed does not make a native id a proven one", async () => {
  const selector = { case: "key" as const, value: key("unproven", "acme", "slow") };
  const input = [{ part: { case: "text" as const, value: "hello" } }];
  for await (const { event } of client.dispatch({ target: selector, input, turnId: "slow-turn" })) {
    if (event?.event.case === "started") await client.cancelTurn({ turnId: "slow-turn" });
  }
  const turnId = "held-turn";
  let fence = 0n;
  for await (const { event } of client.acquireLane({ key: selector.value, turnId })) {
    if (event.case !== "granted") continue;
    fence = event.value.fence;
    await client.recordTurn({ turnId, fence, ending: { case: "failed", value: {} } });
  }
  expect(fence).toBeGreaterThan(0n);
  const { session } = await client.getSession({ selector });
  expect(session?.nativeState).toBe(NativeState.PROVISIONAL);
});

async function say(
  externalId: string,
  text: string,
  options: { readonly sessionId?: string; readonly turnId?: string; readonly scope?: string } = {},
): Promise<TurnEvent[]> {
  const { sessionId, turnId = "", scope } = options;
  const events: TurnEvent[] = [];
  for await (const { event } of client.dispatch({
    target: sessionId === undefined ? byKey(externalId, scope) : byId(sessionId),
    input: [{ part: { case: "text", value: text } }],
    turnId,
  })) {
    if (event !== undefined && event.sequence > 0) events.push(event);
  }
  return events;
}

async function reasonOf(call: Promise<unknown>): Promise<string | undefined> {
  const error = await call.then(() => undefined, ConnectError.from);
  return error?.findDetails(ErrorInfoSchema)[0]?.reason;
}
