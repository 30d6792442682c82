/** `session-broker sessions`: looking at sessions of a running broker, and changing them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  AliasKind,
  DeleteSessionResponseSchema,
  type ListSessionsRequestSchema,
  NativeState,
  ResetSessionResponseSchema,
  type Session,
  SessionSchema,
  SessionState,
} from "../../gen/sessionbroker/v1/session_pb.js";
import { askBroker, type BrokerAccess, pagesOf } from "./broker-client.js";
import { CommandError } from "./command-error.js";
import { jsonLine, writeLines } from "./output.js";
import { type SessionName, selectorOf } from "./selector.js";
import { cell, enumText, factLines, tableLines, timeText } from "./table.js";

export interface ListOptions<Filter> {
  readonly access: BrokerAccess;
  readonly filter: Filter;
  /** 0: all. */
  readonly limit: number;
  readonly json: boolean;
}

export interface SessionOptions {
  readonly access: BrokerAccess;
  readonly name: SessionName;
  readonly json: boolean;
}

export interface ChangeOptions extends SessionOptions {
  /** Default: whichever the session has when it is looked at. */
  readonly expectedGeneration: number | undefined;
  /** Cancel its turns first. */
  readonly force: boolean;
}

export async function listSessions({
  access,
  filter,
  limit,
  json,
}: ListOptions<MessageInitShape<typeof ListSessionsRequestSchema>>): Promise<void> {
  const { rows, more } = await pagesOf(limit, (pageSize, pageToken) =>
    askBroker(access, async (client) => {
      const page = await client.listSessions({ ...filter, pageSize, pageToken });
      return { rows: page.sessions, nextPageToken: page.nextPageToken };
    }),
  );
  if (json) await writeLines(rows.map((session) => jsonLine(SessionSchema, session)));
  else await writeLines(sessionTable(rows));
  if (more) process.stderr.write(`the first ${limit} only; --limit 0 shows all\n`);
}

export async function showSession({ access, name, json }: SessionOptions): Promise<void> {
  const session = await findSession(access, name);
  await writeLines(json ? [jsonLine(SessionSchema, session)] : sessionFacts(session));
}

export async function resetSession(options: ChangeOptions): Promise<void> {
  const { access, name, force, json } = options;
  const expectedGeneration = options.expectedGeneration ?? (await findSession(access, name)).generation;
  const answer = await askBroker(access, (client) =>
    client.resetSession({ ...selectorOf(name), expectedGeneration, force }),
  );
  await writeLines(
    json
      ? [jsonLine(ResetSessionResponseSchema, answer)]
      : [
          `reset: the key has the new session ${answer.session?.sessionId}, generation ${answer.session?.generation}; ${answer.previousSessionId} is archived`,
        ],
  );
}

export async function deleteSession(options: ChangeOptions): Promise<void> {
  const { access, name, expectedGeneration, force, json } = options;
  const answer = await askBroker(access, (client) =>
    client.deleteSession({
      ...selectorOf(name),
      force,
      ...(expectedGeneration === undefined ? {} : { expectedGeneration }),
    }),
  );
  await writeLines(
    json
      ? [jsonLine(DeleteSessionResponseSchema, answer)]
      : [
          `deleted ${answer.session?.sessionId} and ${answer.deletedTurns} turn${answer.deletedTurns === 1 ? "" : "s"}; ${answer.note}`,
        ],
  );
}

async function findSession(access: BrokerAccess, name: SessionName): Promise<Session> {
  const { session } = await askBroker(access, (client) => client.getSession(selectorOf(name)));
  if (session === undefined) throw new CommandError("the broker answered without a session");
  return session;
}

const columns = [
  { name: "session" },
  { name: "scope" },
  { name: "external id" },
  { name: "provider" },
  { name: "state" },
  { name: "turns", right: true },
  { name: "last activity" },
  { name: "lane" },
];

export function sessionTable(sessions: readonly Session[]): string[] {
  if (sessions.length === 0) return ["No session is like this."];
  return tableLines(
    columns,
    sessions.map((session) => [
      cell(session.sessionId),
      cell(session.key?.scope ?? ""),
      cell(session.key?.externalId ?? ""),
      cell(session.key?.provider ?? ""),
      stateText(session),
      String(session.turnCount),
      timeText(session.lastActivityAt),
      laneText(session),
    ]),
  );
}

function stateText({ state, pinned }: Session): string {
  return `${enumText(SessionState, state)}${pinned ? ", pinned" : ""}`;
}

/** What holds the session's lane, and how many turns wait for it. */
function laneText({ runningTurnId, queuedTurns, stuck }: Session): string {
  return [
    ...(stuck ? ["stuck"] : []),
    ...(runningTurnId === "" ? [] : ["running"]),
    ...(queuedTurns === 0 ? [] : [`${queuedTurns} waiting`]),
  ].join(", ");
}

function sessionFacts(session: Session): string[] {
  const { key, usage } = session;
  const aliases = session.aliases.map(({ id, kind }) => `${id} (${enumText(AliasKind, kind)})`);
  return factLines([
    ["session", session.sessionId],
    ["scope", key?.scope ?? ""],
    ["external id", key?.externalId ?? ""],
    ["provider", key?.provider ?? ""],
    ["state", stateText(session)],
    ["generation", String(session.generation)],
    ["before it", session.previousSessionId],
    ["agent's id", session.nativeId],
    ["known to agent", enumText(NativeState, session.nativeState)],
    ["workspace", session.workspace],
    ["aliases", aliases.join(", ")],
    [
      "labels",
      Object.entries(session.labels)
        .map(([name, value]) => `${name}=${value}`)
        .join(", "),
    ],
    ["created", timeText(session.createdAt)],
    ["last activity", timeText(session.lastActivityAt)],
    ["turns", String(session.turnCount)],
    ["tokens", `${usage?.inputTokens ?? 0} in, ${usage?.outputTokens ?? 0} out`],
    ["cost", usage?.costUsd === undefined ? "" : `$${usage.costUsd.toFixed(4)}`],
    ["running turn", session.runningTurnId],
    ["lane", laneText(session) || "free"],
  ]);
}
