/** What WatchSessions tells, for how long, and listings while rows move. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  WatchSessionsResponse_Change as Change,
  SessionState,
} from "../../gen/sessionbroker/v1/session_pb.js";
import { reasonOf } from "../support/answers.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const second = 1_000;
const day = 24 * 3_600 * second;

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  // The store stamps changes with the time of the system.
  clock = new ManualClock(Date.now());
  broker = await InProcessBroker.start(clock, "maintenance: { every: 1s, archiveAfter: 0s }");
});

afterEach(() => broker.close());

const key = (externalId: string, scope = "acme") => ({ scope, externalId, provider: "echo" });
const byKey = (externalId: string) => ({ case: "key" as const, value: key(externalId) });

/** The first answer of a watch: where it begins. */
async function watch(afterRevision = ""): Promise<string> {
  for await (const answer of broker.client.watchSessions({ afterRevision })) {
    expect(answer.change).toBe(Change.HEARTBEAT);
    return answer.revision;
  }
  throw new Error("the watch ended");
}

/** What a watch from a revision tells, until this session is created. */
async function changes(afterRevision: string, until: string, scope = ""): Promise<string[]> {
  const seen: string[] = [];
  for await (const { change, session } of broker.client.watchSessions({ afterRevision, scope })) {
    if (change === Change.HEARTBEAT) continue;
    if (session?.key?.externalId === until) return seen;
    seen.push(`${Change[change]} ${session?.key?.externalId}`);
  }
  throw new Error("the watch ended");
}

describe("WatchSessions", () => {
  it("tells each change once, and nothing of activity alone", async () => {
    const from = await watch();
    await broker.client.reserve({ key: key("chat") });
    clock.advance(100 * second);
    await broker.client.reserve({ key: key("chat") });
    const moved = async () => {
      const { session } = await broker.client.getSession({ selector: byKey("chat") });
      expect(Number(session?.lastActivityAt?.seconds)).toBe(Math.floor(clock.now() / 1000));
    };
    await vi.waitFor(moved, 10_000);
    await broker.client.pinSession({ selector: byKey("chat"), pinned: true });
    await broker.client.pinSession({ selector: byKey("chat"), pinned: true });
    await broker.client.reserve({ key: key("end") });
    expect(await changes(from, "end")).toEqual(["CREATED chat", "UPDATED chat"]);
  });

  it("tells of the scope that was asked for, and goes on from the same revision in another", async () => {
    const from = await watch();
    for (const scope of ["acme", "acme/eu", "beta"]) await broker.client.reserve({ key: key(scope, scope) });
    for (const scope of ["acme", "acme/eu"]) await broker.client.reserve({ key: key("end", scope) });
    expect(await changes(from, "end", "acme")).toEqual(["CREATED acme"]);
    expect(await changes(from, "end", "acme/*")).toEqual(["CREATED acme/eu"]);
  });

  it("goes on from a revision after a restart", async () => {
    const from = await watch();
    await broker.client.reserve({ key: key("chat") });
    await broker.restart();
    await broker.client.reserve({ key: key("end") });
    expect(await changes(from, "end")).toEqual(["CREATED chat"]);
  });

  it("says when changes are no longer kept, and can be begun anew", async () => {
    const from = await watch();
    await broker.client.reserve({ key: key("chat") });
    clock.advance(day + 60 * second);
    const expired = () => reasonOf(changes(from, "chat"));
    await vi.waitFor(async () => expect(await expired()).toBe("OutOfRange REVISION_EXPIRED"), 10_000);
    const anew = await watch();
    await broker.client.reserve({ key: key("end") });
    expect(await changes(anew, "end")).toEqual([]);
  });
});

describe("a listing", () => {
  it.each([3, 7, 100])(
    "by %i a page shows each row that nothing touches once, while others move",
    async (pageSize) => {
      const chats = Array.from({ length: 24 }, (_, i) => `chat ${String(i).padStart(2, "0")}`);
      for (const [index, chat] of chats.entries()) {
        // Some of them were used in the same millisecond.
        if (index % 3 === 0) clock.advance(1);
        await broker.client.reserve({ key: key(chat, index % 2 === 0 ? "acme" : "acme/eu") });
      }
      const seen: string[] = [];
      const stamps: bigint[] = [];
      let pageToken = "";
      for (let page = 0; page === 0 || pageToken !== ""; page++) {
        const answer = await broker.client.listSessions({ pageSize, pageToken });
        seen.push(...answer.sessions.map(({ key: each }) => each?.externalId ?? ""));
        stamps.push(...answer.sessions.map(({ lastActivityAt }) => lastActivityAt?.seconds ?? 0n));
        pageToken = answer.nextPageToken;
        // The last row moves to the front, the first one is archived, and a new one comes.
        clock.advance(120 * second);
        if (page > 2) continue;
        const [moving, archived] = [chats[page], chats[chats.length - 1 - page]];
        await broker.client.reserve({ key: key(moving ?? "", page % 2 === 0 ? "acme" : "acme/eu") });
        await broker.client.prune({ olderThan: { seconds: 1_000_000n }, dryRun: true });
        const scope = page % 2 === 0 ? "acme/eu" : "acme";
        await broker.client.deleteSession({ selector: { case: "key", value: key(archived ?? "", scope) } });
        await broker.client.reserve({ key: key(`new ${page}`) });
      }
      const untouched = chats.slice(3, -3);
      expect(seen.filter((chat) => untouched.includes(chat)).toSorted()).toEqual(untouched);
      expect(stamps).toEqual(stamps.toSorted((a, b) => Number(b - a)));
    },
  );

  it("of archived rows holds them once beside the live ones", async () => {
    for (const chat of ["a", "b", "c"]) await broker.client.reserve({ key: key(chat) });
    await broker.client.resetSession({ selector: byKey("a"), expectedGeneration: 1 });
    clock.advance(second);
    const states = [SessionState.RESERVED, SessionState.ARCHIVED];
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await broker.client.listSessions({ states, pageSize: 1, pageToken });
      seen.push(...page.sessions.map(({ sessionId }) => sessionId));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect([seen.length, new Set(seen).size]).toEqual([4, 4]);
  });
});
