/** The RPCs about turns. */
import { randomUUID } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import type { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import {
  CancelTurnResponse_Action,
  type DispatchRequest,
  DispatchRequestSchema,
  type HistoryTarget,
  OnConflict,
  OnDisconnect,
  type TurnEvent,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { BrokerError } from "../errors.js";
import { type Chain, type ChainEnd, toldInput } from "../turns/chain.js";
import { type AdmitRequest, type Dispatcher, refusalError } from "../turns/dispatcher.js";
import { type IfExpired, isTerminal } from "../turns/follow.js";
import type { Provider } from "../turns/provider.js";
import type { ConflictPolicy, TurnRow } from "../turns/turn.js";
import type { AdmitCall, TurnStore } from "../turns/turn-store.js";
import type { TraceCarrier } from "../turns/turn-trace.js";
import { type Caller, callerOf, whereOf } from "./caller.js";
import type { CanonicalKey } from "./keys.js";
import { type ReservationDeps, type Reservations, reservationOf } from "./reservations.js";
import { traceKey } from "./tracing.js";
import { turnMessage } from "./turn-message.js";
import { checkTurnRequest, mergeKey, payloadHash, readMessages } from "./turn-request.js";

export interface TurnRpcDeps extends ReservationDeps {
  readonly turns: TurnStore;
  readonly reservations: Reservations;
  readonly dispatcher: Dispatcher;
  readonly chain: Chain;
  readonly providers: ReadonlyMap<string, Provider>;
  /** @throws BrokerError DISK_LOW */
  readonly checkDisk: () => void;
}

type Methods = Pick<
  ServiceImpl<typeof SessionBroker>,
  "dispatch" | "attach" | "cancelTurn" | "getTurn" | "respondPermission"
>;

const defaultQueueTimeoutMs = 10 * 60_000;

const conflictPolicies: Record<OnConflict, ConflictPolicy> = {
  [OnConflict.UNSPECIFIED]: "ENQUEUE",
  [OnConflict.ENQUEUE]: "ENQUEUE",
  [OnConflict.REJECT]: "REJECT",
  [OnConflict.INTERRUPT]: "INTERRUPT",
  [OnConflict.STEER]: "STEER",
  [OnConflict.COLLECT]: "COLLECT",
};

export function turnMethods(deps: TurnRpcDeps): Methods {
  return {
    async *dispatch(request, context) {
      const turn = await admit(deps, callerOf(context), request, context.values.get(traceKey));
      // A retry of a turn whose events are gone is still told how it ended.
      yield* readTurn(deps, turn, 0, context.signal, "ending");
    },

    async *attach(request, context) {
      const turn = await findTurn(deps, callerOf(context), request);
      yield* readTurn(deps, turn, request.afterSequence, context.signal);
    },

    async cancelTurn(request, context) {
      const turn = await findTurn(deps, callerOf(context), request);
      const action = await deps.dispatcher.cancel(turn);
      const after = (await deps.turns.byTurnNo(turn.turnNo)) ?? turn;
      return { action: CancelTurnResponse_Action[action], turn: turnMessage(after) };
    },

    async getTurn(request, context) {
      const turn = await findTurn(deps, callerOf(context), request);
      const pendingPermissions = [...(await deps.dispatcher.pendingPermissions(turn))];
      return { turn: { ...turnMessage(turn), pendingPermissions } };
    },

    async respondPermission(request, context) {
      const caller = callerOf(context);
      const turn = await findTurn(deps, caller, request);
      if (caller.role !== Role.APPROVE && caller.name !== turn.credential) {
        throw new BrokerError(
          "ROLE_TOO_LOW",
          "RespondPermission needs the role approve for a turn that another credential dispatched",
          { credential: caller.name },
        );
      }
      return { decision: await deps.dispatcher.respondPermission(turn, request) };
    },
  };
}

async function* readTurn(
  deps: TurnRpcDeps,
  turn: TurnRow,
  afterSequence: number,
  signal: AbortSignal,
  ifExpired?: IfExpired,
): AsyncGenerator<{ event: TurnEvent }> {
  for await (const event of deps.dispatcher.follow(turn, afterSequence, signal, ifExpired)) {
    yield { event };
    if (isTerminal(event)) return;
  }
  // A reader whose time is over, or whom the broker sends away, was not told the ending.
  signal.throwIfAborted();
}

async function admit(
  deps: TurnRpcDeps,
  caller: Caller,
  request: DispatchRequest,
  trace: TraceCarrier,
): Promise<TurnRow> {
  const hash = payloadHash(request);
  const known = await repeatedTurn(deps, caller, request, hash);
  if (known !== undefined) return known;
  const target = await targetOf(deps, caller, request);
  const admission = await admitInto(deps, caller, request, hash, target, trace);
  if (admission.kind !== "refused") return admission.turn;
  if (admission.reason !== "CONVERSATION_MOVED_ON" || target.otherwise === undefined) {
    throw refusalError(admission);
  }
  const branch = await admitInto(deps, caller, request, hash, target.otherwise, trace);
  if (branch.kind === "refused") throw refusalError(branch);
  return branch.turn;
}

/** A turn's session. */
interface Target {
  readonly canonical: CanonicalKey;
  readonly onlySessionId?: string;
  readonly chain?: ChainEnd;
  readonly replayed?: NonNullable<AdmitCall["replayed"]>;
  /** If the conversation has gone on meanwhile. */
  readonly otherwise?: Target;
}

async function admitInto(
  deps: TurnRpcDeps,
  caller: Caller,
  request: DispatchRequest,
  hash: Uint8Array,
  { canonical, otherwise: _, ...where }: Target,
  trace: TraceCarrier,
) {
  const provider = deps.providers.get(canonical.key.provider);
  if (provider === undefined) {
    const running = [...deps.providers.keys()].join(", ");
    throw new BrokerError(
      "UNSUPPORTED_BY_PROVIDER",
      `provider ${canonical.key.provider} is not configured here; configured are ${running}`,
    );
  }
  checkTurnRequest(request, provider);
  deps.checkDisk();
  const reserve = deps.reservations.callOf(reservationOf(canonical, request.reserve));
  const admit: AdmitRequest = {
    ...where,
    reserve,
    identity: canonical.identity,
    turnId: request.turnId || randomUUID(),
    clientChoseId: request.turnId !== "",
    payloadHash: hash,
    credential: caller.name,
    grant: caller.baseScope,
    cancelOnDisconnect: request.onDisconnect === OnDisconnect.CANCEL,
    onConflict: conflictPolicies[request.onConflict],
    mergeKey: mergeKey(request, caller.name),
    external: false,
    queueDeadlineMs: reserve.nowMs + queueTimeoutMs(request),
    labels: request.labels,
    request: toBinary(DispatchRequestSchema, request),
    ...(request.responseId === "" ? {} : { responseId: request.responseId }),
  };
  const admission = await deps.dispatcher.admit(admit, trace);
  if (admission.kind === "admitted") await deps.reservations.tellAdmission(admission, reserve);
  return admission;
}

/** The turn of an earlier try, however its session has changed since. */
async function repeatedTurn(
  deps: TurnRpcDeps,
  caller: Caller,
  { turnId, target }: DispatchRequest,
  hash: Uint8Array,
): Promise<TurnRow | undefined> {
  if (turnId === "" || target.case === "key") return undefined;
  const scope = target.case === "byHistory" ? target.value.scope : "";
  const turn = await deps.turns.byTurnId(turnId, whereOf(caller, scope));
  return turn !== undefined && Buffer.compare(turn.payloadHash, hash) === 0 ? turn : undefined;
}

async function targetOf(deps: TurnRpcDeps, caller: Caller, request: DispatchRequest): Promise<Target> {
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
      const row = chain.anchor && (await deps.turns.followLink(canonical.key, chain.anchor));
      return row === undefined ? fresh : { canonical: deps.keys.ofRow(row), chain, otherwise: fresh };
    }
    default:
      throw new BrokerError("INVALID_FIELD", "target: key, session_id or by_history is needed");
  }
}

function withHistory(deps: TurnRpcDeps, request: DispatchRequest, canonical: CanonicalKey): Target {
  if (!request.historyReplayed) return { canonical };
  const told = readMessages(request).history.findLast(({ author }) => author === "assistant")?.text;
  const end = deps.chain.ofKey(canonical.key, told);
  return { canonical, replayed: { ...end, ...(told === undefined ? {} : { told }) } };
}

/** Reads all of the history, which may be long. */
function toldOf(
  deps: TurnRpcDeps,
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

async function keyOfSession(deps: TurnRpcDeps, caller: Caller, sessionId: string): Promise<CanonicalKey> {
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

/** How long a turn may wait for its lane. */
export function queueTimeoutMs({ queueTimeout }: Pick<DispatchRequest, "queueTimeout">): number {
  return queueTimeout === undefined ? defaultQueueTimeoutMs : durationMs(queueTimeout);
}

export async function findTurn(
  deps: TurnRpcDeps,
  caller: Caller,
  request: { readonly turnId: string; readonly scope: string },
): Promise<TurnRow> {
  const turn = await deps.turns.byTurnId(request.turnId, whereOf(caller, request.scope));
  if (turn !== undefined) return turn;
  throw new BrokerError("TURN_NOT_FOUND", `no turn has the id ${request.turnId}`);
}
