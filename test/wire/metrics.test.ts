/** What Prometheus is shown, by a broker in this process and by a real one. */
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SessionState, Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const config = `
providers:
  - id: echo
    echo: {}
  - id: counted
    echo: {}
  - id: slow
    echo: { delay: 3600s }
    maxRunning: 1
scopes:
  - pattern: idle
    resetPolicy: { idle: 60s }
`;
const idleMs = 61_000;
/** Counts of turns follow their last event. */
const patient = { timeout: 20_000 };
const service = "sessionbroker.v1.SessionBroker";

const key = (scope: string, externalId: string, provider = "echo") => ({ scope, externalId, provider });
const byKey = (...names: Parameters<typeof key>) => ({ case: "key" as const, value: key(...names) });
const say = (text: string) => [{ part: { case: "text" as const, value: text } }];

/** Samples that are not 0, by name and labels. */
async function samples(url: string): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(url)).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const all = lines.map((line): [string, number] => {
    const space = line.lastIndexOf(" ");
    return [line.slice(0, space), Number(line.slice(space + 1))];
  });
  return new Map(all.filter(([, value]) => value !== 0));
}

describe("a broker with a clock that is moved by hand", () => {
  const clock = new ManualClock(Date.UTC(2026, 0, 1));
  let setForwardMs = 0;
  let broker: InProcessBroker;
  let client: BrokerClient;
  let url: string;

  beforeAll(async () => {
    broker = await InProcessBroker.start(
      { ...clock, now: () => clock.now() + setForwardMs, after: clock.after },
      config,
      "127.0.0.1:0",
    );
    client = broker.client;
    url = broker.metricsUrl ?? "";
  });

  afterAll(() => broker.close());

  const value = async (name: string) => (await samples(url)).get(`session_broker_${name}`) ?? 0;

  const becomes = (name: string, expected: number) => expect.poll(() => value(name), patient).toBe(expected);

  /** What some work has added to the metrics of a name, by labels. */
  async function added(name: string, work: () => Promise<unknown>): Promise<Record<string, number>> {
    const before = await samples(url);
    await work();
    const prefix = `session_broker_${name}`;
    const changes = [...(await samples(url))].flatMap(([sample, now]) =>
      sample.startsWith(prefix) && now !== before.get(sample)
        ? [[sample.slice(prefix.length), now - (before.get(sample) ?? 0)]]
        : [],
    );
    return Object.fromEntries(changes);
  }

  async function run(request: Parameters<BrokerClient["dispatch"]>[0]): Promise<string | undefined> {
    let last: string | undefined;
    for await (const { event } of client.dispatch(request)) last = event?.event.case;
    return last;
  }

  describe("counts a rotation once", () => {
    it("by Reserve, however often it is told", async () => {
      const reserve = () => client.reserve({ key: key("idle", "reserved") });
      await reserve();
      clock.advance(idleMs);
      const reserved = () => added("reservations_total", async () => [await reserve(), await reserve()]);
      let outcomes = {};
      const rotations = await added("rotations_total", async () => {
        outcomes = await reserved();
      });
      expect(rotations).toEqual({ '{reason="idle"}': 1 });
      expect(outcomes).toEqual({ '{outcome="rotated"}': 2 });
      // The turn is the third to be told.
      const turn = { target: byKey("idle", "reserved"), input: say("hello") };
      expect(await added("rotations_total", () => run(turn))).toEqual({});
    });

    it("by Reserve with an idempotency key that is sent again", async () => {
      await client.reserve({ key: key("idle", "replayed") });
      clock.advance(idleMs);
      const reserve = () => client.reserve({ key: key("idle", "replayed"), idempotencyKey: "again" });
      expect(await added("rotations_total", reserve)).toEqual({ '{reason="idle"}': 1 });
      expect(await added("rotations_total", reserve)).toEqual({});
    });

    it("by Reserve that names another session id", async () => {
      await client.reserve({ key: key("acme", "explicit") });
      const rebind = { key: key("acme", "explicit"), sessionId: "mine", expectedGeneration: 1 };
      const first = () => client.reserve({ ...rebind, idempotencyKey: "explicit" });
      expect(await added("rotations_total", first)).toEqual({ '{reason="explicit_reset"}': 1 });
      expect(await added("rotations_total", first)).toEqual({});
      const { expectedGeneration: _, ...again } = rebind;
      expect(await added("rotations_total", () => client.reserve(again))).toEqual({});
    });

    it("by Dispatch", async () => {
      const turn = { target: byKey("idle", "dispatched"), input: say("hello") };
      await run(turn);
      clock.advance(idleMs);
      const second = () => run({ ...turn, turnId: "second" });
      expect(await added("rotations_total", second)).toEqual({ '{reason="idle"}': 1 });
      expect(await added("rotations_total", second)).toEqual({});
      expect(await added("rotations_total", () => run(turn))).toEqual({});
    });

    it("by ResetSession", async () => {
      await client.reserve({ key: key("acme", "reset") });
      const reset = () =>
        client.resetSession({ selector: byKey("acme", "reset"), idempotencyKey: "reset once" });
      expect(await added("rotations_total", reset)).toEqual({ '{reason="explicit_reset"}': 1 });
      expect(await added("rotations_total", reset)).toEqual({});
    });

    it("after a Prune, which is counted as well", async () => {
      await client.reserve({ key: key("pruned", "pruned") });
      clock.advance(1_000);
      const criterion = { scope: "pruned", olderThan: { nanos: 1_000_000 } };
      const prune = (more = {}) => client.prune({ ...criterion, ...more });
      expect(await added("pruned_sessions_total", () => prune({ dryRun: true }))).toEqual({});
      expect(await added("pruned_sessions_total", prune)).toEqual({ '{action="archived"}': 1 });
      const reserve = () => client.reserve({ key: key("pruned", "pruned") });
      expect(await added("rotations_total", reserve)).toEqual({ '{reason="pruned"}': 1 });
      clock.advance(1_000);
      const purge = () => prune({ purge: true, states: [SessionState.RESERVED, SessionState.ARCHIVED] });
      expect(await added("pruned_sessions_total", purge)).toEqual({ '{action="purged"}': 2 });
    });
  });

  it("an internal reservation that nothing remembers is ephemeral", async () => {
    const reserve = () => client.reserve({ key: key("acme", "internal"), visibility: Visibility.INTERNAL });
    expect(await added("reservations_total", reserve)).toEqual({ '{outcome="ephemeral"}': 1 });
  });

  it("a turn is counted with its times", async () => {
    expect(await run({ target: byKey("acme", "counted", "counted"), input: say("two words") })).toBe(
      "completed",
    );
    await becomes('turns_total{provider="counted",ending="completed"}', 1);
    for (const time of ["queue", "first_text", "duration"])
      expect(await value(`turn_${time}_seconds_count{provider="counted"}`)).toBe(1);
  });

  it("turns are seen while they run and while they wait, and are counted however they end", async () => {
    const chat = byKey("acme", "busy", "slow");
    const start = (turnId: string, more = {}) => run({ target: chat, turnId, input: say("hello"), ...more });
    const running = start("running");
    const waiting = start("waiting");
    await becomes('turns_running{provider="slow"}', 1);
    await becomes('turns_waiting{provider="slow"}', 1);
    expect(await value('turns_waiting{provider="echo"}')).toBe(0);
    await client.cancelTurn({ turnId: "waiting" });
    expect(await waiting).toBe("cancelled");
    await becomes('turns_total{provider="slow",ending="cancelled"}', 1);
    expect(await start("late", { queueTimeout: { nanos: 1_000_000 } })).toBe("failed");
    await becomes('turns_total{provider="slow",ending="failed"}', 1);
    expect(await value('turn_failures_total{provider="slow",code="queue_timeout"}')).toBe(1);
    await client.cancelTurn({ turnId: "running" });
    expect(await running).toBe("cancelled");
    await becomes('turns_total{provider="slow",ending="cancelled"}', 2);
    await becomes('turns_running{provider="slow"}', 0);
    expect(await value('turns_waiting{provider="slow"}')).toBe(0);
    // Of the three only one was started.
    expect(await value('turn_queue_seconds_count{provider="slow"}')).toBe(1);
  });

  it("RPCs are counted by method and code, streams when they end", async () => {
    const rpcs = (method: string, code: string) =>
      value(`rpcs_total{method="${service}/${method}",code="${code}"}`);
    await expect(client.getTurn({ turnId: "none" })).rejects.toThrow();
    expect(await rpcs("GetTurn", "not_found")).toBe(1);
    expect(await value('rpc_errors_total{reason="turn_not_found"}')).toBe(1);
    expect(await value(`rpc_duration_seconds_count{method="${service}/GetTurn"}`)).toBe(1);
    const leave = new AbortController();
    const watching = (async () => {
      for await (const _ of client.watchSessions({}, { signal: leave.signal })) leave.abort();
    })();
    await expect(watching).rejects.toThrow();
    await expect.poll(() => rpcs("WatchSessions", "canceled"), patient).toBe(1);
    await expect(
      (async () => {
        for await (const _ of client.attach({ turnId: "none" }));
      })(),
    ).rejects.toThrow();
    expect(await rpcs("Attach", "not_found")).toBe(1);
    await expect(
      (async () => {
        for await (const _ of client.backup({ name: "latest" }));
      })(),
    ).rejects.toThrow();
    expect(await rpcs("Backup", "invalid_argument")).toBe(1);
  });

  it("the store is shown", async () => {
    const { store } = await client.getServerInfo({});
    expect(await value("sessions_live")).toBeGreaterThan(0);
    await becomes("sessions_live", Number(store?.sessions));
    expect(await value("store_bytes")).toBeGreaterThanOrEqual(Number(store?.bytes));
    const commands = () => client.reserve({ key: key("acme", "one more") });
    expect(await added("store_commit_seconds_count", commands)).toEqual({ "": expect.any(Number) });
    expect(await value("store_commands_total")).toBeGreaterThanOrEqual(
      await value("store_commit_seconds_count"),
    );
  });

  it("a clock that is set is seen", async () => {
    expect(await value("clock_jumps_total")).toBe(0);
    setForwardMs = 600_000;
    await client.reserve({ key: key("acme", "later") });
    await becomes("clock_jumps_total", 1);
  });
});

describe("a broker that shows metrics", () => {
  let broker: TestBroker;

  beforeAll(async () => {
    broker = await TestBroker.start({ config, metrics: true });
  });

  afterAll(() => broker.close());

  it("shows those of the process as well, and which version it is", async () => {
    const { version } = await broker.client().getServerInfo({});
    const shown = await samples(broker.metricsUrl);
    expect(shown.get(`session_broker_build_info{version="${version}"}`)).toBe(1);
    expect(shown.has("process_resident_memory_bytes")).toBe(true);
  });

  it("calls what is no method other, and shows nothing that a caller has made up", async () => {
    const admin = broker.client("connect");
    const chat = key("madeup/scope", "madeup external id");
    const reserve = { aliases: ["madeup alias"], labels: { madeup: "madeup" } };
    await admin.reserve({ key: chat, ...reserve, idempotencyKey: "madeup", sessionId: "madeup-session" });
    const turn = {
      target: { case: "key" as const, value: chat },
      turnId: "madeup-turn",
      responseId: "madeup",
    };
    const words = {
      input: say("madeup prompt"),
      labels: { madeup: "madeup" },
      model: "madeup-model",
      reserve,
    };
    for await (const _ of admin.dispatch({ ...turn, ...words }));
    for await (const _ of broker.client("grpc").attach({ turnId: "madeup-turn" }));
    await expect(admin.reserve({ key: key("madeup", "madeup", "madeup-provider") })).rejects.toThrow();
    await expect(broker.client("grpc-web", "madeup-token").listSessions({})).rejects.toThrow();
    const paths = [`${service}/MadeUp`, "madeup.v1.MadeUp/MadeUp", "madeup", `${service}/Reserve/madeup`];
    for (const path of paths) {
      const headers = { "content-type": "application/madeup", "user-agent": "madeup" };
      const { status } = await fetch(`${broker.url}/${path}`, { method: "POST", headers, body: "madeup" });
      expect(status).toBe(404);
    }
    const shown = await samples(broker.metricsUrl);
    expect(shown.get('session_broker_rpcs_total{method="other",code="unimplemented"}')).toBe(paths.length);
    expect(shown.get('session_broker_rpc_errors_total{reason="unauthenticated"}')).toBe(1);
    expect(shown.get(`session_broker_rpcs_total{method="${service}/Dispatch",code="ok"}`)).toBe(1);
    const text = await (await fetch(broker.metricsUrl)).text();
    expect(text).not.toMatch(/madeup/i);
  });

  it("counts the turns that a crash has cut short", async () => {
    const client = broker.client();
    const turn = { target: byKey("acme", "cut short", "slow"), input: say("hello"), turnId: "cut-short" };
    const reading = (async () => {
      for await (const _ of client.dispatch(turn));
    })();
    const shown = async () => (await fetch(broker.metricsUrl)).text();
    await expect.poll(shown, patient).toContain('session_broker_turn_queue_seconds_count{provider="slow"} 1');
    await Promise.all([broker.restart(), expect(reading).rejects.toThrow()]);
    expect(
      (await samples(broker.metricsUrl)).get(
        'session_broker_turns_total{provider="slow",ending="interrupted"}',
      ),
    ).toBe(1);
  });

  it("does not start where its port is taken, and says so", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const { port } = holder.address() as { port: number };
    const other = new TestBroker();
    try {
      const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
      const address = `127.0.0.1:${port}`;
      const args = ["serve", "--data", other.data, "--listen", "127.0.0.1:0", "--metrics-listen", address];
      const { exitCode, stdout, stderr } = await execa(process.execPath, [main, ...args], { reject: false });
      expect([exitCode, stdout]).toEqual([1, ""]);
      expect(stderr).toBe(
        `session-broker: cannot listen on ${address} (metrics_listen): another process listens there; stop it or choose another address`,
      );
    } finally {
      holder.close();
      await other.close();
    }
  });
});

it("a broker that is told off shows no metrics", async () => {
  const broker = await TestBroker.start({ environment: { SESSION_BROKER_METRICS_LISTEN: "127.0.0.1:1" } });
  try {
    expect(broker.output.join("")).toMatch(/session-broker listens on .*token\n$/);
    expect(() => broker.metricsUrl).toThrow("shows no metrics");
    expect((await fetch(`${broker.url}/metrics`)).status).toBe(404);
  } finally {
    await broker.close();
  }
});
