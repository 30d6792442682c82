import { create, toBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { TurnErrorCode, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import { noUsage } from "../sessions/session.js";
import type { TurnRow } from "../turns/turn.js";
import { MetricsRecorder } from "./record.js";

function recorder(nowMs = 0) {
  const zero = () => 0;
  const turns = { runningTurns: zero, waitingTurns: zero, stuckSessions: zero, warmProcesses: zero };
  const store = { liveSessions: zero, storeBytes: zero, storesSetAside: zero };
  const state = { version: "1", providers: ["agent"], ...turns, ...store };
  return new MetricsRecorder(state, () => nowMs);
}

/** Lines of the text whose value is not 0, buckets left out. */
async function shown({ registry }: MetricsRecorder, about: RegExp): Promise<string[]> {
  const lines = (await registry.metrics()).split("\n");
  return lines.filter((line) => about.test(line) && !/^#|_bucket| 0$/.test(line));
}

function turn(more: Partial<TurnRow> = {}): TurnRow {
  return {
    turnNo: 1,
    turnId: "t",
    key: { scope: "acme", externalId: "chat", provider: "agent" },
    recordNo: 1,
    sessionId: "s",
    generation: 1,
    state: "COMPLETED",
    payloadHash: new Uint8Array(),
    credential: "c",
    grant: "g",
    clientChoseId: true,
    cancelOnDisconnect: false,
    onConflict: "ENQUEUE",
    mergeKey: "",
    external: false,
    createdAtMs: 1_000,
    startedAtMs: 3_000,
    endedAtMs: 8_000,
    queueDeadlineMs: 0,
    attempt: 1,
    lastSequence: 1,
    reservedThrough: 1,
    eventBytes: 0,
    evictedThrough: 0,
    accepted: new Uint8Array(),
    usage: noUsage,
    labels: {},
    ...more,
  };
}

function failed(code: TurnErrorCode): Uint8Array {
  const event = { case: "failed" as const, value: { error: { code } } };
  return toBinary(TurnEventSchema, create(TurnEventSchema, { event }));
}

it("counts a turn with its times, tokens and cost", async () => {
  const metrics = recorder(4_000);
  const usage = {
    inputTokens: 1,
    cacheReadTokens: 2,
    cacheWriteTokens: 3,
    outputTokens: 4,
    reasoningTokens: 5,
    costUsd: 0.25,
  };
  metrics.turnStarted(turn());
  metrics.firstText(turn());
  metrics.turnEnded(turn({ usage }));
  expect(await shown(metrics, /turn|token|cost/)).toEqual([
    'session_broker_turns_total{provider="agent",ending="completed"} 1',
    'session_broker_turn_queue_seconds_sum{provider="agent"} 2',
    'session_broker_turn_queue_seconds_count{provider="agent"} 1',
    'session_broker_turn_first_text_seconds_sum{provider="agent"} 3',
    'session_broker_turn_first_text_seconds_count{provider="agent"} 1',
    'session_broker_turn_duration_seconds_sum{provider="agent"} 7',
    'session_broker_turn_duration_seconds_count{provider="agent"} 1',
    'session_broker_tokens_total{provider="agent",kind="input"} 1',
    'session_broker_tokens_total{provider="agent",kind="cache_read"} 2',
    'session_broker_tokens_total{provider="agent",kind="cache_write"} 3',
    'session_broker_tokens_total{provider="agent",kind="output"} 4',
    'session_broker_reasoning_tokens_total{provider="agent"} 5',
    'session_broker_cost_usd_total{provider="agent"} 0.25',
  ]);
});

it.each([
  [failed(TurnErrorCode.QUEUE_TIMEOUT), "queue_timeout"],
  [failed(4711 as TurnErrorCode), "other"],
  [Uint8Array.of(255), "other"],
  [undefined, "unspecified"],
])("says why a turn has failed (%#)", async (ending, code) => {
  const metrics = recorder();
  metrics.turnEnded(turn({ state: "FAILED", ...(ending === undefined ? {} : { ending }) }));
  expect(await shown(metrics, /turns_total|failures/)).toEqual([
    'session_broker_turns_total{provider="agent",ending="failed"} 1',
    `session_broker_turn_failures_total{provider="agent",code="${code}"} 1`,
  ]);
});

it("a provider that is not configured is other", async () => {
  const metrics = recorder();
  metrics.turnEnded(turn({ key: { scope: "acme", externalId: "chat", provider: "gone" } }));
  expect(await shown(metrics, /turns_total/)).toEqual([
    'session_broker_turns_total{provider="other",ending="completed"} 1',
  ]);
});

it("takes no harm from what cannot be", async () => {
  const metrics = recorder();
  const usage = { ...noUsage, inputTokens: -1, outputTokens: Number.NaN, costUsd: -0.5 };
  metrics.turnEnded(turn({ usage, createdAtMs: 9_000 }));
  metrics.turnEnded(turn({ state: "RUNNING" }));
  expect(await shown(metrics, /turns_total|token|cost|duration/)).toEqual([
    'session_broker_turns_total{provider="agent",ending="completed"} 1',
    'session_broker_turn_duration_seconds_count{provider="agent"} 1',
  ]);
});

it("two brokers in one process count by themselves", async () => {
  const [one, other] = [recorder(), recorder()];
  one.rotated("IDLE");
  expect(await shown(one, /rotations/)).toEqual(['session_broker_rotations_total{reason="idle"} 1']);
  expect(await shown(other, /rotations/)).toEqual([]);
});
