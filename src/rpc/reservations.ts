/** Reserve: an established session is answered from a read; everything else is one write. */
import { createHash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  Outcome,
  type ReserveRequest,
  ReserveRequestSchema,
  type ReserveResponse,
  ReserveResponseSchema,
  RotationReason as RotationReasonCode,
  Visibility,
} from "../../gen/sessionbroker/v1/session_pb.js";
import type { ReserveOptions } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { Clock, ClockGuard } from "../clock.js";
import { resetPolicyOf } from "../config/config.js";
import { BrokerError } from "../errors.js";
import { isTimeZone } from "../sessions/freshness.js";
import type { PendingActivity } from "../sessions/pending-activity.js";
import { decideReservation, type Reservation } from "../sessions/reservation.js";
import type { RotationReason, SessionRow } from "../sessions/session.js";
import type {
  IdempotencyKey,
  ReservationOutcome,
  ReserveCall,
  Reserved,
  SessionStore,
  SessionView,
} from "../sessions/session-store.js";
import { outcomes } from "../turns/accepted.js";
import { refusalError } from "../turns/dispatcher.js";
import { rotationReasons, sessionMessage } from "../turns/session-message.js";
import type { Admission, TurnStore } from "../turns/turn-store.js";
import type { Caller } from "./caller.js";
import type { CanonicalKey, Keys } from "./keys.js";

export interface ReservationDeps {
  readonly store: SessionStore;
  readonly turns: Pick<TurnStore, "session">;
  readonly keys: Keys;
  readonly activity: PendingActivity;
  readonly clock: Clock;
  readonly clockGuard: ClockGuard;
  readonly newSessionId: () => string;
  readonly settings: { readonly limits: { readonly sessionsPerScope: number } };
  /** Told of each rotation once; resolves when the session that was replaced is let go of. */
  readonly onRotated: (row: SessionRow, reason: RotationReason) => Promise<void>;
  /** Told of each answer of Reserve, repeats included, and of each admitted turn. */
  readonly onReserved: (outcome: ReservationOutcome) => void;
}

/** What a reservation is judged by, besides what is stored. */
type Moment = Pick<ReserveCall, "clockBelieved" | "nowMs" | "pendingActivityMs">;

export class Reservations {
  constructor(private readonly deps: ReservationDeps) {}

  async reserve(caller: Caller, request: ReserveRequest): Promise<ReserveResponse> {
    if (request.key === undefined) throw new BrokerError("INVALID_FIELD", "key: it is required");
    const canonical = this.deps.keys.canonical(caller, request.key);
    const { sessionId, expectedGeneration } = request;
    const reservation = reservationOf(canonical, request, { sessionId, expectedGeneration });
    const idempotency = idempotencyOf(request);
    const moment = this.#momentOf(reservation);
    const reserved =
      (idempotency === undefined
        ? this.#fromRead(reservation, moment, await this.deps.store.byKey(canonical.key))
        : undefined) ?? (await this.#fromStore(this.#callAt(moment, reservation, idempotency)));
    return this.#answer(canonical, reservation, moment, reserved);
  }

  /** A reservation as the store takes it. */
  callOf(reservation: Reservation): ReserveCall {
    return this.#callAt(this.#momentOf(reservation), reservation);
  }

  #callAt(moment: Moment, reservation: Reservation, idempotency?: IdempotencyKey): ReserveCall {
    return {
      reservation,
      pendingActivityMs: moment.pendingActivityMs,
      idempotency,
      clockBelieved: moment.clockBelieved,
      nowMs: moment.nowMs,
      newSessionId: this.deps.newSessionId(),
      sessionsPerScope: this.deps.settings.limits.sessionsPerScope,
    };
  }

  #momentOf({ key }: Reservation): Moment {
    return {
      clockBelieved: this.deps.clockGuard.believed(),
      nowMs: this.deps.clock.now(),
      pendingActivityMs: this.deps.activity.of(key),
    };
  }

  /** Tells of the reservation that a turn was admitted with. */
  async tellAdmission(
    { turn, outcome, reason }: Extract<Admission, { kind: "admitted" }>,
    { newSessionId }: ReserveCall,
  ): Promise<void> {
    this.deps.onReserved(outcome);
    // Otherwise the rotation is only told once more.
    if (outcome !== "ROTATED" || reason === undefined || turn.sessionId !== newSessionId) return;
    const view = await this.deps.turns.session(turn);
    if (view !== undefined) await this.deps.onRotated(view.row, reason);
  }

  async #fromStore(call: ReserveCall): Promise<Reserved> {
    const reserved = await this.deps.store.reserve(call);
    const reason = rotationBy(call, reserved);
    if (reserved.kind === "reserved" && reason !== undefined) {
      await this.deps.onRotated(reserved.view.row, reason);
    }
    return reserved;
  }

  /** The answer, if it changes no row; undefined if the store has to decide. */
  #fromRead(reservation: Reservation, moment: Moment, view: SessionView | undefined): Reserved | undefined {
    if (view === undefined) return reservation.internal ? this.#ephemeral() : undefined;
    const decision = decideReservation(reservation, {
      row: view.row,
      pendingActivityMs: moment.pendingActivityMs,
      busyTurnId: view.lane.runningTurnId ?? (view.lane.queuedTurns > 0 ? "waiting" : undefined),
      clockBelieved: moment.clockBelieved,
      nowMs: moment.nowMs,
      // What would have a new id is decided once more, by the store.
      newSessionId: "",
      newRecordNo: 0,
    });
    switch (decision.kind) {
      case "ephemeral":
        return this.#ephemeral();
      case "existing":
      case "explicit": {
        if (decision.write) return undefined;
        const outcome = decision.kind === "existing" ? "EXISTING" : "EXPLICIT";
        return { kind: "reserved", outcome, reason: decision.reason, view };
      }
      case "rotated":
        return decision.row === view.row
          ? { kind: "reserved", outcome: "ROTATED", reason: decision.reason, view }
          : undefined;
      default:
        return undefined;
    }
  }

  #ephemeral(): Reserved {
    return { kind: "ephemeral", sessionId: this.deps.newSessionId() };
  }

  #answer(
    canonical: CanonicalKey,
    { internal }: Reservation,
    { nowMs }: Moment,
    reserved: Reserved,
  ): ReserveResponse {
    if (reserved.kind === "refused") throw refusalError(reserved);
    this.deps.onReserved(reserved.kind === "reserved" ? reserved.outcome : "EPHEMERAL");
    if (reserved.kind === "ephemeral") {
      return create(ReserveResponseSchema, {
        outcome: Outcome.EPHEMERAL,
        session: {
          key: { ...canonical.key },
          sessionId: reserved.sessionId,
          requestKey: canonical.identity.requestKey,
          agent: canonical.identity.agent,
        },
      });
    }
    const { view } = reserved;
    if (!internal) this.#noteActivity(view, canonical, nowMs);
    return {
      $typeName: "sessionbroker.v1.ReserveResponse",
      session: sessionMessage(view, canonical.identity),
      outcome: outcomes[reserved.outcome],
      rotationReason:
        reserved.reason === undefined ? RotationReasonCode.UNSPECIFIED : rotationReasons[reserved.reason],
      runningTurnId: view.lane.runningTurnId ?? "",
      queuedTurns: view.lane.queuedTurns,
    };
  }

  #noteActivity(view: SessionView, canonical: CanonicalKey, nowMs: number): void {
    const policy = view.row.resetPolicy ?? canonical.scope.resetPolicy;
    this.deps.activity.note(view.row, policy.idleMs, nowMs);
  }
}

/**
 * A reservation of Reserve or of Dispatch. Each has all members in the same
 * order, absent ones too: the engine keeps one shape of it then, and this is
 * made for each call.
 *
 * @param more what only Reserve has
 */
export function reservationOf(
  canonical: CanonicalKey,
  options: ReserveOptions | ReserveRequest | undefined,
  more?: Pick<ReserveRequest, "sessionId" | "expectedGeneration">,
): Reservation {
  const { key, scope } = canonical;
  const policy = options?.resetPolicy;
  if (policy?.daily !== undefined && !isTimeZone(policy.daily.timeZone || "UTC")) {
    throw new BrokerError(
      "INVALID_FIELD",
      `reset_policy.daily.time_zone: ${policy.daily.timeZone} is no IANA time zone`,
    );
  }
  const workspace = options?.workspace ?? "";
  if (workspace !== "" && !scope.workspaces.has(workspace)) {
    throw new BrokerError(
      "UNKNOWN_WORKSPACE",
      `workspace: ${workspace} is not configured for the scope ${key.scope}`,
    );
  }
  return {
    key,
    sessionId: more?.sessionId || undefined,
    expectedGeneration: more?.expectedGeneration,
    aliases: options?.aliases ?? [],
    internal: options?.visibility === Visibility.INTERNAL,
    resetPolicy: policy === undefined ? undefined : resetPolicyOf(policy),
    scopeResetPolicy: scope.resetPolicy,
    workspace,
    labels: options?.labels ?? {},
  };
}

/** Why this very call rotated the key; a rotation that is only told once more was another call's. */
function rotationBy(call: ReserveCall, reserved: Reserved): RotationReason | undefined {
  if (reserved.kind !== "reserved") return undefined;
  if (reserved.replacedBy === call.newSessionId) return "EXPLICIT_RESET";
  const isNew = reserved.outcome === "ROTATED" && reserved.view.row.sessionId === call.newSessionId;
  return isNew ? reserved.reason : undefined;
}

function idempotencyOf(request: ReserveRequest): IdempotencyKey | undefined {
  if (request.idempotencyKey === "") return undefined;
  const requestHash = createHash("sha256").update(toBinary(ReserveRequestSchema, request)).digest();
  return { owner: request.key?.scope ?? "", key: request.idempotencyKey, requestHash };
}
