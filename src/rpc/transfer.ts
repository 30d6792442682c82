/** ExportSessions and ImportSessions. */
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import type { HandlerContext } from "@connectrpc/connect";
import {
  type ExportSessionsRequest,
  type ExportSessionsResponse,
  ExportSessionsResponseSchema,
  type ImportSessionsRequest,
  type ImportSessionsResponse,
  type ImportSessionsResponse_Row,
  ImportSessionsResponse_RowSchema,
  ImportSessionsResponseSchema,
  ImportSessionsResponse_Result as Result,
} from "../../gen/sessionbroker/v1/admin_pb.js";
import {
  AliasKind,
  ReserveRequestSchema,
  type Session,
  SessionKeySchema,
  SessionState,
} from "../../gen/sessionbroker/v1/session_pb.js";
import type { Clock } from "../clock.js";
import { BrokerError } from "../errors.js";
import { type ImportRow, type Place, placeOf, type SessionStore } from "../sessions/session-store.js";
import { sessionMessage } from "../turns/session-message.js";
import { type Caller, callerOf, whereOf } from "./caller.js";
import type { Keys } from "./keys.js";
import { reservationOf } from "./reservations.js";

export interface TransferDeps {
  readonly store: SessionStore;
  readonly keys: Keys;
  readonly clock: Clock;
  readonly settings: { readonly limits: { readonly sessionsPerScope: number } };
}

const pageRows = 500;
const reportedRows = 10_000;
/** What a report holds of a row, which may be of any size where it breaks the rules. */
const shownKeyBytes = 2048;
const shownMessage = 1000;
const validator = createValidator();

/** Oldest first: a session that is active meanwhile comes again, later, and none is missed. */
export async function* exportSessions(
  deps: TransferDeps,
  request: ExportSessionsRequest,
  context: HandlerContext,
): AsyncGenerator<ExportSessionsResponse> {
  const filter = {
    ...whereOf(callerOf(context), request.scope, request.provider),
    live: true,
    archived: request.includeArchived,
    oldestFirst: true,
  };
  let after: Place | undefined;
  for (;;) {
    const views = await deps.store.list(filter, after, pageRows);
    for (const view of views) {
      yield create(ExportSessionsResponseSchema, {
        session: sessionMessage(view, deps.keys.identityOf(view.row)),
      });
    }
    const last = views.at(-1)?.row;
    if (last === undefined) return;
    after = placeOf(last);
  }
}

export async function importSessions(
  deps: TransferDeps,
  requests: AsyncIterable<ImportSessionsRequest>,
  context: HandlerContext,
): Promise<ImportSessionsResponse> {
  const caller = callerOf(context);
  const report = create(ImportSessionsResponseSchema);
  const write = async (page: readonly Taken[]) => {
    const rows = page.map(({ row }) => row);
    const results = await deps.store.importRows({
      rows,
      callerScopes: caller.scopes,
      sessionsPerScope: deps.settings.limits.sessionsPerScope,
    });
    for (const [index, { request }] of page.entries()) {
      const { result = "CONFLICTING", message = "" } = results[index] ?? {};
      note(report, request, Result[result], message);
    }
  };
  // One page is written while the next one is read.
  let page: Taken[] = [];
  let writing = Promise.resolve();
  const flush = async () => {
    await writing;
    writing = write(page);
    writing.catch(() => {});
    page = [];
  };
  let number = 0;
  for await (const request of requests) {
    number += 1;
    const numbered = request.row === 0 ? { ...request, row: number } : request;
    const row = readRow(deps, caller, request.session);
    if (typeof row === "string") note(report, numbered, Result.REJECTED, row);
    else page.push({ request: numbered, row });
    if (page.length >= pageRows) await flush();
  }
  await flush();
  await writing;
  return report;
}

interface Taken {
  readonly request: ImportSessionsRequest;
  readonly row: ImportRow;
}

function note(
  report: ImportSessionsResponse,
  request: ImportSessionsRequest,
  result: Result,
  message: string,
): void {
  if (result === Result.CREATED) report.created += 1;
  else if (result === Result.KEPT) report.kept += 1;
  else if (result === Result.CONFLICTING) report.conflicting += 1;
  else report.rejected += 1;
  if (message !== "" && report.rows.length < reportedRows)
    report.rows.push(reportRow(request, result, message));
}

function reportRow(
  request: ImportSessionsRequest,
  result: Result,
  message: string,
): ImportSessionsResponse_Row {
  const key = request.session?.key;
  const isShown = key !== undefined && toBinary(SessionKeySchema, key).length <= shownKeyBytes;
  return create(ImportSessionsResponse_RowSchema, {
    row: request.row,
    result,
    message: message.slice(0, shownMessage),
    ...(isShown ? { key } : {}),
  });
}

/** The row under the rules of Reserve, or why it breaks them. */
function readRow(deps: TransferDeps, caller: Caller, session: Session | undefined): ImportRow | string {
  if (session?.key === undefined) return "session.key: it is required";
  const platform = session.aliases.filter(
    ({ kind }) => kind === AliasKind.PLATFORM || kind === AliasKind.UNSPECIFIED,
  );
  const aliases = platform.map(({ id }) => id);
  const { key, sessionId, labels, workspace, nativeId, resetPolicy } = session;
  const asked = create(ReserveRequestSchema, { key, sessionId, labels, workspace, aliases });
  if (resetPolicy !== undefined) asked.resetPolicy = resetPolicy;
  const rules = validator.validate(ReserveRequestSchema, asked);
  if (rules.kind === "invalid") return rules.violations.map(String).join("; ");
  if (rules.kind === "error") return rules.error.message;
  if (sessionId === "") return "session.session_id: it is required";
  if (session.state === SessionState.ARCHIVED) return "session.state: archived sessions are not imported";
  if (nativeId !== "" && !/^[!-~]{1,256}$/.test(nativeId))
    return "session.native_id: at most 256 printable characters";
  try {
    const canonical = deps.keys.canonical(caller, key);
    const { resetPolicy } = reservationOf(canonical, asked);
    return {
      ...timesOf(session, deps.clock.now()),
      ...contentOf(session, canonical.key.externalId, aliases),
      key: canonical.key,
      ...(resetPolicy === undefined ? {} : { resetPolicy }),
    };
  } catch (error) {
    if (error instanceof BrokerError) return error.message;
    throw error;
  }
}

function contentOf(session: Session, externalId: string, aliases: readonly string[]) {
  const given = session.importedKey || (session.key?.externalId ?? "");
  return {
    sessionId: session.sessionId,
    ...(given === externalId ? {} : { importedKey: given }),
    ...(session.nativeId === "" ? {} : { nativeId: session.nativeId }),
    aliases,
    labels: session.labels,
    workspace: session.workspace,
  };
}

/** Times of the file, none of them in the future; a session that was never used is the oldest of all. */
function timesOf(session: Session, nowMs: number) {
  const { createdAt, startedAt, lastActivityAt } = session;
  const past = (...stamps: (typeof createdAt)[]) => {
    const known = stamps.find((stamp) => stamp !== undefined);
    return known === undefined ? 0 : Math.max(0, Math.min(timestampMs(known), nowMs));
  };
  return {
    createdAtMs: past(createdAt, startedAt, lastActivityAt),
    startedAtMs: past(startedAt, createdAt, lastActivityAt),
    lastActivityMs: past(lastActivityAt, startedAt, createdAt),
  };
}
