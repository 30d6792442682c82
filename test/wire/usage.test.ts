/** ListUsage: what turns took, by day, and who is told. */
import { createHash, randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import { FinishReason, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { Usage, UsageRow } from "../../gen/sessionbroker/v1/usage_pb.js";
import { reasonOf } from "../support/answers.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { InProcessBroker, SteppedClock } from "../support/in-process.js";
import { answerRecords, ModelService, sendError, stream } from "../support/model-service.js";
import { dispatchTurn } from "../support/turns.js";

const dayMs = 24 * 3_600_000;
const startMs = Date.UTC(2026, 0, 30, 23, 59);
const config = JSON.stringify({
  credentials: [
    {
      name: "acme",
      tokenSha256: createHash("sha256").update("acme-secret").digest("hex"),
      role: "ROLE_READ",
      scopes: ["acme", "acme/*"],
    },
  ],
});

const sumOf = (numbers: readonly number[]) => numbers.reduce((sum, each) => sum + each, 0);

/** As one line for each row. */
const linesOf = (rows: readonly UsageRow[]) =>
  rows.map(({ day, scope, provider, turns, usage }) => {
    const { inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens, reasoningTokens, costUsd } =
      usage ?? {};
    const tokens = [inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens, reasoningTokens].join("/");
    return `${day} ${scope} ${provider} ${turns} ${tokens} ${costUsd ?? "-"}`;
  });

async function usageOf(client: BrokerClient, request: Parameters<BrokerClient["listUsage"]>[0] = {}) {
  return linesOf((await client.listUsage(request)).rows);
}

describe("turns that callers ran", () => {
  let clock: SteppedClock;
  let broker: InProcessBroker;

  beforeEach(async () => {
    clock = new SteppedClock(startMs);
    broker = await InProcessBroker.start(clock, config);
  });

  afterEach(() => broker.close());

  /** Runs a turn outside that reports what it took. */
  async function record(
    scope: string,
    provider: string,
    inputTokens: number,
    costUsd?: number,
  ): Promise<void> {
    const turnId = randomUUID();
    const key = { scope, externalId: randomUUID(), provider };
    for await (const { event } of broker.client.acquireLane({ key, turnId })) {
      if (event.case !== "granted") continue;
      await broker.client.recordTurn({
        turnId,
        fence: event.value.fence,
        ending: { case: "completed", value: { text: "ok", finishReason: FinishReason.STOP } },
        usage: { inputTokens: BigInt(inputTokens), ...(costUsd === undefined ? {} : { costUsd }) },
      });
      return;
    }
  }

  it("are summed by the day of their end, UTC, by scope and by provider", async () => {
    await record("acme", "codex", 1);
    await record("acme", "codex", 2, 0.5);
    await record("acme/b", "codex", 4);
    await record("acme", "gemini", 8);
    clock.advance(2 * 60_000);
    await record("acme", "codex", 16, 0.25);
    const rows = [
      "2026-01-30 acme codex 2 3/0/0/0/0 0.5",
      "2026-01-30 acme gemini 1 8/0/0/0/0 -",
      "2026-01-30 acme/b codex 1 4/0/0/0/0 -",
      "2026-01-31 acme codex 1 16/0/0/0/0 0.25",
    ];
    expect(await usageOf(broker.client)).toEqual(rows);
    expect(await usageOf(broker.client, { scope: "acme/*" })).toEqual([rows[2]]);
    expect(await usageOf(broker.client, { provider: "gemini" })).toEqual([rows[1]]);
    const until = timestampFromMs(startMs);
    expect(await usageOf(broker.client, { until })).toEqual(rows.slice(0, 3));
    expect(await usageOf(broker.client, { since: timestampFromMs(startMs + dayMs) })).toEqual(rows.slice(3));
    expect(await usageOf(broker.client, { since: timestampFromMs(startMs + dayMs), until })).toEqual([]);
    await broker.restart();
    expect(await usageOf(broker.client)).toEqual(rows);
  });

  it("of the last 30 days, unless others are asked for", async () => {
    await record("acme", "codex", 1);
    clock.advance(31 * dayMs);
    await record("acme", "codex", 2);
    expect(await usageOf(broker.client)).toEqual(["2026-03-02 acme codex 1 2/0/0/0/0 -"]);
    expect(await usageOf(broker.client, { since: timestampFromMs(0) })).toHaveLength(2);
  });

  it("are told to those who may see their scopes", async () => {
    await record("acme", "codex", 1);
    await record("acme/b", "codex", 2);
    await record("acmeless", "codex", 4);
    const acme = broker.clientOf("acme-secret");
    expect(await usageOf(acme)).toEqual([
      "2026-01-30 acme codex 1 1/0/0/0/0 -",
      "2026-01-30 acme/b codex 1 2/0/0/0/0 -",
    ]);
    expect(await reasonOf(acme.listUsage({ scope: "acmeless" }))).toBe("PermissionDenied FOREIGN_SCOPE");
    expect(await reasonOf(acme.listUsage({ scope: "*" }))).toBe("PermissionDenied FOREIGN_SCOPE");
  });

  it("come in pages, whose tokens are good for the same request alone", async () => {
    for (const scope of ["a", "b", "c"]) await record(scope, "codex", 1);
    const { client } = broker;
    const seen: string[] = [];
    for (let pageToken: string | undefined; pageToken !== ""; ) {
      const page = await client.listUsage({ pageSize: 1, pageToken: pageToken ?? "" });
      seen.push(...linesOf(page.rows));
      pageToken = page.nextPageToken;
      // A page that is read on the next day is of the same days.
      clock.advance(60_000);
    }
    expect(seen).toEqual(await usageOf(client, { since: timestampFromMs(startMs) }));
    expect(seen).toHaveLength(3);
    const { nextPageToken: pageToken } = await client.listUsage({ pageSize: 1 });
    expect(await reasonOf(client.listUsage({ pageToken, scope: "a" }))).toBe("InvalidArgument INVALID_FIELD");
    expect(await reasonOf(broker.clientOf("acme-secret").listUsage({ pageToken }))).toBe(
      "InvalidArgument INVALID_FIELD",
    );
    expect(await reasonOf(client.listUsage({ pageToken: "x" }))).toBe("InvalidArgument INVALID_FIELD");
  });
});

describe("turns that the broker ran", () => {
  let service: ModelService;
  let broker: TestBroker;
  let client: BrokerClient;

  beforeAll(async () => {
    service = await ModelService.start((call) => {
      const text = call.body.input.at(-1).content;
      if (text === "fail") return sendError(call, 400, { message: "no" });
      const records = answerRecords(call.path, { texts: ["ok"] });
      stream(call, ...(text === "hang" ? records.slice(0, 2) : records));
      return text === "hang" ? undefined : call.response.end();
    });
    const openai = { baseUrl: service.url };
    broker = await TestBroker.start({
      config: JSON.stringify({
        providers: [
          { id: "local", openai, models: ["m"] },
          { id: "echo", echo: {} },
        ],
      }),
    });
    client = broker.client();
  });

  afterAll(async () => {
    await broker.close();
    await service[Symbol.asyncDispose]();
  });

  const target = (scope: string, externalId: string) => ({
    case: "key" as const,
    value: { scope, externalId, provider: "local" },
  });

  async function run(scope: string, text: string, internal = false): Promise<void> {
    const reserve = internal ? { reserve: { visibility: Visibility.INTERNAL } } : {};
    await dispatchTurn(client, text, { target: target(scope, "chat"), ...reserve }).ended;
  }

  const today = () => new Date().toISOString().slice(0, 10);

  it("count once, whatever became of them, and stay when the session is deleted", async () => {
    for (const text of ["one", "two", "fail"]) await run("kept", text);
    const row = [`${today()} kept local 3 40/20/0/16/6 -`];
    expect(await usageOf(client, { scope: "kept" })).toEqual(row);
    await client.deleteSession({
      selector: { case: "key", value: target("kept", "chat").value },
      expectedGeneration: 1,
    });
    expect(await usageOf(client, { scope: "kept" })).toEqual(row);
    await broker.restart();
    client = broker.client();
    expect(await usageOf(client, { scope: "kept" })).toEqual(row);
  });

  it("that shall leave no trace do not count", async () => {
    await run("internal", "one", true);
    expect(await usageOf(client, { scope: "internal" })).toEqual([]);
    expect((await client.listSessions({ scope: "internal" })).sessions).toEqual([]);
  });

  it("that waited and never ran do not count", async () => {
    const running = dispatchTurn(client, "hang", { target: target("waiting", "chat") });
    await running.event("textDelta");
    const waiting = dispatchTurn(client, "never", { target: target("waiting", "chat") });
    await waiting.event("accepted");
    await client.cancelTurn({ turnId: waiting.turnId });
    await waiting.ended;
    await client.cancelTurn({ turnId: running.turnId });
    await running.ended;
    expect(await usageOf(client, { scope: "waiting" })).toEqual([`${today()} waiting local 1 0/0/0/0/0 -`]);
  });

  it("agree with the turns that are kept, after kills in the middle of them", async () => {
    for (let life = 0; life < 3; life += 1) {
      const ids = Array.from({ length: 6 }, () => randomUUID());
      const running = ids.map((turnId, index) =>
        dispatchTurn(client, index === 5 ? "hang" : "hello", {
          target: target("killed", `chat-${index}`),
          turnId,
        }),
      );
      // Some have ended by then, one never ends, and of the rest nobody knows.
      await Promise.race(running.slice(0, 5).map(({ ended }) => ended));
      await broker.restart();
      client = broker.client();
    }
    const kept = async () => {
      const { turns } = await client.listTurns({ scope: "killed" });
      return turns.filter(({ fence, endedAt }) => fence > 0n && endedAt !== undefined);
    };
    const tokens = (each: readonly { readonly usage?: Usage | undefined }[]) =>
      sumOf(each.map(({ usage }) => Number(usage?.inputTokens ?? 0)));
    // What waited when the broker was killed runs now; the two are not read at one moment.
    await expect
      .poll(async () => {
        const turns = await kept();
        const { rows } = await client.listUsage({ scope: "killed" });
        return [sumOf(rows.map((row) => row.turns)) - turns.length, tokens(rows) - tokens(turns)];
      })
      .toEqual([0, 0]);
    const turns = await kept();
    expect(turns.some(({ state }) => state === TurnState.INTERRUPTED)).toBe(true);
    expect(tokens(turns)).toBeGreaterThan(0);
  });
});
