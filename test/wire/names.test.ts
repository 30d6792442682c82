/** What names a session: aliases, session ids, turn ids, scopes and their patterns. */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ImportSessionsResponse_Result as ImportResult } from "../../gen/sessionbroker/v1/admin_pb.js";
import { AliasKind, Outcome, type Session } from "../../gen/sessionbroker/v1/session_pb.js";
import { loadSettings } from "../../src/config/config.js";
import { reasonOf } from "../support/answers.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

let clock: ManualClock;
let broker: InProcessBroker;

beforeAll(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, "providers: [{ id: echo, echo: {} }, { id: other, echo: {} }]");
});

afterAll(() => broker.close());

const key = (externalId: string, scope = "acme", provider = "echo") => ({ scope, externalId, provider });
const byKey = (...parts: Parameters<typeof key>) => ({ case: "key" as const, value: key(...parts) });

async function say(target: ReturnType<typeof byKey>, more: { turnId?: string; responseId?: string } = {}) {
  const input = [{ part: { case: "text" as const, value: "hello" } }];
  for await (const _ of broker.client.dispatch({ target, input, ...more }));
}

async function importRows(...sessions: object[]) {
  const rows = (async function* () {
    for (const session of sessions) yield { session: session as Session };
  })();
  return broker.client.importSessions(rows);
}

async function selected(
  selector: Parameters<typeof broker.client.resolveSelection>[0]["selector"],
  scope = "",
): Promise<string | undefined> {
  const { selection } = await broker.client.resolveSelection({ selector, scope } as never);
  return selection.case === "selected" ? selection.value.session?.sessionId : selection.case;
}

describe("a caller's alias", () => {
  const taken = "AlreadyExists ALIAS_TAKEN";

  it("names one session of its scope and provider, in Reserve, Bind and Import", async () => {
    await broker.client.reserve({ key: key("owner"), aliases: ["taken"] });
    await broker.client.reserve({ key: key("rival") });
    const aliases = ["free", "taken"];
    expect(await reasonOf(broker.client.reserve({ key: key("new"), aliases }))).toBe(taken);
    expect(await reasonOf(broker.client.reserve({ key: key("rival"), aliases }))).toBe(taken);
    const rebind = { key: key("rival"), sessionId: "rival-2", expectedGeneration: 1, aliases };
    expect(await reasonOf(broker.client.reserve(rebind))).toBe(taken);
    const bind = { selector: byKey("rival"), aliases, expectedGeneration: 1, expectedNativeId: "" };
    expect(await reasonOf(broker.client.bind(bind))).toBe(taken);
    const row = (externalId: string, alias: string) => ({
      key: key(externalId),
      sessionId: `imported ${externalId}`,
      aliases: [{ id: alias }],
    });
    const report = await importRows(row("x", "taken"), row("y", "in the file"), row("z", "in the file"));
    expect(report.created).toBe(1);
    expect(report.rows.map(({ row: number, result }) => [number, result])).toEqual([
      [1, ImportResult.CONFLICTING],
      [3, ImportResult.CONFLICTING],
    ]);
    // Nothing of what was refused was done.
    expect(await selected({ case: "alias", value: "free" })).toBe("none");
    expect(await reasonOf(broker.client.getSession({ selector: byKey("new") }))).toBe(
      "NotFound SESSION_NOT_FOUND",
    );
    for (const [scope, provider] of [
      ["beta", "echo"],
      ["acme", "other"],
    ]) {
      const elsewhere = await broker.client.reserve({ key: key("new", scope, provider), aliases });
      expect(elsewhere.outcome).toBe(Outcome.CREATED);
    }
  });

  it("is another thing than a response id or a former native id, which the broker alone gives", async () => {
    await say(byKey("spoken"), { responseId: "resp_1" });
    const { session } = await broker.client.getSession({ selector: byKey("spoken") });
    const nativeId = session?.nativeId ?? "";
    await broker.client.bind({
      selector: byKey("spoken"),
      nativeId: "n-2",
      expectedGeneration: 1,
      expectedNativeId: nativeId,
    });
    const rival = await broker.client.reserve({ key: key("named alike"), aliases: ["resp_1", nativeId] });
    expect(rival.session?.aliases.map(({ kind }) => kind)).toEqual([AliasKind.PLATFORM, AliasKind.PLATFORM]);
    const report = await importRows({
      key: key("imported with kinds"),
      sessionId: "kinds",
      aliases: [
        { id: "resp_2", kind: AliasKind.RESPONSE },
        { id: "n-3", kind: AliasKind.NATIVE },
        { id: "mine", kind: AliasKind.PLATFORM },
      ],
    });
    expect(report.created).toBe(1);
    const { session: imported } = await broker.client.getSession({ selector: byKey("imported with kinds") });
    expect(imported?.aliases).toMatchObject([{ id: "mine", kind: AliasKind.PLATFORM }]);
  });

  it("of the broker's for an answer is kept for the session's newest 16", async () => {
    await broker.client.reserve({ key: key("long"), aliases: ["the long chat"] });
    const ids = Array.from({ length: 20 }, (_, i) => `resp_long_${i}`);
    for (const responseId of ids) await say(byKey("long"), { responseId });
    const { session } = await broker.client.getSession({ selector: byKey("long") });
    expect(session?.aliases.map(({ id }) => id)).toEqual(["the long chat", ...ids.slice(4)]);
    expect(await selected({ case: "alias", value: "resp_long_19" })).toBe(session?.sessionId);
    expect(await selected({ case: "alias", value: "resp_long_3" })).toBe("none");
  });

  it("goes with the key when it rotates, and what the broker gave stays", async () => {
    await broker.client.reserve({ key: key("rotating"), aliases: ["the chat"] });
    await say(byKey("rotating"), { responseId: "resp_old" });
    const { session: old } = await broker.client.getSession({ selector: byKey("rotating") });
    const { session } = await broker.client.resetSession({
      selector: byKey("rotating"),
      expectedGeneration: 1,
    });
    expect(await selected({ case: "alias", value: "the chat" })).toBe(session?.sessionId);
    expect(await selected({ case: "alias", value: "resp_old" })).toBe(old?.sessionId);
    expect(await selected({ case: "nativeId", value: old?.nativeId ?? "" })).toBe(old?.sessionId);
    expect(await selected({ case: "sessionId", value: old?.sessionId ?? "" })).toBe(old?.sessionId);
    expect(await selected(byKey("rotating"))).toBe(session?.sessionId);
  });
});

describe("a session id", () => {
  it("is a random UUID, unless the caller gave one, which is kept as it is", async () => {
    const minted = await broker.client.reserve({ key: key("minted") });
    expect(minted.session?.sessionId).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    for (const [index, sessionId] of ["x", "  Any Text: 日本 😀 ", "😀".repeat(128)].entries()) {
      const given = await broker.client.reserve({ key: key(`given ${index}`), sessionId });
      expect(given.session?.sessionId).toBe(sessionId);
      expect(await selected({ case: "sessionId", value: sessionId })).toBe(sessionId);
    }
    const sessionId = "😀".repeat(129);
    expect(await reasonOf(broker.client.reserve({ key: key("too long"), sessionId }))).toBe(
      "InvalidArgument INVALID_FIELD",
    );
  });

  it("that was given may name several keys, and then names none of them alone", async () => {
    for (const chat of ["a", "b"]) await broker.client.reserve({ key: key(chat), sessionId: "several" });
    const selector = { case: "sessionId" as const, value: "several" };
    expect(await reasonOf(broker.client.getSession({ selector }))).toBe("FailedPrecondition AMBIGUOUS_ID");
    expect(await reasonOf(broker.client.pinSession({ selector, pinned: true }))).toBe(
      "FailedPrecondition AMBIGUOUS_ID",
    );
  });

  it("of an archived session is found for its own key also among many keys with that id", async () => {
    const chats = Array.from({ length: 80 }, (_, i) => `many ${String(i).padStart(2, "0")}`);
    for (const chat of chats) await broker.client.reserve({ key: key(chat), sessionId: "many" });
    await say(byKey("many 79"));
    await broker.client.resetSession({ selector: byKey("many 79"), expectedGeneration: 1 });
    const revived = await broker.client.reserve({
      key: key("many 79"),
      sessionId: "many",
      expectedGeneration: 2,
    });
    expect(revived.session).toMatchObject({ turnCount: 1, generation: 3 });
  });
});

describe("a turn id", () => {
  it.each(["a b", "a/b", "ä", "a".repeat(129)])("is not %j", async (turnId) => {
    expect(await reasonOf(say(byKey("bad ids"), { turnId }))).toBe("InvalidArgument INVALID_FIELD");
  });

  it("belongs to its scope, and a scope tells two apart", async () => {
    const turnId = `${"A.z_0:-".repeat(18)}ab`;
    expect(turnId).toHaveLength(128);
    await say(byKey("turns", "acme"), { turnId });
    await say(byKey("turns", "beta"), { turnId });
    for (const scope of ["acme", "beta"]) {
      const { session } = await broker.client.getSession({ selector: byKey("turns", scope) });
      expect((await broker.client.getTurn({ turnId, scope })).turn?.sessionId).toBe(session?.sessionId);
      expect(await selected({ case: "turnId", value: turnId }, scope)).toBe(session?.sessionId);
      expect((await broker.client.cancelTurn({ turnId, scope })).turn?.sessionId).toBe(session?.sessionId);
      for await (const { event } of broker.client.attach({ turnId, scope })) {
        if (event?.event.case !== "accepted") continue;
        expect(event.event.value.session?.sessionId).toBe(session?.sessionId);
      }
    }
    expect(await reasonOf(broker.client.getTurn({ turnId, scope: "gamma" }))).toBe("NotFound TURN_NOT_FOUND");
  });

  it("goes before a session id, which is looked up if there is no such turn", async () => {
    await broker.client.reserve({ key: key("by session id"), sessionId: "run-7" });
    expect(await selected({ case: "turnId", value: "run-7" })).toBe("run-7");
    await broker.client.reserve({ key: key("by turn id"), sessionId: "another" });
    await say(byKey("by turn id"), { turnId: "run-7" });
    expect(await selected({ case: "turnId", value: "run-7" })).toBe("another");
  });
});

describe("a scope", () => {
  const reserved = (scope: string) => reasonOf(broker.client.reserve({ key: key("scoped", scope) }));

  it.each(["a", "0", "a.b_c-d", "a/b/c", "acme/telegram.eu", "s".repeat(128)])("can be %s", async (scope) => {
    expect(await reserved(scope)).toBe("none");
  });

  it.each([
    "/a",
    "a/",
    "a//b",
    "A",
    "a b",
    "-a",
    ".a",
    "_a",
    "a/.b",
    "a/-b",
    "*",
    "a/*",
    "a*",
    "ä",
    "s".repeat(129),
  ])("cannot be %s", async (scope) => {
    expect(await reserved(scope)).toBe("InvalidArgument INVALID_FIELD");
  });
});

describe("a pattern of scopes in the configuration", () => {
  const settings = (pattern: string) => {
    const file = `${broker.folder}/pattern.yaml`;
    const credential = {
      name: "c",
      tokenSha256: createHash("sha256").update("t").digest("hex"),
      role: "ROLE_READ",
      scopes: [pattern],
    };
    writeFileSync(file, JSON.stringify({ credentials: [credential], scopes: [{ pattern }] }));
    return () => loadSettings({ config: file, data: broker.data });
  };

  it.each(["*", "a", "a/b", "a/*", "a/b/*"])("can be %s", (pattern) => {
    expect(settings(pattern)).not.toThrow();
  });

  it.each(["**", "a*", "*/a", "a/*/b", "a/b*", "/*", "*a", "A/*", `${"s".repeat(130)}/*`])(
    "cannot be %s",
    (pattern) => {
      expect(settings(pattern)).toThrow("scopes");
    },
  );
});
