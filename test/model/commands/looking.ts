/** GetSession, ListSessions, ResolveSelection and ExportSessions. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect } from "vitest";
import {
  type ResolveSelectionRequestSchema,
  Selected_Match,
  Selected_Source,
} from "../../../gen/sessionbroker/v1/selection_pb.js";
import { type Session, SessionState } from "../../../gen/sessionbroker/v1/session_pb.js";
import type { IdentityModel } from "../identity/model.js";
import { isRefused, type KeyShape, sameKey } from "../identity/rows.js";
import { type Filters, type Query, select } from "../identity/selection.js";
import {
  as,
  type Chosen,
  type Command,
  command,
  compare,
  expectSession,
  foreign,
  foreignPattern,
  foreignTarget,
  inScope,
  key,
  keyMessage,
  name,
  type Real,
  refusedBy,
  rowName,
  type Stage,
  type State,
  settle,
  stampMs,
  stateOf,
  target,
  targetMessage,
  targetOf,
} from "./command.js";
import { reserve } from "./reserving.js";
import { aliases, chats, explicitIds, keys, nativeIds, openclaw, unknownId } from "./setting.js";

const resolving = command(
  "Resolve",
  {
    by: fc.constantFrom("key", "session-id", "session-id", "short-id", "native-id", "alias", "turn-id"),
    scope: fc.constantFrom(undefined, undefined, undefined, chats, openclaw),
    provider: fc.constantFrom(undefined, undefined, undefined, "echo", "codex"),
    agent: fc.constantFrom(undefined, undefined, undefined, "main", "retired"),
  },
  resolve,
);

export const looking: fc.Arbitrary<Command>[] = [
  resolving,
  resolving,
  command("Get", { target, scope: fc.constantFrom(undefined, undefined, chats, openclaw) }, getSession),
  command(
    "List",
    {
      scope: fc.constantFrom("", chats, openclaw, "acme/*"),
      provider: fc.constantFrom("", "", "echo", "slow", "codex"),
      states: fc.constantFrom<State[]>([], ["ACTIVE"], ["ARCHIVED"], ["RESERVED", "ACTIVE", "ARCHIVED"]),
      agent: fc.constantFrom("", "", "main"),
      pageSize: fc.constantFrom(1, 2, 3),
      touched: fc.array(key, { maxLength: 2 }),
    },
    list,
  ),
  command("Export", {}, (_, m, r) => compareExport(m, r)),
];

/** An export holds what the caller sees. */
export async function compareExport(m: IdentityModel, { client, sees }: Real): Promise<void> {
  const exported: Session[] = [];
  for await (const { session } of client.exportSessions({ includeArchived: true })) {
    if (session !== undefined) exported.push(session);
  }
  compare(
    m,
    m.rows.filter(({ key }) => sees(key.scope)),
    exported,
  );
}

/** Asks for everything that may have an id of some kind. */
async function resolve(
  c: {
    readonly by: Query["kind"];
    readonly scope: string | undefined;
    readonly provider: string | undefined;
    readonly agent: string | undefined;
  },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  await settle(m, r);
  const filters: Filters = {
    ...(c.scope === undefined ? {} : { scope: c.scope }),
    ...(c.agent === undefined ? {} : { agent: c.agent }),
    ...(c.provider === undefined ? {} : { provider: c.provider }),
  };
  await Promise.all(queriesOf(m, c.by).map((query) => resolveOne(m, r, query, filters)));
}

async function resolveOne(m: IdentityModel, r: Real, query: Query, filters: Filters): Promise<void> {
  const call = r.client.resolveSelection({ selector: selectorOf(query), ...filters });
  const refusal = foreign(r, filters.scope) ?? foreign(r, query.kind === "key" ? query.key.scope : undefined);
  if (refusal !== undefined) return refusedBy(refusal, call);
  const { selection } = await call;
  const wanted = select(m, query, filters, r.sees);
  expect(selection.case).toBe(wanted.kind);
  if (wanted.kind === "selected" && selection.case === "selected") {
    const { storeKey, requestKey, agent, generation, match, source, session } = selection.value;
    const { key } = wanted.row;
    expect([storeKey, requestKey, agent, generation, Selected_Match[match], Selected_Source[source]]).toEqual(
      [key.storeKey, key.requestKey, key.agent, wanted.row.generation, wanted.match, wanted.source],
    );
    if (session === undefined) throw new Error("the answer names no session");
    expectSession(m, session, wanted.row);
  }
  if (wanted.kind === "ambiguous" && selection.case === "ambiguous") {
    const { candidates, total } = selection.value;
    expect(total).toBe(wanted.rows.length);
    expect(candidates.map(({ session }) => session && name(session))).toEqual(
      wanted.rows.map((row) => rowName(row)),
    );
  }
}

async function getSession(
  c: { readonly target: Chosen; readonly scope: string | undefined },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const where = targetOf(m, c.target);
  const scope = where.kind === "key" ? undefined : c.scope;
  const call = r.client.getSession({ selector: targetMessage(where), scope: scope ?? "" });
  const row = foreignTarget(r, where) ?? foreign(r, scope) ?? m.find(where, r.sees, scope);
  if (isRefused(row)) return refusedBy(row, call);
  const { session } = await call;
  if (session === undefined) throw new Error("the answer names no session");
  expectSession(m, session, row);
}

/** Pages through a listing while rows are touched; the untouched ones appear once each. */
async function list(
  c: {
    readonly scope: string;
    readonly provider: string;
    readonly states: readonly State[];
    readonly agent: string;
    readonly pageSize: number;
    readonly touched: readonly KeyShape[];
  },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  await settle(m, r);
  const foreign = foreignPattern(r, c.scope);
  if (foreign !== undefined) return refusedBy(foreign, r.client.listSessions({ scope: c.scope }));
  const states = new Set<State>(c.states.length > 0 ? c.states : ["RESERVED", "ACTIVE"]);
  const before = new Set(
    m.rows
      .filter((row) => inScope(c.scope, r, row) && states.has(stateOf(row)))
      .filter((row) => c.agent === "" || row.key.agent === c.agent)
      .filter((row) => c.provider === "" || row.key.provider === c.provider)
      .map((row) => rowName(row)),
  );
  const touched = new Set<string>();
  const seen: string[] = [];
  let pageToken = "";
  for (let page = 0; page === 0 || pageToken !== ""; page++) {
    const { sessions, nextPageToken } = await r.client.listSessions({
      scope: c.scope,
      provider: c.provider,
      states: c.states.map((state) => SessionState[state]),
      agent: c.agent,
      pageSize: c.pageSize,
      pageToken,
    });
    expect(sessions.length).toBeLessThanOrEqual(c.pageSize);
    const ages = sessions.map((session) => stampMs(session.lastActivityAt));
    expect(ages).toEqual([...ages].sort((a, b) => b - a));
    seen.push(...sessions.map(name));
    pageToken = nextPageToken;
    const key = c.touched[page];
    if (key === undefined) continue;
    for (const row of await touch(m, r, key, page)) touched.add(row);
    expect(page).toBeLessThan(1000);
  }
  const untouched = (names: Iterable<string>) => [...names].filter((each) => !touched.has(each)).sort();
  expect(untouched(seen)).toEqual(untouched(before));
}

/** Uses a key between two pages; answers the sessions whose place that may have changed. */
async function touch(m: IdentityModel, stage: Stage, key: KeyShape, page: number): Promise<Set<string>> {
  const known = () => m.rows.filter((row) => sameKey(row.key, key)).map((row) => rowName(row));
  stage.clock.advance(1);
  const before = known();
  await reserve(m, as(stage, "admin-token"), key, { labels: { page: String(page) } });
  await settle(m, stage);
  return new Set([...before, ...known()]);
}

function queriesOf(m: IdentityModel, kind: Query["kind"]): readonly Query[] {
  if (kind === "key") return keys.map((key) => ({ kind, key }));
  return [...new Set(idsOf(m, kind))].map((id) => ({ kind, id }));
}

function idsOf(m: IdentityModel, kind: Exclude<Query["kind"], "key">): readonly string[] {
  const sessionIds = [...explicitIds, ...m.sessionIds, unknownId];
  switch (kind) {
    case "session-id":
      return sessionIds;
    case "short-id": {
      const hex = sessionIds.map((id) => id.replaceAll("-", "")).filter((id) => /^[0-9a-f]{8,}$/.test(id));
      return hex.map((id, index) => id.slice(0, 8 + (index % 25)));
    }
    case "native-id":
      return [...nativeIds, ...m.nativeIds];
    case "alias":
      return [...aliases, ...nativeIds, ...m.nativeIds];
    case "turn-id":
      return [...m.turns.keys(), ...m.handOffs.keys(), ...explicitIds, unknownId];
  }
}

function selectorOf(
  query: Query,
): NonNullable<MessageInitShape<typeof ResolveSelectionRequestSchema>["selector"]> {
  switch (query.kind) {
    case "key":
      return { case: "key", value: keyMessage(query.key) };
    case "session-id":
      return { case: "sessionId", value: query.id };
    case "short-id":
      return { case: "shortId", value: query.id };
    case "native-id":
      return { case: "nativeId", value: query.id };
    case "alias":
      return { case: "alias", value: query.id };
    case "turn-id":
      return { case: "turnId", value: query.id };
  }
}
