import { setMaxListeners } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Selected_Match } from "../../gen/sessionbroker/v1/selection_pb.js";
import { Outcome, RotationReason, Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import { type BrokerClient, type Protocol, TestBroker } from "../support/broker.js";

setMaxListeners(0);

let broker: TestBroker;

beforeAll(async () => {
  broker = await TestBroker.start();
});

afterAll(() => broker.close());

const key = (externalId: string, scope = "acme") => ({ scope, externalId, provider: "echo" });

describe.each(["connect", "connect-h2", "grpc", "grpc-web"] as const)("over %s", (protocol: Protocol) => {
  it("reserves once and finds the session by every id", async () => {
    const client = broker.client(protocol);
    const chat = key(`чат 日本 😀 ${protocol}`);
    const created = await client.reserve({ key: chat, aliases: [`other ${protocol}`] });
    const again = await client.reserve({ key: chat });
    const sessionId = created.session?.sessionId ?? "";
    expect(created.outcome).toBe(Outcome.CREATED);
    expect(again.outcome).toBe(Outcome.EXISTING);
    expect(again.session?.sessionId).toBe(sessionId);
    for (const selector of [
      { case: "key", value: chat },
      { case: "sessionId", value: sessionId },
      { case: "shortId", value: sessionId.slice(0, 8) },
      { case: "alias", value: `other ${protocol}` },
      { case: "turnId", value: sessionId },
    ] as const) {
      const { selection } = await client.resolveSelection({ selector });
      expect(selection.case).toBe("selected");
      if (selection.case !== "selected") continue;
      expect(selection.value.session?.sessionId).toBe(sessionId);
      expect(selection.value.match).toBe(Selected_Match.EXACT);
      expect(selection.value.storeKey).toBe(chat.externalId);
    }
  });
});

describe("Reserve", () => {
  it("leaves nothing behind with INTERNAL visibility", async () => {
    const client = broker.client();
    const chat = key("hand-off");
    const answer = await client.reserve({ key: chat, visibility: Visibility.INTERNAL });
    expect(answer.outcome).toBe(Outcome.EPHEMERAL);
    const { selection } = await client.resolveSelection({ selector: { case: "key", value: chat } });
    expect(selection.case).toBe("none");
    const byId = await client.resolveSelection({
      selector: { case: "sessionId", value: answer.session?.sessionId ?? "" },
    });
    expect(byId.selection.case).toBe("none");
    expect((await client.reserve({ key: chat })).outcome).toBe(Outcome.CREATED);
  });

  it("binds a key to an explicit id, and refuses another on a live session", async () => {
    const client = broker.client();
    const chat = key("explicit");
    const bound = await client.reserve({ key: chat, sessionId: "sess-1" });
    expect(bound).toMatchObject({
      outcome: Outcome.EXPLICIT,
      session: { sessionId: "sess-1", generation: 1 },
    });
    expect((await client.reserve({ key: chat, sessionId: "sess-1" })).outcome).toBe(Outcome.EXPLICIT);
    await expect(client.reserve({ key: chat, sessionId: "sess-2" })).rejects.toThrow("expected_generation");
    const rebound = await client.reserve({ key: chat, sessionId: "sess-2", expectedGeneration: 1 });
    expect(rebound).toMatchObject({
      outcome: Outcome.EXPLICIT,
      session: { sessionId: "sess-2", generation: 2 },
    });
  });

  it("answers an idempotency key the same for the same request, and refuses it for another", async () => {
    const client = broker.client();
    const request = { key: key("replayed"), idempotencyKey: "i-1" };
    const first = await client.reserve(request);
    expect(first.outcome).toBe(Outcome.CREATED);
    expect(await client.reserve(request)).toEqual(first);
    await expect(client.reserve({ ...request, labels: { a: "b" } })).rejects.toThrow("idempotency_key");
  });

  it("says that a pruned session was replaced until its first turn, and that a purged one was purged", async () => {
    const client = broker.client();
    const chat = key("to be pruned", "prunable");
    const first = await client.reserve({ key: chat });
    expect(await client.prune({ scope: "prunable", maxSessions: 1 })).toMatchObject({ archived: 0 });
    await client.reserve({ key: key("newer", "prunable") });
    const report = await client.prune({ scope: "prunable", maxSessions: 1 });
    expect(report.rows.map((row) => row.key?.externalId)).toEqual([chat.externalId]);
    for (const _ of [1, 2]) {
      expect(await client.reserve({ key: chat })).toMatchObject({
        outcome: Outcome.ROTATED,
        rotationReason: RotationReason.PRUNED,
        session: { previousSessionId: first.session?.sessionId },
      });
    }
  });

  it("says that a purged session is gone until the first turn of the next, and once that it was created", async () => {
    const client = broker.client();
    const chat = key("to be purged", "purgeable");
    await client.reserve({ key: chat });
    await client.deleteSession({ selector: { case: "key", value: chat }, idempotencyKey: "purge it" });
    const answers = [await client.reserve({ key: chat }), await client.reserve({ key: chat })];
    const rotationReason = RotationReason.PURGED;
    expect(answers).toMatchObject([
      { outcome: Outcome.CREATED, rotationReason },
      { outcome: Outcome.EXISTING, rotationReason },
    ]);
    const target = { case: "key" as const, value: chat };
    const input = [{ part: { case: "text" as const, value: "hi" } }];
    const accepted = [];
    for (const _ of [1, 2]) {
      for await (const { event } of client.dispatch({ target, input })) {
        if (event?.event.case === "accepted") accepted.push(event.event.value);
      }
    }
    expect(accepted).toMatchObject([
      { outcome: Outcome.EXISTING, rotationReason },
      { outcome: Outcome.EXISTING, rotationReason: RotationReason.UNSPECIFIED },
    ]);
  });

  it("spells agent keys in one way and tells store key and request key apart", async () => {
    const client = broker.client();
    const scope = "acme/openclaw";
    const upper = await client.reserve({ key: key("AGENT:Retired:ACP:run-1", scope), sessionId: "run-1" });
    expect(upper.session?.key?.externalId).toBe("agent:retired:acp:run-1");
    const lower = await client.reserve({ key: key("agent:retired:acp:run-1", scope) });
    expect(lower.session?.sessionId).toBe("run-1");
    for (const _ of [1, 2]) {
      const { selection } = await client.resolveSelection({ selector: { case: "turnId", value: "run-1" } });
      expect(selection.value).toMatchObject({ storeKey: "agent:retired:acp:run-1", requestKey: "acp:run-1" });
    }
    await expect(client.reserve({ key: key("agent:retired:", scope) })).rejects.toThrow("key.external_id");
  });
});

describe("many clients at once", () => {
  it("64 clients reserve each of 200 keys in three lives of the broker: one id and one CREATED a key", async () => {
    const clients: BrokerClient[] = Array.from({ length: 64 }, () => broker.client("connect-h2"));
    const ids = new Map<string, Set<string>>();
    const created = new Map<string, number>();
    for (let life = 0; life < 3; life++) {
      const keys = Array.from({ length: 200 }, (_, i) => `contended-${i}`);
      await Promise.all(
        clients.map(async (client, offset) => {
          const order = [...keys.slice(offset), ...keys.slice(0, offset)];
          await Promise.all(
            order.map(async (externalId) => {
              const { session, outcome } = await client.reserve({ key: key(externalId) });
              const known = ids.get(externalId) ?? new Set();
              ids.set(externalId, known.add(session?.sessionId ?? ""));
              if (outcome === Outcome.CREATED) created.set(externalId, (created.get(externalId) ?? 0) + 1);
            }),
          );
        }),
      );
      await broker.restart(life === 0 ? "SIGKILL" : "SIGTERM");
    }
    expect([...ids.values()].every((known) => known.size === 1)).toBe(true);
    expect(created.size).toBe(200);
    expect([...created.values()].every((count) => count === 1)).toBe(true);
  }, 240_000);
});
