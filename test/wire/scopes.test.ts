/**
 * The matrix of role, scope, method and what the request names. It is made from
 * the contract: a method, or a field that could name something of others, without
 * a rule here fails.
 */
import { createHash } from "node:crypto";
import { getOption } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Role, required_role } from "../../gen/sessionbroker/v1/options_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { roleIncludes } from "../../src/rpc/caller.js";
import { reasonOf } from "../support/answers.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

type Method = (typeof SessionBroker.methods)[number];

/**
 * What a caller is told who names what is another scope's.
 *
 * - scope: PERMISSION_DENIED, since the scope itself is named
 * - session, turn: NOT_FOUND, as if there were no such id
 * - none: an answer that nothing has this id
 * - rejected: a report in which the row is rejected
 * - value: the field names nothing, it is what the caller gives
 */
type Rule = "scope" | "session" | "turn" | "none" | "rejected" | "value";

const bySession = { key: "scope", session_id: "session", scope: "scope" } as const;
const byTurn = { turn_id: "turn", scope: "scope" } as const;
const byScope = { scope: "scope" } as const;

const rules: Readonly<Record<string, Readonly<Record<string, Rule>>>> = {
  ResolveSelection: {
    key: "scope",
    session_id: "none",
    native_id: "none",
    alias: "none",
    turn_id: "none",
    short_id: "none",
    scope: "scope",
  },
  Reserve: { key: "scope", session_id: "value", aliases: "value" },
  GetSession: bySession,
  ListSessions: byScope,
  WatchSessions: byScope,
  Bind: { ...bySession, native_id: "value", aliases: "value" },
  ResetSession: bySession,
  PinSession: bySession,
  DeleteSession: bySession,
  Prune: byScope,
  Dispatch: { key: "scope", session_id: "session", by_history: "scope", turn_id: "value" },
  Attach: byTurn,
  GetTurn: byTurn,
  ListTurns: bySession,
  CancelTurn: byTurn,
  RespondPermission: byTurn,
  AcquireLane: { key: "scope", turn_id: "value" },
  RenewLane: byTurn,
  RecordTurn: byTurn,
  ListUsage: byScope,
  ExportSessions: byScope,
  ImportSessions: { session: "rejected" },
  Backup: {},
  GetServerInfo: {},
};

/** Fields of these names could name something of others. */
const naming = new Set([
  ...["key", "scope", "session", "session_id", "turn_id", "native_id"],
  ...["alias", "aliases", "short_id", "by_history"],
]);

/** What else a request needs so that it is judged by what it names. */
const rest: Readonly<Record<string, object>> = {
  Bind: { expectedGeneration: 1, expectedNativeId: "" },
  ResetSession: { expectedGeneration: 1 },
  Prune: { maxSessions: 1_000_000 },
  Dispatch: { input: [{ part: { case: "text", value: "hello" } }] },
  RespondPermission: { permissionId: "none", inputDigest: "none" },
  AcquireLane: { turnId: "by-hand" },
  RenewLane: { fence: 1n },
  RecordTurn: { fence: 1n, ending: { case: "cancelled", value: {} } },
};

const roles = [Role.READ, Role.DISPATCH, Role.APPROVE, Role.ADMIN];
const owned = "acme/team";
/** Patterns of credentials, and whether the scope above is theirs. */
const reaches: readonly (readonly [string[], boolean])[] = [
  [["acme/team"], true],
  [["acme/*"], true],
  [["other", "*"], true],
  [["acme"], false],
  [["acme/team/*"], false],
  [["acme/tea", "acme/team2", "other/*"], false],
];
const tokenOf = (role: Role, scopes: readonly string[]) =>
  `${Role[role]} ${scopes.join(" ")}`.replaceAll(" ", "+");

let broker: TestBroker;
let admin: BrokerClient;
let made = 0;

beforeAll(async () => {
  const credentials = roles.flatMap((role) =>
    reaches.map(([scopes], index) => ({
      name: `${Role[role]}-${index}`,
      tokenSha256: createHash("sha256").update(tokenOf(role, scopes)).digest("hex"),
      role: `ROLE_${Role[role]}`,
      scopes,
    })),
  );
  broker = await TestBroker.start({ config: JSON.stringify({ credentials }) });
  admin = broker.client();
});

afterAll(() => broker.close());

interface Owned {
  readonly key: { readonly scope: string; readonly externalId: string; readonly provider: string };
  readonly sessionId: string;
  readonly alias: string;
  readonly nativeId: string;
  readonly turnId: string;
}

/** A session of the owner with every id that a session can have, and a turn that has ended. */
async function make(): Promise<Owned> {
  made += 1;
  const key = { scope: owned, externalId: `chat-${made}`, provider: "echo" };
  const alias = `alias-${made}`;
  const { turnId, ended } = dispatchTurn(admin, "hello", {
    target: { case: "key", value: key },
    reserve: { aliases: [alias] },
  });
  await ended;
  const { session } = await admin.getSession({ selector: { case: "key", value: key } });
  const { sessionId = "", nativeId = "" } = session ?? {};
  return { key, sessionId, alias, nativeId, turnId };
}

/** The request that names what is the owner's in one field, as the generated clients take it. */
function requestOf(method: Method, fieldName: string, mine: Owned): object {
  const { key, sessionId, alias, nativeId, turnId } = mine;
  const values: Readonly<Record<string, unknown>> = {
    key,
    scope: key.scope,
    session_id: sessionId,
    turn_id: turnId,
    native_id: nativeId,
    alias,
    short_id: sessionId.replaceAll("-", "").slice(0, 12),
    by_history: { scope: key.scope, provider: key.provider },
  };
  const naming = { ...rest[method.name], ...field(method, fieldName, values[fieldName]) };
  // Another scope beside it would be judged first.
  if (fieldName !== "scope" || !("turn_id" in (rules[method.name] ?? {})))
    return needed(method, fieldName, naming);
  return { ...naming, ...field(method, "turn_id", turnId) };
}

/** A selector that has to be there besides a scope. */
function needed(method: Method, fieldName: string, request: object): object {
  const asked = ["GetSession", "Bind", "ResetSession", "PinSession", "DeleteSession", "ResolveSelection"];
  if (fieldName !== "scope" || !asked.includes(method.name)) return request;
  return { ...request, ...field(method, "session_id", "some-session") };
}

function field(method: Method, name: string, value: unknown): object {
  const found = method.input.fields.find((each) => each.name === name);
  if (found === undefined) throw new Error(`${method.name} has no field ${name}`);
  return found.oneof === undefined
    ? { [found.localName]: value }
    : { [found.oneof.localName]: { case: found.localName, value } };
}

/** What the call comes to; of an answer that is none, what it says. */
async function outcomeOf(method: Method, token: string, request: object, mine: Owned): Promise<string> {
  const client = broker.client("connect-h2", token) as unknown as Record<
    string,
    (request: unknown, options?: object) => Promise<Record<string, unknown>> | AsyncIterable<unknown>
  >;
  if (method.methodKind === "client_streaming") {
    const rows = (async function* () {
      yield {
        session: { key: { ...mine.key, externalId: `${mine.key.externalId} again` }, sessionId: "imported" },
      };
    })();
    return answerOf(client[method.localName]?.(rows) as Promise<Record<string, unknown>>);
  }
  const answer = client[method.localName]?.(request);
  if (answer === undefined) throw new Error(`there is no ${method.localName}`);
  return Symbol.asyncIterator in answer ? reasonOf(firstOf(answer)) : answerOf(answer);
}

async function answerOf(call: Promise<Record<string, unknown>>): Promise<string> {
  let answer: Record<string, unknown> = {};
  const reason = await reasonOf(
    call.then((message) => {
      answer = message;
    }),
  );
  if (reason !== "none") return reason;
  const selection = answer.selection as { case?: string } | undefined;
  if (selection !== undefined) return `answer ${selection.case}`;
  return answer.rejected === undefined ? "none" : `rejected ${answer.rejected}`;
}

async function firstOf(answers: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of answers) return;
}

/** What they are told whose scopes do not have it. */
const denials: Readonly<Record<Rule, string>> = {
  scope: "PermissionDenied FOREIGN_SCOPE",
  session: "NotFound SESSION_NOT_FOUND",
  turn: "NotFound TURN_NOT_FOUND",
  none: "answer none",
  rejected: "rejected 1",
  value: "",
};

it("has a rule for each method, and for each field that could name something", () => {
  const named = Object.fromEntries(
    SessionBroker.methods.map(({ name, input }) => [
      name,
      input.fields.map((each) => each.name).filter((each) => naming.has(each)),
    ]),
  );
  const ruled = Object.fromEntries(
    Object.entries(rules).map(([name, fields]) => [name, Object.keys(fields)]),
  );
  const sorted = (table: Record<string, string[]>) =>
    Object.entries(table).map(([name, fields]) => [name, [...fields].sort()]);
  expect(sorted(named).sort()).toEqual(sorted(ruled).sort());
});

const cases = SessionBroker.methods.flatMap((method) =>
  Object.entries(rules[method.name] ?? {})
    .filter(([, rule]) => rule !== "value")
    .map(([name, rule]) => [`${method.name} by ${name}`, method, name, rule] as const),
);

describe.each(cases)("%s", (_, method, name, rule) => {
  const isEnough = (role: Role) => roleIncludes(role, getOption(method, required_role));

  it.each(reaches)("with the scopes %j, which have it: %j", { timeout: 60_000 }, async (scopes, isMine) => {
    for (const role of roles) {
      // What one role has changed is not there for the next.
      const mine = await make();
      const before = await admin.getSession({ selector: { case: "sessionId", value: mine.sessionId } });
      const outcome = await outcomeOf(method, tokenOf(role, scopes), requestOf(method, name, mine), mine);
      const told = [Role[role], outcome];
      if (!isEnough(role)) expect(told).toEqual([Role[role], "PermissionDenied ROLE_TOO_LOW"]);
      else if (!isMine) expect(told).toEqual([Role[role], denials[rule]]);
      else if (!(rule === "session" && name === "scope"))
        expect(Object.values(denials).filter((denial) => denial !== allowed(method, name))).not.toContain(
          outcome,
        );
      if (isMine && isEnough(role)) continue;
      // Nothing has happened to what is another's.
      expect(await admin.getSession({ selector: { case: "sessionId", value: mine.sessionId } })).toEqual(
        before,
      );
    }
  });
});

/** Of the outcomes of those who may: a selector beside the scope that names nothing. */
function allowed(method: Method, name: string): string | undefined {
  if (name !== "scope") return undefined;
  return method.name === "ResolveSelection" ? denials.none : denials.session;
}

describe("without a scope, a listing has nothing of others", () => {
  it.each(["listSessions", "listTurns", "listUsage", "exportSessions"] as const)("%s", async (listing) => {
    const mine = await make();
    for (const [scopes, isMine] of reaches) {
      const answer = broker.client("connect-h2", tokenOf(Role.ADMIN, scopes))[listing]({ pageSize: 1000 });
      const messages: unknown[] = [];
      if (Symbol.asyncIterator in answer) for await (const message of answer) messages.push(message);
      else messages.push(await answer);
      const text = JSON.stringify(messages, (_, value) =>
        typeof value === "bigint" ? String(value) : value,
      );
      expect([scopes, text.includes(mine.key.scope)]).toEqual([scopes, isMine]);
    }
  });

  it("prune", async () => {
    const mine = await make();
    for (const [scopes, isMine] of reaches) {
      const client = broker.client("connect-h2", tokenOf(Role.ADMIN, scopes));
      const { rows } = await client.prune({ maxSessions: 1, dryRun: true });
      expect([scopes, rows.some(({ key }) => key?.scope === mine.key.scope)]).toEqual([scopes, isMine]);
    }
  });
});
