/** The RPCs about turns. */
import { randomUUID } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import type { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import {
  CancelTurnResponse_Action,
  type DispatchRequest,
  DispatchRequestSchema,
  OnConflict,
  OnDisconnect,
  type ReserveOptions,
  ReserveOptionsSchema,
  type TurnEvent,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { BrokerError } from "../errors.js";
import { type AdmitRequest, type Dispatcher, refusalError } from "../turns/dispatcher.js";
import { type IfExpired, isTerminal } from "../turns/follow.js";
import type { Provider } from "../turns/provider.js";
import { earlierTry, mostRetried } from "../turns/repeats.js";
import { textOf } from "../turns/run-turn.js";
import type { ConflictPolicy, TurnRow } from "../turns/turn.js";
import type { TraceCarrier } from "../turns/turn-trace.js";
import { type Caller, callerOf, whereOf } from "./caller.js";
import { type Reservations, reservationOf } from "./reservations.js";
import { traceKey } from "./tracing.js";
import { turnMessage } from "./turn-message.js";
import { checkTurnRequest, mergeKey, payloadHash, readTurnRequest, type TurnSizes } from "./turn-request.js";
import { findTurn, type Target, type TargetDeps, targetOf } from "./turn-target.js";

export interface TurnRpcDeps extends TargetDeps {
  readonly reservations: Reservations;
  readonly dispatcher: Dispatcher;
  readonly providers: ReadonlyMap<string, Provider>;
  readonly settings: { readonly limits: TurnSizes & TargetDeps["settings"]["limits"] };
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
      const inputText = await inputTextOf(deps, turn);
      return {
        turn: { ...turnMessage(turn), pendingPermissions },
        ...(inputText === undefined ? {} : { inputText }),
      };
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
  const tried = request.isRetry ? await earlierTurn(deps, caller, hash, target) : undefined;
  if (tried !== undefined) return tried;
  const admission = await admitInto(deps, caller, request, hash, target, trace);
  if (admission.kind !== "refused") return admission.turn;
  if (admission.reason !== "CONVERSATION_MOVED_ON" || target.otherwise === undefined) {
    throw refusalError(admission);
  }
  const branch = await admitInto(deps, caller, request, hash, target.otherwise, trace);
  if (branch.kind === "refused") throw refusalError(branch);
  return branch.turn;
}

async function admitInto(
  deps: TurnRpcDeps,
  caller: Caller,
  request: DispatchRequest,
  hash: Uint8Array,
  { canonical, workspace = "", otherwise: _, triedIn: _tried, ...where }: Target,
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
  checkTurnRequest(request, provider, deps.settings.limits);
  deps.checkDisk();
  const reserve = deps.reservations.callOf(reservationOf(canonical, optionsIn(workspace, request)));
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

/** Undefined if it is no longer kept. */
async function inputTextOf(deps: TurnRpcDeps, turn: TurnRow): Promise<string | undefined> {
  if (turn.state === "COMPLETED") return (await deps.turns.exchange(turn))?.user;
  const [own] = await deps.turns.requests(turn.turnNo);
  return own === undefined ? undefined : textOf(readTurnRequest(own).input);
}

/** The workspace of the session that the new one comes from, unless the request names another. */
function optionsIn(workspace: string, { reserve }: DispatchRequest): ReserveOptions | undefined {
  if (workspace === "" || reserve?.workspace) return reserve;
  return { ...(reserve ?? create(ReserveOptionsSchema)), workspace };
}

/** The turn of an earlier try that had no turn id of the caller's. */
async function earlierTurn(
  deps: TurnRpcDeps,
  { name }: Caller,
  payloadHash: Uint8Array,
  { canonical, triedIn }: Target,
): Promise<TurnRow | undefined> {
  const recordNo = triedIn ?? (await deps.store.byKey(canonical.key))?.row.recordNo;
  if (recordNo === undefined) return undefined;
  const turns = await deps.turns.newestTurns(recordNo, mostRetried);
  return earlierTry(turns, { credential: name, payloadHash }, deps.clock.now());
}

/** The turn of an earlier try, however its session has changed since. */
async function repeatedTurn(
  deps: TurnRpcDeps,
  caller: Caller,
  { turnId, target }: DispatchRequest,
  hash: Uint8Array,
): Promise<TurnRow | undefined> {
  if (turnId === "" || target.case === "key") return undefined;
  const scope = target.case === "byHistory" || target.case === "afterTurn" ? target.value.scope : "";
  const turn = await deps.turns.byTurnId(turnId, whereOf(caller, scope));
  return turn !== undefined && Buffer.compare(turn.payloadHash, hash) === 0 ? turn : undefined;
}

/** How long a turn may wait for its lane. */
export function queueTimeoutMs({ queueTimeout }: Pick<DispatchRequest, "queueTimeout">): number {
  return queueTimeout === undefined ? defaultQueueTimeoutMs : durationMs(queueTimeout);
}
