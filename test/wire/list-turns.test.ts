/** ListTurns: who sees which turns, in which order, on which page. */
import { createHash } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { BrokerClient } from "../support/broker.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const config = `
providers:
  - id: echo
    echo: {}
  - id: held
    echo: { delay: 3600s }
credentials:
  - name: acme
    tokenSha256: ${createHash("sha256").update("acme-secret").digest("hex")}
    role: ROLE_READ
    scopes: [acme, acme/*]
`;
const startMs = Date.UTC(2026, 0, 1);

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(startMs);
  broker = await InProcessBroker.start(clock, config);
});

afterEach(() => broker.close());

const key = (externalId: string, scope = "acme", provider = "echo") => ({ scope, externalId, provider });

function dispatch(turnId: string, target: ReturnType<typeof key>) {
  return broker.client.dispatch({
    target: { case: "key", value: target },
    turnId,
    input: [{ part: { case: "text", value: "hello" } }],
  });
}

/** Runs turns one after the other, a second apart. */
async function run(...turns: readonly [turnId: string, target: ReturnType<typeof key>][]): Promise<void> {
  for (const [turnId, target] of turns) {
    clock.advance(1_000);
    for await (const _ of dispatch(turnId, target));
  }
}

type Filter = Parameters<BrokerClient["listTurns"]>[0];

async function pages(filter: Filter, client = broker.client): Promise<string[][]> {
  const all: string[][] = [];
  for (let pageToken: string | undefined; pageToken !== ""; ) {
    const page = await client.listTurns({ ...filter, pageToken: pageToken ?? "" });
    all.push(page.turns.map(({ turnId }) => turnId));
    pageToken = page.nextPageToken;
  }
  return all;
}

async function reasonOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "none";
  } catch (error) {
    const { code } = ConnectError.from(error);
    return `${Code[code]} ${ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason}`;
  }
}

it("lists turns of every session and scope, newest first, each on one page", async () => {
  await run(
    ["a", key("x")],
    ["b", key("y")],
    ["c", key("x", "acme/sub")],
    ["d", key("x", "beta")],
    ["e", key("x")],
  );
  expect(await pages({})).toEqual([["e", "d", "c", "b", "a"]]);
  expect(await pages({ pageSize: 2 })).toEqual([["e", "d"], ["c", "b"], ["a"]]);
  expect(await pages({ scope: "acme" })).toEqual([["e", "b", "a"]]);
  expect(await pages({ scope: "acme/*" })).toEqual([["c"]]);
  expect(await pages({ scope: "nothing" })).toEqual([[]]);
  const [newest] = (await broker.client.listTurns({ pageSize: 1 })).turns;
  expect(newest).toEqual((await broker.client.getTurn({ turnId: "e" })).turn);
});

it("turns that come between two pages move none of the older ones", async () => {
  await run(["a", key("x")], ["b", key("y")], ["c", key("x")], ["d", key("y")]);
  const first = await broker.client.listTurns({ pageSize: 2 });
  await run(["late", key("late")]);
  const second = await broker.client.listTurns({ pageSize: 2, pageToken: first.nextPageToken });
  expect(second.turns.map(({ turnId }) => turnId)).toEqual(["b", "a"]);
  expect(second.nextPageToken).toBe("");
});

it("lists by the time of creation, from the first moment to before the second", async () => {
  await run(["a", key("x")], ["b", key("x")], ["c", key("x")], ["d", key("x")]);
  const at = (seconds: number) => timestampFromMs(startMs + seconds * 1_000);
  for (const where of [{}, { key: key("x") }]) {
    expect(await pages({ ...where, since: at(2), until: at(4) })).toEqual([["c", "b"]]);
    expect((await pages({ ...where, since: at(2), until: at(4), pageSize: 1 })).flat()).toEqual(["c", "b"]);
    expect((await pages({ ...where, since: at(5) })).flat()).toEqual([]);
    expect((await pages({ ...where, until: at(1) })).flat()).toEqual([]);
  }
});

it("lists by state, and each state that a turn goes through is its only one", async () => {
  await run(["done", key("x")]);
  const held = key("x", "acme", "held");
  const follow = async (turnId: string) => {
    const stream = dispatch(turnId, held)[Symbol.asyncIterator]();
    await stream.next();
    return stream;
  };
  const running = await follow("running");
  while ((await broker.client.getTurn({ turnId: "running" })).turn?.state !== TurnState.RUNNING);
  const waiting = await follow("waiting");
  const only = (states: TurnState[], more: Filter = {}) => pages({ ...more, states });
  expect(await only([TurnState.RUNNING])).toEqual([["running"]]);
  expect(await only([TurnState.QUEUED])).toEqual([["waiting"]]);
  expect(await only([TurnState.QUEUED, TurnState.COMPLETED])).toEqual([["waiting", "done"]]);
  expect(await only([TurnState.MERGED])).toEqual([[]]);
  expect(await only([TurnState.RUNNING], { key: held })).toEqual([["running"]]);
  await broker.client.cancelTurn({ turnId: "waiting" });
  await broker.client.cancelTurn({ turnId: "running" });
  while ((await running.next()).done !== true);
  while ((await waiting.next()).done !== true);
  expect(await only([TurnState.RUNNING, TurnState.QUEUED])).toEqual([[]]);
  expect(await only([TurnState.CANCELLED])).toEqual([["waiting", "running"]]);
});

it("lists the turns of one session, by its key or its id, in whichever generation", async () => {
  await run(["a", key("x")], ["other", key("y")], ["b", key("x")]);
  const sessionId = (await broker.client.getTurn({ turnId: "a" })).turn?.sessionId ?? "";
  expect(await pages({ key: key("x"), pageSize: 1 })).toEqual([["b"], ["a"]]);
  const { nextPageToken: pageToken } = await broker.client.listTurns({ key: key("x"), pageSize: 1 });
  await broker.client.resetSession({ selector: { case: "key", value: key("x") }, expectedGeneration: 1 });
  await run(["c", key("x")]);
  expect(await pages({ key: key("x") })).toEqual([["c"]]);
  expect(await pages({ sessionId })).toEqual([["b", "a"]]);
  // A listing that has begun stays with its session.
  const rest = await broker.client.listTurns({ key: key("x"), pageSize: 1, pageToken });
  expect(rest.turns.map(({ turnId }) => turnId)).toEqual(["a"]);
  expect(await reasonOf(broker.client.listTurns({ key: key("nobody") }))).toBe("NotFound SESSION_NOT_FOUND");
  expect(await reasonOf(broker.client.listTurns({ sessionId: "nobody" }))).toBe("NotFound SESSION_NOT_FOUND");
  expect(await reasonOf(broker.client.listTurns({ key: key("x"), sessionId }))).toBe(
    "InvalidArgument INVALID_FIELD",
  );
});

it("turns of a deleted session are listed no more", async () => {
  await run(["a", key("x")], ["b", key("y")]);
  await broker.client.deleteSession({ selector: { case: "key", value: key("x") } });
  expect(await pages({})).toEqual([["b"]]);
});

it("a credential lists the turns of its scopes, and its tokens are good for nobody and nothing else", async () => {
  await run(["a", key("x")], ["b", key("x", "beta")], ["c", key("x", "acme/sub")]);
  const stranger = broker.clientOf("acme-secret");
  expect(await pages({}, stranger)).toEqual([["c", "a"]]);
  const theirs = (await broker.client.getTurn({ turnId: "b" })).turn?.sessionId ?? "";
  expect(await reasonOf(stranger.listTurns({ scope: "beta" }))).toBe("PermissionDenied FOREIGN_SCOPE");
  expect(await reasonOf(stranger.listTurns({ scope: "*" }))).toBe("PermissionDenied FOREIGN_SCOPE");
  expect(await reasonOf(stranger.listTurns({ key: key("x", "beta") }))).toBe(
    "PermissionDenied FOREIGN_SCOPE",
  );
  expect(await reasonOf(stranger.listTurns({ sessionId: theirs }))).toBe("NotFound SESSION_NOT_FOUND");
  expect(await reasonOf(stranger.listTurns({ key: key("x"), scope: "acme/*" }))).toBe(
    "NotFound SESSION_NOT_FOUND",
  );
  const { nextPageToken: pageToken } = await broker.client.listTurns({ pageSize: 1 });
  const refused = "InvalidArgument INVALID_FIELD";
  expect(await reasonOf(stranger.listTurns({ pageSize: 1, pageToken }))).toBe(refused);
  expect(await reasonOf(broker.client.listTurns({ scope: "acme", pageToken }))).toBe(refused);
  expect(await reasonOf(broker.client.listTurns({ pageToken: `${pageToken}x` }))).toBe(refused);
  expect((await broker.client.listTurns({ pageSize: 1_000, pageToken })).turns).toHaveLength(2);
});
