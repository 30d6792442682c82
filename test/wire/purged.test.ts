/** What pruning and deletion leave behind, over time and restarts. */
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Outcome, RotationReason, SessionState } from "../../gen/sessionbroker/v1/session_pb.js";
import { type DatabaseName, databaseNames, environmentOptions } from "../../src/store/lmdb/schema.js";
import { Tables } from "../../src/store/lmdb/tables.js";
import { reasonOf } from "../support/answers.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const day = 24 * 3_600_000;

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, "maintenance: { every: 1s }");
});

afterEach(() => broker.close());

const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });
const byKey = (externalId: string) => ({ case: "key" as const, value: key(externalId) });

async function say(externalId: string): Promise<void> {
  const input = [{ part: { case: "text" as const, value: "one two three" } }];
  for await (const _ of broker.client.dispatch({ target: byKey(externalId), input }));
}

describe("a purged key", () => {
  it.each(["by Prune", "by DeleteSession", "by the background"])(
    "%s is announced after months and restarts, once it is asked for, and not again",
    async (how) => {
      await broker.client.reserve({ key: key("chat") });
      if (how === "by DeleteSession") await broker.client.deleteSession({ selector: byKey("chat") });
      if (how === "by Prune") {
        clock.advance(day);
        const states = [SessionState.RESERVED];
        await broker.client.prune({ olderThan: { seconds: 1n }, purge: true, states });
      }
      if (how === "by the background") {
        clock.advance(61 * day);
        const gone = async () => {
          const { sessions } = await broker.client.listSessions({
            states: [SessionState.RESERVED, SessionState.ARCHIVED],
          });
          expect(sessions).toEqual([]);
        };
        await vi.waitFor(gone, 10_000);
      }
      clock.advance(100 * day);
      await broker.restart();
      const created = { outcome: Outcome.CREATED, rotationReason: RotationReason.PURGED };
      expect(await broker.client.reserve({ key: key("chat") })).toMatchObject(created);
      await say("chat");
      expect(await broker.client.reserve({ key: key("chat") })).toMatchObject({
        outcome: Outcome.EXISTING,
        rotationReason: RotationReason.UNSPECIFIED,
      });
    },
  );

  it("was never there for a key that had no session", async () => {
    expect(await broker.client.reserve({ key: key("new") })).toMatchObject({
      outcome: Outcome.CREATED,
      rotationReason: RotationReason.UNSPECIFIED,
    });
  });
});

describe("the background", () => {
  it("archives after thirty days and purges after thirty more, sparing what is pinned", async () => {
    for (const chat of ["idle", "pinned"]) await broker.client.reserve({ key: key(chat) });
    await broker.client.pinSession({ selector: byKey("pinned"), pinned: true });
    const states = async () => {
      const { sessions } = await broker.client.listSessions({
        states: [SessionState.RESERVED, SessionState.ARCHIVED],
      });
      return Object.fromEntries(
        sessions.map(({ key: each, state }) => [each?.externalId, SessionState[state]]),
      );
    };
    clock.advance(30 * day + 1);
    await vi.waitFor(
      async () => expect(await states()).toEqual({ idle: "ARCHIVED", pinned: "RESERVED" }),
      10_000,
    );
    clock.advance(30 * day);
    await vi.waitFor(async () => expect(await states()).toEqual({ pinned: "RESERVED" }), 10_000);
  });
});

it("a deleted session leaves no turn, event, history or id on disk, and the answer says what is left", async () => {
  for (const _ of [1, 2, 3]) await say("chat");
  const { deletedTurns, note } = await broker.client.deleteSession({ selector: byKey("chat") });
  expect(deletedTurns).toBe(3);
  expect(note).toContain("transcript");
  const path = join(broker.data, "store");
  const root = openLmdb(environmentOptions(path));
  const tables = new Tables(root, path);
  const filled = (Object.keys(databaseNames) as DatabaseName[]).filter((name) => {
    for (const _ of tables.all(name)) return true;
    return false;
  });
  await root.close();
  // Of the key a tombstone; of the turns their ids for a week, against late retries, and the day's sums.
  expect(filled.toSorted()).toEqual(["changes", "meta", "replayExpiry", "replays", "tombstones", "usage"]);
});

it.each([
  [{}, "older_than"],
  [{ scope: "acme", dryRun: true }, "older_than"],
  [{ maxSessions: 0 }, "max_sessions"],
  [{ maxSessions: -1 }, "max_sessions"],
  [{ olderThan: { seconds: 0n } }, "older_than"],
  [{ olderThan: { seconds: -1n } }, "older_than"],
  [{ olderThan: { seconds: 5n }, maxSessions: -1 }, "max_sessions"],
])("Prune %o is INVALID_ARGUMENT and prunes nothing", async (request, field) => {
  await broker.client.reserve({ key: key("chat") });
  clock.advance(day);
  const call = broker.client.prune(request);
  expect(await reasonOf(call)).toBe("InvalidArgument INVALID_FIELD");
  await expect(call).rejects.toThrow(field);
  expect(await reasonOf(broker.client.getSession({ selector: byKey("chat") }))).toBe("none");
});

it("the age of a session is judged strictly", async () => {
  await broker.client.reserve({ key: key("chat") });
  clock.advance(10_000);
  const archived = async () => (await broker.client.prune({ olderThan: { seconds: 10n } })).archived;
  expect(await archived()).toBe(0);
  clock.advance(1);
  expect(await archived()).toBe(1);
});
