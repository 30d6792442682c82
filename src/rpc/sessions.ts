/** The RPCs about sessions. */
import { createHash } from "node:crypto";
import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { durationMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type PruneRequest,
  type PruneResponse,
  PruneResponse_Reason,
  PruneResponse_SkipReason,
  PruneResponseSchema,
} from "../../gen/sessionbroker/v1/admin_pb.js";
import type { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import {
  BindRequestSchema,
  DeleteSessionRequestSchema,
  type SessionKey as KeyMessage,
  type ListSessionsRequest,
  PinSessionRequestSchema,
  ResetSessionRequestSchema,
  type Session,
  SessionState,
} from "../../gen/sessionbroker/v1/session_pb.js";
import { BrokerError } from "../errors.js";
import type { Refusal } from "../sessions/refusal.js";
import {
  type Place,
  type PruneReport,
  placeOf,
  type SessionCall,
  type SessionSelector,
  type SessionView,
} from "../sessions/session-store.js";
import { type Dispatcher, refusalError } from "../turns/dispatcher.js";
import { sessionMessage, sessionState } from "../turns/session-message.js";
import { type Caller, callerOf, whereOf } from "./caller.js";
import { readToken, signToken } from "./page-token.js";
import type { ReservationDeps, Reservations } from "./reservations.js";

export interface SessionRpcDeps extends ReservationDeps {
  readonly reservations: Reservations;
  readonly dispatcher: Dispatcher;
  readonly signingKey: Uint8Array;
  /** Told what a Prune has cleared away. */
  readonly onPruned: (report: PruneReport) => void;
}

type Methods = Pick<
  ServiceImpl<typeof SessionBroker>,
  | "reserve"
  | "getSession"
  | "listSessions"
  | "bind"
  | "resetSession"
  | "pinSession"
  | "deleteSession"
  | "prune"
>;

const defaultPageSize = 100;

export function sessionMethods(deps: SessionRpcDeps): Methods {
  const message = (view: SessionView): Session =>
    sessionMessage(view, deps.keys.identityOf(view.row), deps.dispatcher.stuck.has(view.row.recordNo));

  return {
    reserve: (request, context) => deps.reservations.reserve(callerOf(context), request),

    async getSession(request, context) {
      return { session: message(await findOne(deps, selectorOf(deps, callerOf(context), request))) };
    },

    async listSessions(request, context) {
      const page = await listPage(deps, callerOf(context), request);
      return { sessions: page.views.map(message), nextPageToken: page.nextPageToken };
    },

    async bind(request, context) {
      const caller = callerOf(context);
      const call = sessionCall(deps, caller, BindRequestSchema, request);
      const binding = {
        aliases: request.aliases,
        ...(request.nativeId === "" ? {} : { nativeId: request.nativeId }),
        ...(request.fence === undefined ? {} : { fence: Number(request.fence) }),
        ...(request.expectedGeneration === undefined
          ? {}
          : { expectedGeneration: request.expectedGeneration }),
        ...(request.expectedNativeId === undefined ? {} : { expectedNativeId: request.expectedNativeId }),
      };
      const bound = await withForce(deps, request.force, call.selector, () =>
        deps.store.bind({ ...call, binding, callerScopes: caller.scopes }),
      );
      const view = accepted(bound);
      await deps.dispatcher.releaseAgent(view.row);
      return { session: message(view) };
    },

    async resetSession(request, context) {
      if (request.expectedGeneration === undefined && request.idempotencyKey === "") {
        throw new BrokerError(
          "INVALID_FIELD",
          "expected_generation or idempotency_key is needed: a retry must not reset twice",
        );
      }
      const call = sessionCall(deps, callerOf(context), ResetSessionRequestSchema, request);
      const newSessionId = deps.newSessionId();
      const { sessionsPerScope } = deps.settings.limits;
      const reset = accepted(
        await withForce(deps, request.force, call.selector, () =>
          deps.store.reset({ ...call, newSessionId, sessionsPerScope }),
        ),
      );
      // The answer to a repeat is that of the first call.
      if (reset.view.row.sessionId === newSessionId) await deps.onRotated(reset.view.row, "EXPLICIT_RESET");
      return { session: message(reset.view), previousSessionId: reset.previousSessionId };
    },

    async pinSession(request, context) {
      const call = sessionCall(deps, callerOf(context), PinSessionRequestSchema, request);
      return { session: message(accepted(await deps.store.pin({ ...call, pinned: request.pinned }))) };
    },

    async deleteSession(request, context) {
      const call = sessionCall(deps, callerOf(context), DeleteSessionRequestSchema, request);
      const removed = accepted(
        await withForce(deps, request.force, call.selector, () => deps.store.remove(call)),
      );
      await deps.dispatcher.releaseAgent(removed.row);
      return {
        session: message({ row: removed.row, lane: { queuedTurns: 0 } }),
        deletedTurns: removed.turns,
        note: "the agent's own transcript was left as it is",
      };
    },

    async prune(request, context) {
      const call = pruneCall(deps, callerOf(context), request);
      // What was used a moment ago is not idle.
      const writeActivity = () => deps.activity.write((due) => deps.store.touch(due));
      const report = await deps.store.prune(call, writeActivity);
      if (!request.dryRun) deps.onPruned(report);
      return pruneMessage(report);
    },
  };
}

interface SelectorRequest {
  readonly selector:
    | { readonly case: "key"; readonly value: KeyMessage }
    | { readonly case: "sessionId"; readonly value: string }
    | { readonly case: undefined };
  readonly scope: string;
}

function selectorOf(deps: SessionRpcDeps, caller: Caller, request: SelectorRequest): SessionSelector {
  const { selector } = request;
  if (selector.case === "key") return { kind: "key", key: deps.keys.canonical(caller, selector.value).key };
  if (selector.case === "sessionId") {
    return { kind: "session-id", sessionId: selector.value, where: whereOf(caller, request.scope) };
  }
  throw new BrokerError("INVALID_FIELD", "selector: key or session_id is needed");
}

/** @throws BrokerError SESSION_NOT_FOUND, AMBIGUOUS_ID */
export async function findOne(
  deps: Pick<SessionRpcDeps, "store">,
  selector: SessionSelector,
): Promise<SessionView> {
  if (selector.kind === "key") {
    const view = await deps.store.byKey(selector.key);
    // A pruned session is found by its ids alone.
    if (view !== undefined && view.row.archived === undefined) return view;
    throw new BrokerError("SESSION_NOT_FOUND", "no session has this key");
  }
  const views = await deps.store.byId({ kind: "session-id", id: selector.sessionId }, selector.where, 2);
  const [view] = views;
  if (view === undefined) {
    throw new BrokerError("SESSION_NOT_FOUND", `no session has the id ${selector.sessionId}`);
  }
  if (views.length > 1) {
    throw new BrokerError("AMBIGUOUS_ID", "session_id: it names several sessions; name one by its key");
  }
  return view;
}

interface ChangeRequest extends SelectorRequest {
  readonly expectedGeneration?: number | undefined;
  readonly idempotencyKey: string;
}

function sessionCall<D extends DescMessage>(
  deps: SessionRpcDeps,
  caller: Caller,
  schema: D,
  request: ChangeRequest & MessageShape<D>,
): SessionCall {
  const { expectedGeneration, idempotencyKey: key } = request;
  const requestHash = createHash("sha256").update(schema.typeName).update(toBinary(schema, request)).digest();
  return {
    selector: selectorOf(deps, caller, request),
    nowMs: deps.clock.now(),
    ...(expectedGeneration === undefined ? {} : { expectedGeneration }),
    // No scope begins like this, so that it is nobody's key of Reserve.
    ...(key === "" ? {} : { idempotency: { owner: `@${caller.name}`, key, requestHash } }),
  };
}

function accepted<T extends object>(answer: T | Refusal): T {
  if ("kind" in answer && answer.kind === "refused") throw refusalError(answer as Refusal);
  return answer as T;
}

/** A turn may slip in between the cancelling and the change; then both are done again. */
const forceRounds = 10;

/** Acts at once; if turns are in the way and it is to be forced, cancels them and waits for the lane first. */
async function withForce<T extends object>(
  deps: SessionRpcDeps,
  force: boolean,
  selector: SessionSelector,
  act: () => Promise<T | Refusal>,
): Promise<T | Refusal> {
  let answer = await act();
  for (let round = 0; force && isBusy(answer) && round < forceRounds; round++) {
    const { row } = await findOne(deps, selector);
    await deps.dispatcher.cancelAll(row.key);
    answer = await act();
  }
  return answer;
}

function isBusy(answer: object): boolean {
  return "reason" in answer && answer.reason === "SESSION_BUSY";
}

async function listPage(deps: SessionRpcDeps, caller: Caller, request: ListSessionsRequest) {
  const { pageToken, pageSize, ...filter } = request;
  const purpose = `ListSessions ${caller.name} ${JSON.stringify(filter, bigintText)}`;
  let after =
    pageToken === "" ? undefined : (readToken(deps.signingKey, purpose, pageToken, "page_token") as Place);
  const states = new Set(
    request.states.length > 0 ? request.states : [SessionState.RESERVED, SessionState.ACTIVE],
  );
  const size = pageSize || defaultPageSize;
  const listFilter = {
    ...whereOf(caller, request.scope, request.provider),
    live: states.has(SessionState.RESERVED) || states.has(SessionState.ACTIVE),
    archived: states.has(SessionState.ARCHIVED),
    ...(request.idleSince === undefined ? {} : { idleSinceMs: timestampMs(request.idleSince) }),
  };
  const views: SessionView[] = [];
  // Filters that no index serves drop rows; a page that they thinned out is filled up a bounded number of times.
  for (let round = 0; round < 10 && views.length < size; round++) {
    const found = await deps.store.list(listFilter, after, size - views.length);
    views.push(...found.filter((view) => matches(deps, view, request, states)));
    const last = found.at(-1);
    if (last === undefined || found.length === 0) return { views, nextPageToken: "" };
    after = placeOf(last.row);
  }
  return { views, nextPageToken: signToken(deps.signingKey, purpose, after) };
}

function matches(
  deps: SessionRpcDeps,
  { row }: SessionView,
  request: ListSessionsRequest,
  states: ReadonlySet<SessionState>,
): boolean {
  return (
    states.has(sessionState(row)) &&
    Object.entries(request.labels).every(([name, value]) => row.labels[name] === value) &&
    (request.agent === "" || deps.keys.identityOf(row).agent === request.agent)
  );
}

function pruneCall(deps: SessionRpcDeps, caller: Caller, request: PruneRequest) {
  const states = new Set(request.states);
  const standard = states.size === 0;
  return {
    ...whereOf(caller, request.scope, request.provider),
    ...(request.olderThan === undefined ? {} : { olderThanMs: durationMs(request.olderThan) }),
    ...(request.maxSessions === undefined ? {} : { maxSessions: request.maxSessions }),
    live: standard ? !request.purge : states.has(SessionState.RESERVED) || states.has(SessionState.ACTIVE),
    // What is archived already can only be purged.
    archived: standard ? request.purge : request.purge && states.has(SessionState.ARCHIVED),
    ...(states.has(SessionState.RESERVED) === states.has(SessionState.ACTIVE)
      ? {}
      : { hasTurns: states.has(SessionState.ACTIVE) }),
    purge: request.purge,
    dryRun: request.dryRun,
    ...(request.limit === 0 ? {} : { limit: request.limit }),
    nowMs: deps.clock.now(),
  };
}

function pruneMessage(report: PruneReport): PruneResponse {
  const place = (row: PruneReport["rows"][number]["row"]) => ({
    key: { ...row.key },
    sessionId: row.sessionId,
    lastActivityAt: timestampFromMs(row.lastActivityMs),
  });
  return create(PruneResponseSchema, {
    archived: report.archived,
    purged: report.purged,
    rows: report.rows.map(({ row, reason }) => ({ ...place(row), reason: PruneResponse_Reason[reason] })),
    skipped: report.skipped.map(({ row, reason }) => ({
      ...place(row),
      reason: PruneResponse_SkipReason[reason],
    })),
    skippedTotal: report.skippedTotal,
    more: report.more,
  });
}

function bigintText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
