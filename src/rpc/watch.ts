/** WatchSessions: changes of sessions as they are on disk. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import {
  SessionSchema,
  type WatchSessionsRequest,
  type WatchSessionsResponse,
  WatchSessionsResponse_Change,
  WatchSessionsResponseSchema,
} from "../../gen/sessionbroker/v1/session_pb.js";
import type { Clock } from "../clock.js";
import { BrokerError } from "../errors.js";
import { type Change, type SessionStore, scopeMatches } from "../sessions/session-store.js";
import { sessionMessage } from "../turns/session-message.js";
import { callerOf, whereOf } from "./caller.js";
import type { Keys } from "./keys.js";
import { readToken, signToken } from "./page-token.js";

export interface WatchDeps {
  readonly store: SessionStore;
  readonly keys: Keys;
  readonly clock: Clock;
  readonly signingKey: Uint8Array;
}

const purpose = "WatchSessions";
const heartbeatMs = 15_000;
const pageChanges = 256;

/** @throws BrokerError REVISION_EXPIRED if changes after the revision are no longer kept */
export async function* watchSessions(
  deps: WatchDeps,
  request: WatchSessionsRequest,
  context: HandlerContext,
): AsyncGenerator<WatchSessionsResponse> {
  const where = whereOf(callerOf(context), request.scope, request.provider);
  const tokenOf = (revision: number) => signToken(deps.signingKey, purpose, revision);
  const heartbeat = (revision: number) =>
    create(WatchSessionsResponseSchema, {
      change: WatchSessionsResponse_Change.HEARTBEAT,
      revision: tokenOf(revision),
    });
  const { signal } = context;
  let revision =
    request.afterRevision === ""
      ? await deps.store.revision()
      : (readToken(deps.signingKey, purpose, request.afterRevision, "after_revision") as number);
  // Tells the caller at once that it watches, and from where.
  yield heartbeat(revision);
  while (!signal.aborted) {
    const written = new AbortController();
    const next = deps.store.written(AbortSignal.any([signal, written.signal]));
    const changes = await deps.store.changes(revision, pageChanges);
    if (changes === "gone") {
      throw new BrokerError(
        "REVISION_EXPIRED",
        "after_revision: changes since then are no longer kept; list the sessions and watch from now",
      );
    }
    for (const change of changes) {
      revision = change.revision;
      const { scope, provider } = change.key;
      const wanted =
        where.scopes.some((pattern) => scopeMatches(pattern, scope)) &&
        (where.provider === undefined || where.provider === provider);
      if (wanted) yield changeMessage(deps, change, tokenOf(revision));
    }
    if (changes.length === 0) {
      const cancel = deps.clock.after(heartbeatMs, () => written.abort());
      await next;
      cancel();
      if (written.signal.aborted) yield heartbeat(revision);
    }
    written.abort();
  }
  signal.throwIfAborted();
}

function changeMessage(deps: WatchDeps, change: Change, revision: string): WatchSessionsResponse {
  const { view } = change;
  return create(WatchSessionsResponseSchema, {
    change: WatchSessionsResponse_Change[change.kind],
    revision,
    session:
      view === undefined || change.kind === "DELETED"
        ? create(SessionSchema, { key: { ...change.key }, sessionId: change.sessionId })
        : sessionMessage(view, deps.keys.identityOf(view.row)),
  });
}
