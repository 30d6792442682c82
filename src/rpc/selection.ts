/** ResolveSelection: which session an id means. */
import { create } from "@bufbuild/protobuf";
import {
  AmbiguousSchema,
  NoSelectionSchema,
  type ResolveSelectionRequest,
  type ResolveSelectionResponse,
  Selected_Match,
  Selected_Source,
} from "../../gen/sessionbroker/v1/selection_pb.js";
import type { SessionKey } from "../sessions/key.js";
import { type Candidate, type Match, type Selection, select } from "../sessions/selection.js";
import type { IdQuery, SessionStore, SessionView, Where } from "../sessions/session-store.js";
import { sessionMessage } from "../turns/session-message.js";
import { hasEnded } from "../turns/turn.js";
import type { TurnStore } from "../turns/turn-store.js";
import { type Caller, whereOf } from "./caller.js";
import type { Keys } from "./keys.js";

export interface SelectionDeps {
  readonly store: SessionStore & TurnStore;
  readonly keys: Keys;
}

const shownCandidates = 10;
/** An id that more rows own than this is ambiguous all the same. */
const readCandidates = 10_000;

interface Found extends Candidate {
  readonly view: SessionView;
}

export function resolveSelection(
  deps: SelectionDeps,
  caller: Caller,
  request: ResolveSelectionRequest,
): Promise<ResolveSelectionResponse> | ResolveSelectionResponse {
  const where = whereOf(caller, request.scope, request.provider);
  const { selector } = request;
  switch (selector.case) {
    case "key":
      return byKey(deps, request, deps.keys.canonical(caller, selector.value).key);
    case "turnId":
      return byTurn(deps, request, selector.value, where);
    case "sessionId":
      return byId(deps, request, { kind: "session-id", id: selector.value }, where);
    case "nativeId":
      return byId(deps, request, { kind: "native-id", id: selector.value }, where);
    case "alias":
      return byId(deps, request, { kind: "alias", id: selector.value }, where);
    case "shortId":
      return byId(deps, request, { kind: "short-id", id: selector.value }, where);
    default:
      return answer(deps, request, [], "");
  }
}

async function byKey(deps: SelectionDeps, request: ResolveSelectionRequest, key: SessionKey) {
  const view = await deps.store.byKey(key);
  const found = view === undefined || view.row.archived !== undefined ? [] : [view];
  return answer(deps, request, found, key.externalId);
}

async function byId(deps: SelectionDeps, request: ResolveSelectionRequest, query: IdQuery, where: Where) {
  const views = await deps.store.byId(query, where, readCandidates);
  const trimmed = query.id.trim();
  if (views.length > 0 || trimmed === query.id) return answer(deps, request, views, query.id);
  // An id is looked up as it is given; white space around it is a slip only if nothing has that id.
  return answer(
    deps,
    request,
    await deps.store.byId({ ...query, id: trimmed }, where, readCandidates),
    trimmed,
  );
}

/** A turn names its session, while it runs and afterwards; what is no turn may be a session id. */
async function byTurn(deps: SelectionDeps, request: ResolveSelectionRequest, turnId: string, where: Where) {
  const turn = await deps.store.byTurnId(turnId, where);
  if (turn === undefined) return byId(deps, request, { kind: "session-id", id: turnId }, where);
  const view = await deps.store.session(turn);
  const source = hasEnded(turn.state) ? Selected_Source.STORE : Selected_Source.ACTIVE_TURN;
  return answer(deps, request, view === undefined ? [] : [view], turnId, source);
}

function answer(
  deps: SelectionDeps,
  request: ResolveSelectionRequest,
  views: readonly SessionView[],
  id: string,
  source = Selected_Source.STORE,
): ResolveSelectionResponse {
  const { agent, scope, provider } = request;
  const candidates: Found[] = [];
  for (const view of views) {
    const { row } = view;
    const { identity, scope: settings } = deps.keys.ofRow(row);
    if (agent !== "" && identity.agent !== agent) continue;
    if (scope !== "" && row.key.scope !== scope) continue;
    if (provider !== "" && row.key.provider !== provider) continue;
    candidates.push({ view, row, identity, scheme: settings.keyScheme });
  }
  const selection = toMessage(select(candidates, id), source);
  return { $typeName: "sessionbroker.v1.ResolveSelectionResponse", selection };
}

function toMessage(
  selection: Selection<Found>,
  source: Selected_Source,
): ResolveSelectionResponse["selection"] {
  switch (selection.kind) {
    case "none":
      return { case: "none", value: create(NoSelectionSchema) };
    case "selected": {
      const { view, identity, row } = selection.candidate;
      return {
        case: "selected",
        value: {
          $typeName: "sessionbroker.v1.Selected",
          session: sessionMessage(view, identity),
          storeKey: identity.storeKey,
          requestKey: identity.requestKey,
          agent: identity.agent,
          generation: row.generation,
          source,
          match: matchMessages[selection.match],
        },
      };
    }
    case "ambiguous": {
      const candidates = selection.candidates.slice(0, shownCandidates).map(({ view, identity }) => ({
        session: sessionMessage(view, identity),
        storeKey: identity.storeKey,
        requestKey: identity.requestKey,
      }));
      return {
        case: "ambiguous",
        value: create(AmbiguousSchema, { candidates, total: selection.candidates.length }),
      };
    }
  }
}

const matchMessages: Record<Match, Selected_Match> = {
  EXACT: Selected_Match.EXACT,
  STRUCTURAL: Selected_Match.STRUCTURAL,
  FRESHEST: Selected_Match.FRESHEST,
};
