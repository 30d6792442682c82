/** ListTurns. */
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type ListTurnsRequest,
  type ListTurnsResponse,
  ListTurnsResponseSchema,
  TurnState,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { BrokerError } from "../errors.js";
import { type SessionStore, scopeMatches, type Where } from "../sessions/session-store.js";
import { turnStates } from "../turns/turn.js";
import type { TurnArchive, TurnPlace } from "../turns/turn-store.js";
import { type Caller, whereOf } from "./caller.js";
import type { Keys } from "./keys.js";
import { readToken, signToken } from "./page-token.js";
import { findOne } from "./sessions.js";
import { turnMessage } from "./turn-message.js";

export interface TurnListDeps {
  readonly store: SessionStore & TurnArchive;
  readonly keys: Keys;
  readonly signingKey: Uint8Array;
}

/** Where a page ended. A listing of one session stays with its row, whatever its key points to later. */
interface Cursor {
  readonly after: TurnPlace;
  readonly recordNo?: number;
}

const defaultPageSize = 100;

export async function listTurns(
  deps: TurnListDeps,
  caller: Caller,
  request: ListTurnsRequest,
): Promise<ListTurnsResponse> {
  const { pageToken, pageSize, ...filter } = request;
  const where = whereOf(caller, request.scope);
  const purpose = `ListTurns ${caller.name} ${JSON.stringify(filter, bigintText)}`;
  const cursor =
    pageToken === "" ? undefined : (readToken(deps.signingKey, purpose, pageToken, "page_token") as Cursor);
  const recordNo = cursor === undefined ? await recordNoOf(deps, caller, where, request) : cursor.recordNo;
  const session = recordNo === undefined ? {} : { recordNo };
  const page = await deps.store.listTurns({
    scopes: where.scopes,
    ...session,
    states: turnStates.filter(
      (state) => request.states.length === 0 || request.states.includes(TurnState[state]),
    ),
    ...(request.since === undefined ? {} : { sinceMs: timestampMs(request.since) }),
    ...(request.until === undefined ? {} : { untilMs: timestampMs(request.until) }),
    ...(cursor === undefined ? {} : { after: cursor.after }),
    limit: pageSize || defaultPageSize,
  });
  const next: Cursor | undefined = page.next === undefined ? undefined : { after: page.next, ...session };
  return create(ListTurnsResponseSchema, {
    turns: page.turns.map(turnMessage),
    nextPageToken: next === undefined ? "" : signToken(deps.signingKey, purpose, next),
  });
}

/** The session that a request names; undefined if it names none. */
async function recordNoOf(
  deps: TurnListDeps,
  caller: Caller,
  where: Where,
  { key, sessionId }: ListTurnsRequest,
): Promise<number | undefined> {
  if (key !== undefined) {
    const canonical = deps.keys.canonical(caller, key).key;
    if (!where.scopes.some((pattern) => scopeMatches(pattern, canonical.scope))) {
      throw new BrokerError("SESSION_NOT_FOUND", "key: it does not lie in the scope");
    }
    return (await findOne(deps, { kind: "key", key: canonical })).row.recordNo;
  }
  if (sessionId === "") return undefined;
  return (await findOne(deps, { kind: "session-id", sessionId, where })).row.recordNo;
}

function bigintText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
