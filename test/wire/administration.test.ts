import { createHash } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { ImportSessionsResponse_Result as ImportResult } from "../../gen/sessionbroker/v1/admin_pb.js";
import {
  AliasKind,
  WatchSessionsResponse_Change as Change,
  Outcome,
  RotationReason,
  type Session,
  SessionState,
} from "../../gen/sessionbroker/v1/session_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";

const config = `
credentials:
  - name: acme
    tokenSha256: ${createHash("sha256").update("acme-secret").digest("hex")}
    role: ROLE_ADMIN
    scopes: [acme, acme/*]
`;

let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  broker = await TestBroker.start({ config });
  client = broker.client();
});

afterAll(() => broker.close());

const key = (externalId: string, scope = "acme") => ({ scope, externalId, provider: "echo" });
const named = (externalId: string, scope?: string) => ({
  case: "key" as const,
  value: key(externalId, scope),
});

async function reasonOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "none";
  } catch (error) {
    const { code } = ConnectError.from(error);
    return `${Code[code]} ${ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason}`;
  }
}

async function idsOf(answer: AsyncIterable<{ session?: Session | undefined }>): Promise<string[]> {
  const ids: string[] = [];
  for await (const { session } of answer) ids.push(session?.sessionId ?? "");
  return ids;
}

describe("ResetSession", () => {
  it("gives the key a new session, tells it until its first turn, and keeps the old one by its id", async () => {
    const first = await client.reserve({ key: key("reset"), aliases: ["known as"] });
    const reset = await client.resetSession({ selector: named("reset"), expectedGeneration: 1 });
    expect(reset).toMatchObject({
      previousSessionId: first.session?.sessionId,
      session: { generation: 2, previousSessionId: first.session?.sessionId },
    });
    for (const _ of [1, 2]) {
      expect(await client.reserve({ key: key("reset") })).toMatchObject({
        outcome: Outcome.ROTATED,
        rotationReason: RotationReason.EXPLICIT_RESET,
      });
    }
    const input = [{ part: { case: "text" as const, value: "hello" } }];
    for await (const { event } of client.dispatch({ target: named("reset"), input })) {
      if (event?.event.case === "accepted") expect(event.event.value.outcome).toBe(Outcome.ROTATED);
    }
    expect((await client.reserve({ key: key("reset") })).outcome).toBe(Outcome.EXISTING);
    const old = await client.getSession({
      selector: { case: "sessionId", value: first.session?.sessionId ?? "" },
    });
    expect(old.session?.state).toBe(SessionState.ARCHIVED);
    const { selection } = await client.resolveSelection({ selector: { case: "alias", value: "known as" } });
    expect(selection.value).toMatchObject({ session: { sessionId: reset.session?.sessionId } });
    const archived = client.dispatch({
      target: { case: "sessionId", value: first.session?.sessionId ?? "" },
      input,
    });
    expect(await reasonOf(idsOf(archived as never))).toBe("FailedPrecondition ARCHIVED");
  });

  it("happens once for an idempotency key, and is told when it is out of date", async () => {
    await client.reserve({ key: key("reset once") });
    const request = { selector: named("reset once"), idempotencyKey: "reset-1" };
    const once = await client.resetSession(request);
    expect(await client.resetSession(request)).toEqual(once);
    await client.resetSession({ selector: named("reset once"), expectedGeneration: 2 });
    expect(await reasonOf(client.resetSession(request))).toBe("Aborted REPLAY_OUTDATED");
    expect(
      await reasonOf(client.resetSession({ selector: named("reset once"), expectedGeneration: 2 })),
    ).toBe("FailedPrecondition STALE_GENERATION");
    expect(await reasonOf(client.resetSession({ selector: named("reset once") }))).toBe(
      "InvalidArgument INVALID_FIELD",
    );
  });
});

describe("an archived session", () => {
  it("is revived by its explicit id", async () => {
    const first = await client.reserve({ key: key("revived") });
    await client.resetSession({ selector: named("revived"), expectedGeneration: 1 });
    const sessionId = first.session?.sessionId ?? "";
    const revived = await client.reserve({ key: key("revived"), sessionId, expectedGeneration: 2 });
    expect(revived).toMatchObject({ outcome: Outcome.EXPLICIT, session: { sessionId, generation: 3 } });
    const found = await client.resolveSelection({ selector: { case: "sessionId", value: sessionId } });
    expect(found.selection.value).toMatchObject({ session: { state: SessionState.RESERVED, generation: 3 } });
  });
});

describe("Bind", () => {
  const bind = (chat: string, nativeId: string, expectedNativeId: string, expectedGeneration = 1) =>
    client.bind({ selector: named(chat), nativeId, expectedNativeId, expectedGeneration });

  it("is a compare-and-set, and keeps former ids as aliases", async () => {
    await client.reserve({ key: key("bound") });
    expect((await bind("bound", "n-1", "")).session?.nativeId).toBe("n-1");
    expect(await reasonOf(bind("bound", "n-2", ""))).toBe("FailedPrecondition NATIVE_ID_MISMATCH");
    expect(await reasonOf(bind("bound", "n-2", "n-1", 7))).toBe("FailedPrecondition STALE_GENERATION");
    expect(await reasonOf(client.bind({ selector: named("bound"), nativeId: "n-2" }))).toBe(
      "FailedPrecondition STALE_GENERATION",
    );
    expect(await reasonOf(client.bind({ selector: named("bound"), nativeId: "n-2", fence: 1n }))).toBe(
      "FailedPrecondition STALE_FENCE",
    );
    const again = await bind("bound", "n-2", "n-1");
    expect(again.session?.aliases).toMatchObject([{ id: "n-1", kind: AliasKind.NATIVE }]);
    for (const selector of [
      { case: "nativeId", value: "n-2" },
      { case: "alias", value: "n-1" },
    ] as const) {
      const { selection } = await client.resolveSelection({ selector });
      expect(selection.value).toMatchObject({ storeKey: "bound" });
    }
  });

  it("refuses an id that another live session has, and does not tell whose it is to strangers", async () => {
    await client.reserve({ key: key("owner", "other") });
    await client.bind({
      selector: named("owner", "other"),
      nativeId: "n-9",
      expectedNativeId: "",
      expectedGeneration: 1,
    });
    await client.reserve({ key: key("rival") });
    expect(await reasonOf(bind("rival", "n-9", ""))).toBe("FailedPrecondition NATIVE_ID_IN_USE");
    const stranger = broker.client("connect-h2", "acme-secret");
    const asked = stranger.bind({
      selector: named("rival"),
      nativeId: "n-9",
      expectedNativeId: "",
      expectedGeneration: 1,
    });
    expect(await reasonOf(asked)).toBe("NotFound SESSION_NOT_FOUND");
  });
});

describe("a credential with scopes", () => {
  it("finds nothing of others, and may not name their scopes", async () => {
    const stranger = broker.client("connect-h2", "acme-secret");
    const mine = await client.reserve({ key: key("secret", "other") });
    const sessionId = mine.session?.sessionId ?? "";
    for (const selector of [
      { case: "sessionId", value: sessionId },
      { case: "shortId", value: sessionId.slice(0, 8) },
      { case: "turnId", value: sessionId },
    ] as const) {
      expect((await stranger.resolveSelection({ selector })).selection.case).toBe("none");
    }
    expect(await reasonOf(stranger.getSession({ selector: { case: "sessionId", value: sessionId } }))).toBe(
      "NotFound SESSION_NOT_FOUND",
    );
    expect(await reasonOf(stranger.getSession({ selector: named("secret", "other") }))).toBe(
      "PermissionDenied FOREIGN_SCOPE",
    );
    expect(await reasonOf(stranger.listSessions({ scope: "other" }))).toBe("PermissionDenied FOREIGN_SCOPE");
    const { sessions } = await stranger.listSessions({});
    expect(new Set(sessions.map((session) => session.key?.scope))).toEqual(new Set(["acme"]));
    expect(await idsOf(stranger.exportSessions({}))).not.toContain(sessionId);
    expect((await stranger.getServerInfo({})).baseScope).toBe("acme");
    expect(
      (await stranger.prune({ maxSessions: 1, dryRun: true })).rows.map((row) => row.key?.scope),
    ).not.toContain("other");
  });
});

describe("ListSessions", () => {
  it("gives each untouched row once, with tokens that nobody else can use", async () => {
    const scope = "listed";
    for (let i = 0; i < 30; i++)
      await client.reserve({ key: key(`row-${i}`, scope), labels: { parity: String(i % 2) } });
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await client.listSessions({ scope, pageSize: 7, pageToken });
      seen.push(...page.sessions.map((session) => session.key?.externalId ?? ""));
      pageToken = page.nextPageToken;
      if (seen.length === 7) {
        expect(await reasonOf(client.listSessions({ scope: "acme", pageSize: 7, pageToken }))).toBe(
          "InvalidArgument INVALID_FIELD",
        );
        expect(await reasonOf(client.listSessions({ scope, pageSize: 7, pageToken: `${pageToken}x` }))).toBe(
          "InvalidArgument INVALID_FIELD",
        );
        // A turn moves a row that was not listed yet to the front: only untouched rows are promised.
        await client.reserve({ key: key("row-new", scope) });
      }
    } while (pageToken !== "");
    expect(seen.toSorted()).toEqual(Array.from({ length: 30 }, (_, i) => `row-${i}`).toSorted());
    expect((await client.listSessions({ scope, labels: { parity: "1" } })).sessions).toHaveLength(15);
    expect((await client.listSessions({ scope, states: [SessionState.ARCHIVED] })).sessions).toHaveLength(0);
  });
});

describe("PinSession and Prune", () => {
  it("a pinned session is passed over, with the reason", async () => {
    const scope = "pinned";
    for (const chat of ["a", "b", "c"]) await client.reserve({ key: key(chat, scope) });
    expect((await client.pinSession({ selector: named("a", scope), pinned: true })).session?.pinned).toBe(
      true,
    );
    const dry = await client.prune({ scope, maxSessions: 1, dryRun: true });
    expect([dry.archived, dry.skipped.map((row) => row.key?.externalId)]).toEqual([1, ["a"]]);
    expect((await client.listSessions({ scope })).sessions).toHaveLength(3);
    expect(await client.prune({ scope, maxSessions: 1 })).toMatchObject({ archived: 1, skippedTotal: 1 });
    expect(
      (await client.listSessions({ scope })).sessions.map((session) => session.key?.externalId).toSorted(),
    ).toEqual(["a", "c"]);
    expect(await client.prune({ scope, olderThan: { nanos: 1 }, limit: 1 })).toMatchObject({ archived: 1 });
    expect(await client.prune({ scope, olderThan: { nanos: 1 }, purge: true })).toMatchObject({ purged: 2 });
    expect(await client.reserve({ key: key("b", scope) })).toMatchObject({
      outcome: Outcome.CREATED,
      rotationReason: RotationReason.PURGED,
    });
  });
});

describe("WatchSessions", () => {
  it("tells every change from now on, and again from a revision", async () => {
    const scope = "watched";
    const changes: string[] = [];
    const revisions: string[] = [];
    let start = () => {};
    const started = new Promise<void>((resolve) => {
      start = resolve;
    });
    const watching = (async () => {
      for await (const { change, session, revision } of client.watchSessions({ scope })) {
        revisions.push(revision);
        if (change === Change.HEARTBEAT) {
          if (revisions.length === 1) start();
          continue;
        }
        changes.push(`${Change[change]} ${session?.key?.externalId}`);
        if (change === Change.DELETED) return;
      }
    })();
    await started;
    await client.reserve({ key: key("w", scope) });
    await client.reserve({ key: key("w", scope) });
    await client.reserve({ key: key("elsewhere", "not-watched") });
    await client.reserve({ key: key("w", scope), labels: { a: "b" } });
    const { session } = await client.resetSession({ selector: named("w", scope), expectedGeneration: 1 });
    await client.prune({ scope, olderThan: { nanos: 1 } });
    // Pruned: the key no longer names it.
    expect(await reasonOf(client.deleteSession({ selector: named("w", scope) }))).toBe(
      "NotFound SESSION_NOT_FOUND",
    );
    await client.deleteSession({ selector: { case: "sessionId", value: session?.sessionId ?? "" } });
    await watching;
    expect(changes).toEqual(["CREATED w", "UPDATED w", "ROTATED w", "ARCHIVED w", "DELETED w"]);

    const again: string[] = [];
    for await (const { change, session } of client.watchSessions({
      scope,
      afterRevision: revisions[1] ?? "",
    })) {
      if (change !== Change.HEARTBEAT) again.push(`${Change[change]} ${session?.key?.externalId}`);
      if (change === Change.DELETED) break;
    }
    expect(again).toEqual(changes.slice(1));
    expect(await reasonOf(idsOf(client.watchSessions({ afterRevision: "forged" })))).toBe(
      "InvalidArgument INVALID_FIELD",
    );
  });
});

describe("ImportSessions", () => {
  const row = (externalId: string, sessionId: string, at: number) => ({
    session: {
      key: { scope: "acme/openclaw", externalId, provider: "echo" },
      sessionId,
      lastActivityAt: { seconds: BigInt(at) },
    },
  });

  async function* stream<T>(rows: readonly T[]): AsyncGenerator<T> {
    yield* rows;
  }

  it("takes each row by its own, and the same again changes nothing", async () => {
    const rows = [
      row("agent:main:b:sid", "sid", 10),
      row("agent:main:a:sid", "sid", 10),
      row("agent:main:extra", "sid", 500),
      row("agent:main:", "broken", 1),
      { session: { key: { scope: "Not a scope", externalId: "x", provider: "echo" }, sessionId: "x" } },
      {},
    ];
    const first = await client.importSessions(stream(rows));
    expect(first).toMatchObject({ created: 3, kept: 0, conflicting: 0, rejected: 3 });
    expect(first.rows.map(({ row, result }) => [row, result])).toEqual([
      [4, ImportResult.REJECTED],
      [5, ImportResult.REJECTED],
      [6, ImportResult.REJECTED],
    ]);
    expect(await client.importSessions(stream(rows))).toMatchObject({ created: 0, kept: 3, rejected: 3 });
    const { selection } = await client.resolveSelection({ selector: { case: "sessionId", value: "sid" } });
    expect(selection.case).toBe("ambiguous");
    if (selection.case !== "ambiguous") return;
    expect(selection.value.total).toBe(2);
    expect(selection.value.candidates.map(({ storeKey }) => storeKey)).toEqual([
      "agent:main:a:sid",
      "agent:main:b:sid",
    ]);
  });

  it("lists a key that has another session, and leaves it alone", async () => {
    const mine = await client.reserve({
      key: { scope: "acme/openclaw", externalId: "taken", provider: "echo" },
    });
    const report = await client.importSessions(stream([row("taken", "theirs", 10)]));
    expect(report).toMatchObject({ conflicting: 1, rows: [{ result: ImportResult.CONFLICTING }] });
    const now = await client.getSession({
      selector: { case: "sessionId", value: mine.session?.sessionId ?? "" },
    });
    expect(now.session?.key?.externalId).toBe("agent:main:taken");
  });
});
