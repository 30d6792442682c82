/** Which session a turn goes to. */
import { randomUUID } from "node:crypto";
import type { DispatchRequest, HistoryTarget, TurnTarget } from "../../gen/sessionbroker/v1/turn_pb.js";
import { BrokerError } from "../errors.js";
import { type Chain, type ChainEnd, toldInput } from "../turns/chain.js";
import { isInternal } from "../turns/internal-turns.js";
import type { TurnRow } from "../turns/turn.js";
import type { AdmitCall, AfterTurn, TurnStore } from "../turns/turn-store.js";
import { type Caller, whereOf } from "./caller.js";
import type { CanonicalKey } from "./keys.js";
import type { ReservationDeps } from "./reservations.js";
import { readMessages } from "./turn-request.js";

export interface TargetDeps extends ReservationDeps {
  readonly turns: TurnStore;
  readonly chain: Chain;
}

/** Where a turn goes. */
export interface Target {
  readonly canonical: CanonicalKey;
  readonly onlySessionId?: string;
  readonly after?: AfterTurn;
  readonly forkOf?: AfterTurn;
  /** Of a session that is to be like another; the request's own goes before it. */
  readonly workspace?: string;
  readonly chain?: ChainEnd;
  readonly replayed?: NonNullable<AdmitCall["replayed"]>;
  /** Row of the session in which an earlier try of the request would be. Default: the key's. */
  readonly triedIn?: number;
  /** If the conversation has gone on meanwhile. */
  readonly otherwise?: Target;
}

/** @throws BrokerError as the selectors of the request do */
export async function targetOf(deps: TargetDeps, caller: Caller, request: DispatchRequest): Promise<Target> {
  const { target } = request;
  switch (target.case) {
    case "key":
      return withHistory(deps, request, deps.keys.canonical(caller, target.value));
    case "sessionId":
      return { canonical: await keyOfSession(deps, caller, target.value), onlySessionId: target.value };
    case "byHistory": {
      const { scope, provider, endUser } = target.value;
      const canonical = deps.keys.canonical(caller, { scope, provider, externalId: `chat-${randomUUID()}` });
      // Nobody can tell which of its people says the same words.
      if (caller.shared && endUser === "") return { canonical };
      const chain = toldOf(deps, caller, request, target.value);
      const fresh = { canonical, chain: { link: chain.link } };
      const linked = chain.anchor && (await deps.turns.followLink(canonical.key, chain.anchor));
      if (linked === undefined) return fresh;
      const { row, isNewest } = linked;
      if (!isNewest) return { ...fresh, triedIn: row.recordNo };
      return { canonical: deps.keys.ofRow(row), chain, otherwise: fresh, triedIn: row.recordNo };
    }
    case "afterTurn":
      return afterTurn(deps, caller, target.value);
    default:
      throw new BrokerError("INVALID_FIELD", "target: key, session_id, by_history or after_turn is needed");
  }
}

/** The session of the turn, or one like it if that has gone on. */
async function afterTurn(deps: TargetDeps, caller: Caller, target: TurnTarget): Promise<Target> {
  const named = await findTurn(deps, caller, target);
  if (isInternal(named.turnNo)) {
    throw new BrokerError("INVALID_FIELD", "after_turn: the turn is INTERNAL, and nothing is kept of it");
  }
  // The text of a merged turn was answered by another one.
  const answered = named.mergedInto && (await deps.turns.byTurnNo(named.mergedInto.turnNo));
  const turn = answered ?? named;
  const view = await deps.turns.session(turn);
  const { scope, provider } = turn.key;
  const after = { turnNo: turn.turnNo, recordNo: turn.recordNo };
  const fork: Target = {
    canonical: deps.keys.canonical(caller, { scope, provider, externalId: `fork-${randomUUID()}` }),
    forkOf: after,
    workspace: view?.row.workspace ?? "",
  };
  const triedIn = turn.recordNo;
  if (view === undefined) return { ...fork, triedIn };
  return { canonical: deps.keys.ofRow(view.row), after, otherwise: fork, triedIn };
}

function withHistory(deps: TargetDeps, request: DispatchRequest, canonical: CanonicalKey): Target {
  if (!request.historyReplayed) return { canonical };
  const told = readMessages(request).history.findLast(({ author }) => author === "assistant")?.text;
  const end = deps.chain.ofKey(canonical.key, told);
  return { canonical, replayed: { ...end, ...(told === undefined ? {} : { told }) } };
}

/** Reads all of the history, which may be long. */
function toldOf(
  deps: TargetDeps,
  caller: Caller,
  request: DispatchRequest,
  { scope, provider, endUser }: HistoryTarget,
): ChainEnd {
  const { model, system } = request;
  const { history, input } = readMessages(request);
  return deps.chain.of(
    { credential: caller.name, scope, provider, model, system, endUser },
    history,
    toldInput(input),
  );
}

async function keyOfSession(deps: TargetDeps, caller: Caller, sessionId: string): Promise<CanonicalKey> {
  const views = await deps.store.byId({ kind: "session-id", id: sessionId }, whereOf(caller, ""), 64);
  const live = views.filter(({ row }) => row.archived === undefined);
  const [view] = live;
  if (view === undefined) {
    if (views.length > 0)
      throw new BrokerError("ARCHIVED", `session_id: ${sessionId} is archived and takes no turns`);
    throw new BrokerError("SESSION_NOT_FOUND", `no session has the id ${sessionId}`);
  }
  if (live.length > 1) {
    throw new BrokerError("AMBIGUOUS_ID", "session_id: it names several sessions; name one by its key");
  }
  return deps.keys.ofRow(view.row);
}

export async function findTurn(
  deps: TargetDeps,
  caller: Caller,
  request: { readonly turnId: string; readonly scope: string },
): Promise<TurnRow> {
  const turn = await deps.turns.byTurnId(request.turnId, whereOf(caller, request.scope));
  if (turn !== undefined) return turn;
  throw new BrokerError("TURN_NOT_FOUND", `no turn has the id ${request.turnId}`);
}
