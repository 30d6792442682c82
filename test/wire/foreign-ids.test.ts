/** Conversations of somebody else: what their native ids and session ids are answered with. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ImportSessionsResponse_Result as ImportResult } from "../../gen/sessionbroker/v1/admin_pb.js";
import { NativeState } from "../../gen/sessionbroker/v1/session_pb.js";
import { reasonOf } from "../support/answers.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";

const config = `
credentials:
  - name: acme
    tokenSha256: ${createHash("sha256").update("acme-secret").digest("hex")}
    role: ROLE_ADMIN
    scopes: [acme, acme/*]
scopes:
  - pattern: other
    workspaces: { handbook: /tmp/handbook }
  - pattern: acme
    workspaces: { handbook: /tmp/handbook, notes: /tmp/notes }
`;

let broker: TestBroker;
/** May do everything. */
let owner: BrokerClient;
/** Has the scope acme and those below it. */
let acme: BrokerClient;

beforeAll(async () => {
  broker = await TestBroker.start({ config });
  owner = broker.client();
  acme = broker.client("connect-h2", "acme-secret");
});

afterAll(() => broker.close());

const named = (externalId: string, scope = "acme") => ({
  case: "key" as const,
  value: { scope, externalId, provider: "echo" },
});

interface Options {
  readonly expectedNativeId?: string;
  readonly expectedGeneration?: number;
}

function bind(
  client: BrokerClient,
  selector: ReturnType<typeof named>,
  nativeId: string,
  options: Options = {},
) {
  return client.bind({ selector, nativeId, expectedGeneration: 1, expectedNativeId: "", ...options });
}

/** Somebody else's conversation with this native id, as it comes to be known in some way. */
const known: Record<string, (nativeId: string) => Promise<unknown>> = {
  "a live session": async (nativeId) => {
    const selector = named(nativeId, "other");
    await owner.reserve({ key: selector.value });
    await bind(owner, selector, nativeId);
  },
  "a live session in another workspace": async (nativeId) => {
    const selector = named(nativeId, "other");
    await owner.reserve({ key: selector.value, workspace: "handbook" });
    await bind(owner, selector, nativeId);
  },
  "an archived session": async (nativeId) => {
    await known["a live session"]?.(nativeId);
    await owner.resetSession({ selector: named(nativeId, "other"), expectedGeneration: 1 });
  },
  "a session that has another one now": async (nativeId) => {
    await known["a live session"]?.(nativeId);
    await bind(owner, named(nativeId, "other"), `${nativeId}-later`, { expectedNativeId: nativeId });
  },
};

describe.each(Object.keys(known))("a native id of somebody else's, that of %s", (how) => {
  const nativeId = how.replaceAll(" ", "-");

  beforeAll(() => known[how]?.(nativeId));

  it("cannot be bound, as if there were no such thing", async () => {
    const selector = named(`bind ${how}`);
    await acme.reserve({ key: selector.value });
    expect(await reasonOf(bind(acme, selector, nativeId))).toBe("NotFound SESSION_NOT_FOUND");
    expect((await acme.getSession({ selector })).session?.nativeId).toBe("");
  });

  it("is left out of an import, and the report does not say whose it is", async () => {
    const { value: key } = named(`import ${how}`);
    const rows = (async function* () {
      yield { session: { key, sessionId: "imported", nativeId } };
    })();
    const report = await acme.importSessions(rows);
    expect(report.rows.map(({ result, message }) => [result, message])).toEqual([
      [ImportResult.CREATED, "without its native id, which cannot be bound"],
    ]);
    const { session } = await acme.getSession({ selector: { case: "key", value: key } });
    expect([session?.nativeId, session?.nativeState]).toEqual(["", NativeState.UNBOUND]);
  });

  it("selects nothing", async () => {
    for (const selector of [
      { case: "nativeId", value: nativeId },
      { case: "alias", value: nativeId },
    ] as const) {
      expect((await acme.resolveSelection({ selector })).selection.case).toBe("none");
    }
  });
});

describe("a native id of one's own", () => {
  it("belongs to one live session of the provider", async () => {
    await acme.reserve({ key: named("one").value });
    await acme.reserve({ key: named("two").value });
    await bind(acme, named("one"), "mine");
    expect(await reasonOf(bind(acme, named("two"), "mine"))).toBe("FailedPrecondition NATIVE_ID_IN_USE");
    // Archived, it keeps its id and no longer stands in the way.
    await acme.resetSession({ selector: named("one"), expectedGeneration: 1 });
    expect((await bind(acme, named("two"), "mine")).session?.nativeId).toBe("mine");
  });

  it("may be bound again in another workspace, where the agent knows nothing of the first", async () => {
    await acme.reserve({ key: named("in handbook").value, workspace: "handbook" });
    await acme.reserve({ key: named("in notes").value, workspace: "notes" });
    await bind(acme, named("in handbook"), "placed");
    expect((await bind(acme, named("in notes"), "placed")).session?.nativeId).toBe("placed");
  });

  it("is in use by its live session also behind many archived ones", async () => {
    const selector = named("a much reset chat");
    await acme.reserve({ key: selector.value });
    for (let expectedGeneration = 1; expectedGeneration <= 20; expectedGeneration++) {
      await bind(acme, selector, "worn", { expectedGeneration });
      await acme.resetSession({ selector, expectedGeneration });
    }
    await bind(acme, selector, "worn", { expectedGeneration: 21 });
    await acme.reserve({ key: named("z rival").value });
    expect(await reasonOf(bind(acme, named("z rival"), "worn"))).toBe("FailedPrecondition NATIVE_ID_IN_USE");
  });

  it("that was bound before it was somebody else's can be bound again", async () => {
    const selector = named("first here");
    await acme.reserve({ key: selector.value });
    await bind(acme, selector, "copied");
    await owner.reserve({ key: named("copy", "other").value, workspace: "handbook" });
    await bind(owner, named("copy", "other"), "copied");
    expect((await bind(acme, selector, "copied", { expectedNativeId: "copied" })).session?.nativeId).toBe(
      "copied",
    );
  });
});

it("an id of somebody else's session is no id, and their scope is refused by name", async () => {
  const { session } = await owner.reserve({ key: named("hidden", "other").value });
  const selector = { case: "sessionId" as const, value: session?.sessionId ?? "" };
  for (const call of [
    () => acme.getSession({ selector }),
    () => acme.bind({ selector, aliases: ["x"], expectedGeneration: 1, expectedNativeId: "" }),
    () => acme.pinSession({ selector, pinned: true }),
    () => acme.resetSession({ selector, expectedGeneration: 1 }),
    () => acme.deleteSession({ selector }),
    () => acme.dispatch({ target: selector, input: [{ part: { case: "text", value: "hello" } }] }),
  ]) {
    expect(await reasonOf(call())).toBe("NotFound SESSION_NOT_FOUND");
  }
  const scope = "other";
  for (const call of [
    () => acme.getSession({ selector, scope }),
    () => acme.bind({ selector, scope, aliases: ["x"], expectedGeneration: 1, expectedNativeId: "" }),
    () => acme.reserve({ key: named("hidden", scope).value }),
    () => acme.resolveSelection({ selector, scope }),
    () => acme.resolveSelection({ selector: named("hidden", scope) }),
    () => acme.listSessions({ scope }),
    () => acme.watchSessions({ scope }),
    () => acme.prune({ scope, maxSessions: 1 }),
    () => acme.exportSessions({ scope }),
    () => acme.getTurn({ turnId: "x", scope }),
  ]) {
    expect(await reasonOf(call())).toBe("PermissionDenied FOREIGN_SCOPE");
  }
});
