/** Every metric of the broker. docs/metrics.md tells people what they mean. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { SlotCounter, SlotHistogram } from "./slots.js";

/** What is asked of the broker each time that metrics are read. */
export interface MetricsState {
  readonly version: string;
  /** Ids of the configured providers. */
  readonly providers: readonly string[];
  readonly runningTurns: (provider: string) => number;
  readonly waitingTurns: (provider: string) => number;
  readonly warmProcesses: (provider: string) => number;
  readonly stuckSessions: (provider: string) => number;
  readonly liveSessions: () => number;
  readonly storeBytes: () => number;
  readonly storesSetAside: () => number;
}

export type Metrics = ReturnType<typeof defineMetrics>;

/** Label values come from the contract and the configuration, never from a caller. */
export function defineMetrics(registry: Registry, state: MetricsState) {
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Counter<L>({ name, help, labelNames, registers });
  const histogram = <L extends string>(
    name: string,
    help: string,
    buckets: readonly number[],
    ...labelNames: L[]
  ) => new Histogram<L>({ name, help, buckets: [...buckets], labelNames, registers });
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  const gaugeByProvider = (name: string, help: string, read: (provider: string) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ["provider"],
      registers,
      collect() {
        for (const provider of state.providers) this.set({ provider }, read(provider));
      },
    });

  new Gauge({
    name: "session_broker_build_info",
    help: "1, for the version that runs",
    labelNames: ["version"],
    registers,
  }).set({ version: state.version }, 1);
  gaugeByProvider("session_broker_turns_running", "Turns that hold their session's lane", state.runningTurns);
  gaugeByProvider("session_broker_turns_waiting", "Turns that wait for a lane or a slot", state.waitingTurns);
  gaugeByProvider(
    "session_broker_processes_warm",
    "Agent processes that are ready for a turn and run none",
    state.warmProcesses,
  );
  gaugeByProvider(
    "session_broker_sessions_stuck",
    "Sessions whose lane is shut because a process of theirs cannot be ended",
    state.stuckSessions,
  );
  gauge("session_broker_sessions_live", "Sessions that are not archived", state.liveSessions);
  gauge("session_broker_store_bytes", "Size of the store's data file", state.storeBytes);
  gauge(
    "session_broker_stores_set_aside",
    "Damaged stores that were replaced and still lie in the data directory",
    state.storesSetAside,
  );

  return {
    rpcs: new SlotCounter({
      name: "session_broker_rpcs_total",
      help: "RPCs that have ended",
      labelNames: ["method", "code"],
      registers,
    }),
    rpcSeconds: new SlotHistogram(
      {
        name: "session_broker_rpc_duration_seconds",
        help: "From request to last message",
        labelNames: ["method"],
        registers,
      },
      rpcBuckets,
    ),
    rpcErrors: counter(
      "session_broker_rpc_errors_total",
      "RPCs that failed for a reason of the error table",
      "reason",
    ),
    reservations: new SlotCounter({
      name: "session_broker_reservations_total",
      help: "Answers of Reserve and admitted turns",
      labelNames: ["outcome"],
      registers,
    }),
    rotations: counter("session_broker_rotations_total", "Sessions that took the place of another", "reason"),
    pruned: counter("session_broker_pruned_sessions_total", "Sessions cleared away", "action"),
    turns: counter("session_broker_turns_total", "Turns that have ended", "provider", "ending"),
    turnFailures: counter(
      "session_broker_turn_failures_total",
      "Turns that ended as failed",
      "provider",
      "code",
    ),
    queueSeconds: histogram(
      "session_broker_turn_queue_seconds",
      "From admission to start",
      turnBuckets,
      "provider",
    ),
    firstTextSeconds: histogram(
      "session_broker_turn_first_text_seconds",
      "From admission to the first text",
      turnBuckets,
      "provider",
    ),
    turnSeconds: histogram(
      "session_broker_turn_duration_seconds",
      "From admission to ending",
      turnBuckets,
      "provider",
    ),
    tokens: counter("session_broker_tokens_total", "Tokens of ended turns", "provider", "kind"),
    reasoningTokens: counter(
      "session_broker_reasoning_tokens_total",
      "Output tokens that were reasoning",
      "provider",
    ),
    costUsd: counter(
      "session_broker_cost_usd_total",
      "Cost in US dollars that agents have stated",
      "provider",
    ),
    commitSeconds: histogram(
      "session_broker_store_commit_seconds",
      "From handing over a batch to disk",
      commitBuckets,
    ),
    commands: counter("session_broker_store_commands_total", "Commands in those batches"),
    clockJumps: counter("session_broker_clock_jumps_total", "Times that the wall clock jumped"),
  };
}

/** A Reserve takes milliseconds; a Dispatch lasts as long as its turn, a watch for hours. */
const rpcBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800,
];
const turnBuckets = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
const commitBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
