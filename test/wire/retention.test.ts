/** Events of ended turns that are no longer kept, and what is left of the turns. */
import { createHash } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { type TurnEvent, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { BrokerClient } from "../support/broker.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const hour = 3_600_000;
const digest = (token: string) => createHash("sha256").update(token).digest("hex");

const config = (retention: string) => `
maintenance: { every: 1s, purgeAfter: 0s }
retention: ${retention}
credentials:
  - { name: acme, tokenSha256: ${digest("acme")}, role: ROLE_DISPATCH, scopes: [acme] }
  - { name: beta, tokenSha256: ${digest("beta")}, role: ROLE_DISPATCH, scopes: [beta] }
`;

let clock: ManualClock;
let broker: InProcessBroker;

async function start(retention = "{}"): Promise<void> {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, config(retention));
}

afterEach(() => broker.close());

const requestOf = (turnId: string, text: string, scope = "acme") => ({
  target: { case: "key" as const, value: { scope, externalId: "chat", provider: "echo" } },
  turnId,
  input: [{ part: { case: "text" as const, value: text } }],
});

async function collect(stream: AsyncIterable<{ event?: TurnEvent | undefined }>): Promise<TurnEvent[]> {
  const events: TurnEvent[] = [];
  for await (const { event } of stream) if (event !== undefined && event.sequence > 0) events.push(event);
  return events;
}

/** Runs a turn of about so many bytes, and a second passes. */
async function run(turnId: string, bytes: number, client = broker.client, scope = "acme") {
  const word = `${"x".repeat(99)} `;
  const events = await collect(client.dispatch(requestOf(turnId, word.repeat(bytes / 100), scope)));
  clock.advance(1_000);
  return events;
}

async function turnOf(turnId: string) {
  const { turn } = await broker.client.getTurn({ turnId });
  if (turn === undefined) throw new Error("no turn");
  return turn;
}

const isKept = async (turnId: string) => (await turnOf(turnId)).firstSequence === 1;

async function evicted(...turnIds: readonly string[]): Promise<void> {
  for (const turnId of turnIds)
    while (await isKept(turnId)) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Resolves once sessions that were idle for a month have been archived, which comes before the events. */
async function archived(chat: string): Promise<void> {
  const key = { scope: "acme", externalId: chat, provider: "echo" };
  await broker.client.reserve({ key });
  clock.advance(31 * 24 * hour);
  const live = () => broker.client.getSession({ selector: { case: "key", value: key } });
  while (await live().then(Boolean, () => false)) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function refusalOf(
  stream: AsyncIterable<unknown>,
): Promise<[string, Record<string, string> | undefined]> {
  try {
    for await (const _ of stream);
    return ["none", undefined];
  } catch (error) {
    const { code } = ConnectError.from(error);
    const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
    return [`${Code[code]} ${info?.reason}`, info?.metadata];
  }
}

it("after 24 hours the events are gone, and Accepted, the ending and the row stay", async () => {
  await start();
  const events = await run("old", 1_000);
  clock.advance(23 * hour);
  await run("young", 1_000);
  const before = await turnOf("old");
  const last = events.at(-1)?.sequence ?? 0;
  expect([before.firstSequence, before.lastSequence]).toEqual([1, last]);
  clock.advance(hour);
  await evicted("old");
  for (const _ of ["at once", "after a restart"]) {
    expect(await isKept("young")).toBe(true);
    expect(await turnOf("old")).toEqual({ ...before, firstSequence: last });
    for (const afterSequence of [0, 1, 5, last - 2]) {
      expect(await refusalOf(broker.client.attach({ turnId: "old", afterSequence }))).toEqual([
        "OutOfRange EVENTS_EXPIRED",
        { first_sequence: String(last) },
      ]);
    }
    expect(await collect(broker.client.attach({ turnId: "old", afterSequence: last - 1 }))).toEqual(
      events.slice(-1),
    );
    expect((await refusalOf(broker.client.attach({ turnId: "old", afterSequence: last + 1 })))[0]).toBe(
      "OutOfRange CURSOR_AHEAD",
    );
    // A retry meets the turn, and does not run it again.
    const retry = await run("old", 1_000);
    expect(retry).toEqual([events[0], events.at(-1)]);
    await broker.restart();
  }
  expect((await broker.client.listTurns({ states: [TurnState.COMPLETED] })).turns).toHaveLength(2);
});

it("nothing is evicted where both limits are off", async () => {
  await start("{ eventsFor: 0s, eventsBytes: 0 }");
  const events = await run("old", 1_000);
  for (const round of ["first", "second", "third"]) await archived(round);
  expect(await collect(broker.client.attach({ turnId: "old" }))).toEqual(events);
});

it("a grant that holds too much loses its oldest turns, and the others lose none", async () => {
  await start("{ eventsBytes: 100000 }");
  const acme = broker.clientOf("acme");
  const beta = broker.clientOf("beta");
  await run("small", 10_000, beta, "beta");
  for (let i = 1; i <= 6; i++) await run(`big-${i}`, 30_000, acme);
  await evicted("big-1", "big-2", "big-3", "big-4");
  expect(await Promise.all(["small", "big-5", "big-6"].map(isKept))).toEqual([true, true, true]);
  await broker.restart();
  await run("big-7", 30_000, broker.clientOf("acme"));
  await evicted("big-5");
  expect(await Promise.all(["small", "big-6", "big-7"].map(isKept))).toEqual([true, true, true]);
});

/** A reader that takes its time. */
function reader(client: BrokerClient, turnId: string) {
  const stream = client.attach({ turnId })[Symbol.asyncIterator]();
  const sequences: number[] = [];
  const take = async (until = Number.POSITIVE_INFINITY) => {
    while (sequences.length < until) {
      const { done, value } = await stream.next();
      if (done === true) return;
      sequences.push(value.event?.sequence ?? 0);
    }
  };
  return { sequences, take };
}

it("a turn that is being read goes last, and its reader is told so instead of being shown a gap", async () => {
  await start("{ eventsBytes: 3500000 }");
  await run("read", 2_000_000);
  const slow = reader(broker.client, "read");
  await slow.take(3);
  await run("unread", 1_000_000);
  await evicted("unread");
  expect(await isKept("read")).toBe(true);
  clock.advance(25 * hour);
  await evicted("read");
  await expect(slow.take()).rejects.toMatchObject({ code: Code.OutOfRange });
  expect(slow.sequences).toEqual(slow.sequences.map((_, i) => i + 1));
  expect(slow.sequences.length).toBeLessThan(20_000);
});

it("the conversation goes on, and a session that is deleted takes what is left with it", async () => {
  await start();
  await run("first", 1_000);
  clock.advance(25 * hour);
  await evicted("first");
  const [, second] = [await run("second", 100), await turnOf("second")];
  expect(second.ending?.event.value).toMatchObject({ text: expect.stringMatching(/^turn 2: /) });
  await broker.client.deleteSession({ selector: requestOf("", "").target });
  await expect(turnOf("first")).rejects.toMatchObject({ code: Code.NotFound });
});
