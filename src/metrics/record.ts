/** What happens in the broker, counted. Nothing here throws: a count must not fail what it counts. */
import { fromBinary } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { TurnErrorCode, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { RotationReason } from "../sessions/session.js";
import type { PruneReport, ReservationOutcome } from "../sessions/session-store.js";
import { hasEnded, type TurnRow } from "../turns/turn.js";
import { defineMetrics, type Metrics, type MetricsState } from "./metrics.js";

export interface EndedRpc {
  /** Full name, or `other`. */
  readonly method: string;
  /** `ok`, or a Connect code. */
  readonly code: string;
  /** Of the error table. */
  readonly reason?: string;
  /** Absent if it was never begun. */
  readonly seconds?: number;
}

export class MetricsRecorder {
  readonly registry = new Registry();
  readonly #metrics: Metrics;
  readonly #providers: ReadonlySet<string>;

  constructor(
    state: MetricsState,
    private readonly now: () => number,
  ) {
    this.#metrics = defineMetrics(this.registry, state);
    this.#providers = new Set(state.providers);
    this.#showZeros();
  }

  rpcEnded({ method, code, reason, seconds }: EndedRpc): void {
    this.#metrics.rpcs.inc(method, code);
    if (seconds !== undefined) this.#metrics.rpcSeconds.observe(method, seconds);
    if (reason !== undefined) this.#metrics.rpcErrors.inc({ reason: reason.toLowerCase() });
  }

  reserved(outcome: ReservationOutcome): void {
    this.#metrics.reservations.inc(outcomeLabels[outcome]);
  }

  rotated(reason: RotationReason): void {
    this.#metrics.rotations.inc({ reason: reason.toLowerCase() });
  }

  pruned({ archived, purged }: Pick<PruneReport, "archived" | "purged">): void {
    this.#metrics.pruned.inc({ action: "archived" }, archived);
    this.#metrics.pruned.inc({ action: "purged" }, purged);
  }

  turnStarted(turn: TurnRow): void {
    const waitedMs = (turn.startedAtMs ?? turn.createdAtMs) - turn.createdAtMs;
    this.#metrics.queueSeconds.observe({ provider: this.#providerOf(turn) }, seconds(waitedMs));
  }

  firstText(turn: TurnRow): void {
    const afterMs = this.now() - turn.createdAtMs;
    this.#metrics.firstTextSeconds.observe({ provider: this.#providerOf(turn) }, seconds(afterMs));
  }

  turnEnded(turn: TurnRow): void {
    if (!hasEnded(turn.state)) return;
    const provider = this.#providerOf(turn);
    this.#metrics.turns.inc({ provider, ending: turn.state.toLowerCase() });
    if (turn.state === "FAILED") this.#metrics.turnFailures.inc({ provider, code: failureCode(turn) });
    const tookMs = (turn.endedAtMs ?? turn.createdAtMs) - turn.createdAtMs;
    this.#metrics.turnSeconds.observe({ provider }, seconds(tookMs));
    this.#usage(provider, turn);
  }

  committed(commands: number, tookMs: number): void {
    this.#metrics.commitSeconds.observe(seconds(tookMs));
    this.#metrics.commands.inc(commands);
  }

  clockJumped(): void {
    this.#metrics.clockJumps.inc();
  }

  #usage(provider: string, { usage }: TurnRow): void {
    const kinds = {
      input: usage.inputTokens,
      cache_read: usage.cacheReadTokens,
      cache_write: usage.cacheWriteTokens,
      output: usage.outputTokens,
    };
    for (const [kind, tokens] of Object.entries(kinds)) {
      this.#metrics.tokens.inc({ provider, kind }, countable(tokens));
    }
    this.#metrics.reasoningTokens.inc({ provider }, countable(usage.reasoningTokens));
    this.#metrics.costUsd.inc({ provider }, countable(usage.costUsd));
  }

  /** A row may be older than the configuration. */
  #providerOf({ key }: TurnRow): string {
    return this.#providers.has(key.provider) ? key.provider : "other";
  }

  /** A count that begins at nothing hides its first step from rates. */
  #showZeros(): void {
    const { rotations, reservations, pruned, turns } = this.#metrics;
    for (const reason of ["idle", "daily", "explicit_reset", "pruned"]) rotations.inc({ reason }, 0);
    for (const outcome of Object.values(outcomeLabels)) reservations.show(outcome);
    for (const action of ["archived", "purged"]) pruned.inc({ action }, 0);
    for (const provider of this.#providers) {
      for (const ending of ["completed", "failed", "cancelled", "interrupted"])
        turns.inc({ provider, ending }, 0);
    }
  }
}

const outcomeLabels: Readonly<Record<ReservationOutcome, string>> = {
  CREATED: "created",
  EXISTING: "existing",
  ROTATED: "rotated",
  EXPLICIT: "explicit",
  EPHEMERAL: "ephemeral",
};

function failureCode({ ending }: TurnRow): string {
  try {
    const { event } = fromBinary(TurnEventSchema, ending ?? new Uint8Array());
    const code = event.case === "failed" ? event.value.error?.code : undefined;
    return (TurnErrorCode[code ?? TurnErrorCode.UNSPECIFIED] ?? "other").toLowerCase();
  } catch {
    return "other";
  }
}

/** The wall clock may be set back between two moments. */
function seconds(ms: number): number {
  return Math.max(0, ms) / 1000;
}

/** What an agent reports may be anything, and a counter takes no step back. */
function countable(amount = 0): number {
  return Number.isFinite(amount) && amount > 0 ? amount : 0;
}
