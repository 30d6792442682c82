/** Hand-offs between agents, which leave no trace. */
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  WatchSessionsResponse_Change as Change,
  Outcome,
  SessionState,
  Visibility,
} from "../../gen/sessionbroker/v1/session_pb.js";
import { reasonOf } from "../support/answers.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const second = 1_000;
const visibility = Visibility.INTERNAL;

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock);
});

afterEach(() => broker.close());

const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });
const byKey = (externalId: string) => ({ case: "key" as const, value: key(externalId) });

/** Where the store's changes stand. */
async function revision(): Promise<string> {
  for await (const answer of broker.client.watchSessions({})) return answer.revision;
  throw new Error("the watch ended");
}

async function changesSince(afterRevision: string): Promise<string[]> {
  // A change of its own, so that the watch has an end.
  await broker.client.reserve({ key: key("end") });
  const changes: string[] = [];
  for await (const { change, session } of broker.client.watchSessions({ afterRevision })) {
    if (session?.key?.externalId === "end") break;
    if (change !== Change.HEARTBEAT) changes.push(`${Change[change]} ${session?.key?.externalId}`);
  }
  return changes;
}

it.each([
  ["of a new key", async () => {}],
  [
    "of a key whose session is stale",
    async (chat: string) => {
      const idle = { seconds: 10n };
      await broker.client.reserve({ key: key(chat), resetPolicy: { idle } });
      clock.advance(60 * second);
    },
  ],
  [
    "of a key whose session was pruned",
    async (chat: string) => {
      await broker.client.reserve({ key: key(chat) });
      clock.advance(60 * second);
      await broker.client.prune({ olderThan: { seconds: 1n } });
    },
  ],
  [
    "of a key whose session was deleted",
    async (chat: string) => {
      await broker.client.reserve({ key: key(chat) });
      await broker.client.deleteSession({ selector: byKey(chat) });
    },
  ],
])("a hand-off %s has an id of its own and is in no answer after it", async (_, prepare) => {
  await prepare("chat");
  const states = [SessionState.RESERVED, SessionState.ACTIVE, SessionState.ARCHIVED];
  const before = (await broker.client.listSessions({ states })).sessions;
  const from = await revision();

  const request = { key: key("chat"), visibility, aliases: ["alias"], labels: { a: "b" } };
  const first = await broker.client.reserve(request);
  const other = await broker.client.reserve({ ...request, idempotencyKey: "i" });
  const ids = [first, other].map(({ session }) => session?.sessionId ?? "");
  expect([first.outcome, other.outcome]).toEqual([Outcome.EPHEMERAL, Outcome.EPHEMERAL]);
  expect(new Set(ids).size).toBe(2);

  for (const id of ids) {
    expect(before.map(({ sessionId }) => sessionId)).not.toContain(id);
    for (const selector of [
      { case: "sessionId", value: id },
      { case: "shortId", value: id.slice(0, 8) },
      { case: "turnId", value: id },
      { case: "alias", value: "alias" },
    ] as const) {
      expect((await broker.client.resolveSelection({ selector })).selection.case).toBe("none");
    }
    const selector = { case: "sessionId" as const, value: id };
    expect(await reasonOf(broker.client.getSession({ selector }))).toBe("NotFound SESSION_NOT_FOUND");
  }
  expect((await broker.client.listSessions({ states })).sessions).toEqual(before);
  const exported: string[] = [];
  for await (const { session } of broker.client.exportSessions({ includeArchived: true })) {
    exported.push(session?.sessionId ?? "");
  }
  expect(exported.toSorted()).toEqual(before.map(({ sessionId }) => sessionId).toSorted());
  expect(await changesSince(from)).toEqual([]);
});

it("a hand-off of a live fresh key is told its session and writes nothing, not even that it was used", async () => {
  const { session } = await broker.client.reserve({ key: key("live") });
  const from = await revision();
  clock.advance(50 * second);
  const request = { key: key("live"), visibility, aliases: ["alias"], labels: { a: "b" } };
  for (const idempotencyKey of ["", "i"]) {
    const answer = await broker.client.reserve({ ...request, idempotencyKey });
    expect(answer).toMatchObject({ outcome: Outcome.EXISTING, session: { sessionId: session?.sessionId } });
  }
  // Whatever is pending is on disk after this.
  await broker.restart();
  expect((await broker.client.getSession({ selector: byKey("live") })).session).toEqual(session);
  expect(await changesSince(from)).toEqual([]);
});
