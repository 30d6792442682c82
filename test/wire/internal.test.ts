/** Turns with visibility INTERNAL: a session of their own, and no trace of it. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Code } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Outcome, SessionState, Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import { CancelTurnResponse_Action, type TurnEvent, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const minute = 60_000;
const key = { scope: "acme", externalId: "chat", provider: "echo" };
const config = `
providers:
  - id: echo
    echo: {}
  - id: slow
    echo: { delay: 30s }
`;

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, config);
});

afterEach(() => broker.close());

const request = (
  turnId: string,
  { provider = "echo", text = "hello", visibility = Visibility.INTERNAL } = {},
) => ({
  target: { case: "key" as const, value: { ...key, provider } },
  turnId,
  input: [{ part: { case: "text" as const, value: text } }],
  reserve: { visibility },
});

async function read(stream: AsyncIterable<{ event?: TurnEvent | undefined }>): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const { event } of stream) if (event !== undefined) events.push(event);
  return events;
}

it("runs beside the key's own session, and the answer can be read again", async () => {
  const { client } = broker;
  const own = await client.reserve({ key });
  const events = await read(client.dispatch(request("hand-off")));
  expect(events.map(({ event }) => event.case)).toEqual([
    "accepted",
    "started",
    "textDelta",
    "textDelta",
    "textDelta",
    "completed",
  ]);
  const accepted = events[0]?.event.value;
  expect(accepted).toMatchObject({ outcome: Outcome.EPHEMERAL, queuePosition: 0 });
  expect(accepted).not.toMatchObject({ session: { sessionId: own.session?.sessionId } });
  expect(await read(client.attach({ turnId: "hand-off" }))).toEqual(events);
  expect(await read(client.attach({ turnId: "hand-off", afterSequence: 3 }))).toEqual(events.slice(3));
  expect(await client.getTurn({ turnId: "hand-off" })).toMatchObject({
    turn: { state: TurnState.COMPLETED, key },
  });
});

it("is in no list, selection, watch or export, and keeps no directory", async () => {
  const { client } = broker;
  const stop = new AbortController();
  const watched: string[] = [];
  const watching = (async () => {
    for await (const change of client.watchSessions({ scope: "*" }, { signal: stop.signal })) {
      if (change.session?.key !== undefined) watched.push(change.session.key.externalId);
    }
  })().catch(() => {});
  const events = await read(client.dispatch(request("hand-off")));
  const accepted = events[0]?.event;
  const sessionId = accepted?.case === "accepted" ? (accepted.value.session?.sessionId ?? "") : "";
  const started = events[1]?.event;
  const nativeId = started?.case === "started" ? started.value.nativeId : "";
  expect([sessionId, nativeId]).not.toContain("");
  await expect(client.getSession({ selector: { case: "key", value: key } })).rejects.toMatchObject({
    code: Code.NotFound,
  });
  for (const selector of [
    { case: "key" as const, value: key },
    { case: "sessionId" as const, value: sessionId },
    { case: "nativeId" as const, value: nativeId },
    { case: "turnId" as const, value: "hand-off" },
  ]) {
    expect((await client.resolveSelection({ selector })).selection.case).toBe("none");
  }
  const states = [SessionState.ACTIVE, SessionState.RESERVED, SessionState.ARCHIVED];
  expect((await client.listSessions({ states })).sessions).toEqual([]);
  const exported: unknown[] = [];
  for await (const row of client.exportSessions({})) exported.push(row);
  expect(exported).toEqual([]);
  await client.reserve({ key: { ...key, externalId: "afterwards" } });
  await expect.poll(() => watched).toEqual(["afterwards"]);
  stop.abort();
  await watching;
  const workspaces = join(broker.data, "workspaces");
  await expect.poll(() => (existsSync(workspaces) ? readdirSync(workspaces) : [])).toEqual([]);
});

it("is forgotten ten minutes after its end, and then its id may be used again", async () => {
  const { client } = broker;
  await read(client.dispatch(request("hand-off")));
  clock.advance(10 * minute - 1);
  expect((await client.getTurn({ turnId: "hand-off" })).turn?.state).toBe(TurnState.COMPLETED);
  clock.advance(1);
  await expect(client.getTurn({ turnId: "hand-off" })).rejects.toMatchObject({ code: Code.NotFound });
  expect((await read(client.dispatch(request("hand-off")))).at(-1)?.event.case).toBe("completed");
});

it("has an id that is one with those of other turns", async () => {
  const { client } = broker;
  const visibility = Visibility.NORMAL;
  const [internal, normal] = [
    await read(client.dispatch(request("a"))),
    await read(client.dispatch(request("b", { visibility }))),
  ];
  expect(await read(client.dispatch(request("a", { visibility })))).toEqual(internal);
  expect(await read(client.dispatch(request("b")))).toEqual(normal);
  for (const [turnId, other] of [
    ["a", Visibility.NORMAL],
    ["b", Visibility.INTERNAL],
  ] as const) {
    const again = read(client.dispatch(request(turnId, { text: "other", visibility: other })));
    await expect(again).rejects.toMatchObject({ code: Code.AlreadyExists });
  }
});

it("several of one key run at the same time, and each can be cancelled", async () => {
  const { client } = broker;
  const turnIds = ["one", "two", "three"];
  const streams = turnIds.map((turnId) => read(client.dispatch(request(turnId, { provider: "slow" }))));
  const state = async (turnId: string) => (await client.getTurn({ turnId })).turn?.state;
  for (const turnId of turnIds) {
    await expect.poll(() => state(turnId).catch(() => undefined)).toBe(TurnState.RUNNING);
  }
  for (const turnId of turnIds) {
    expect((await client.cancelTurn({ turnId })).action).toBe(CancelTurnResponse_Action.INTERRUPTING);
  }
  for (const events of await Promise.all(streams)) expect(events.at(-1)?.event.case).toBe("cancelled");
});

it.each([
  ["session_id", { target: { case: "sessionId" as const, value: "some" } }],
  ["reserve.aliases", { reserve: { visibility: Visibility.INTERNAL, aliases: ["name"] } }],
  ["response_id", { responseId: "resp_1" }],
])("refuses what would name its session: %s", async (field, more) => {
  const { client } = broker;
  await client.reserve({ key, sessionId: "some" });
  const refused = read(client.dispatch({ ...request("named"), ...more }));
  await expect(refused).rejects.toMatchObject({
    code: Code.InvalidArgument,
    message: expect.stringContaining(field),
  });
});
