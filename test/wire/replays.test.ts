/** Repeats of a call with the same idempotency key. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { detailOf, reasonOf } from "../support/answers.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const day = 24 * 3_600_000;

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, "maintenance: { every: 1s }");
});

afterEach(() => broker.close());

const key = (externalId = "chat", scope = "acme") => ({ scope, externalId, provider: "echo" });
const byKey = (externalId?: string) => ({ case: "key" as const, value: key(externalId) });
const idempotencyKey = "again";

describe("Reserve", () => {
  it("is answered the same for 24 hours, across a restart, and then anew", async () => {
    const request = { key: key(), idempotencyKey };
    const first = await broker.client.reserve(request);
    expect(first.outcome).toBe(Outcome.CREATED);
    expect((await broker.client.reserve({ key: key() })).outcome).toBe(Outcome.EXISTING);
    await broker.restart();
    clock.advance(day);
    expect(await broker.client.reserve(request)).toEqual(first);
    clock.advance(1);
    expect((await broker.client.reserve(request)).outcome).toBe(Outcome.EXISTING);
  });

  it("with another payload is ALREADY_EXISTS, until the first is forgotten", async () => {
    await broker.client.reserve({ key: key(), idempotencyKey });
    const other = { key: key("another"), idempotencyKey };
    expect(await reasonOf(broker.client.reserve(other))).toBe("AlreadyExists IDEMPOTENCY_KEY_REUSED");
    clock.advance(day + 1);
    expect((await broker.client.reserve(other)).outcome).toBe(Outcome.CREATED);
  });

  it("that was refused may fare better the next time", async () => {
    await broker.client.reserve({ key: key("owner"), aliases: ["taken"] });
    const request = { key: key(), aliases: ["taken"], idempotencyKey };
    expect(await reasonOf(broker.client.reserve(request))).toBe("AlreadyExists ALIAS_TAKEN");
    await broker.client.deleteSession({ selector: byKey("owner") });
    expect((await broker.client.reserve(request)).outcome).toBe(Outcome.CREATED);
  });

  it("has its keys in each scope, apart from those of other calls", async () => {
    for (const scope of ["acme", "beta"]) {
      const answer = await broker.client.reserve({ key: key("chat", scope), idempotencyKey });
      expect(answer.outcome).toBe(Outcome.CREATED);
    }
    await broker.client.resetSession({ selector: byKey(), idempotencyKey });
  });

  it("at once and many times over creates once and tells each of them so", async () => {
    const request = { key: key(), idempotencyKey };
    const answers = await Promise.all(Array.from({ length: 20 }, () => broker.client.reserve(request)));
    expect(new Set(answers.map(({ outcome }) => outcome))).toEqual(new Set([Outcome.CREATED]));
    expect(new Set(answers.map(({ session }) => session?.sessionId)).size).toBe(1);
    const others = await Promise.all(
      Array.from({ length: 20 }, () => broker.client.reserve({ key: key("plain") })),
    );
    expect(others.filter(({ outcome }) => outcome === Outcome.CREATED)).toHaveLength(1);
  });
});

describe("a change of a session", () => {
  const calls = {
    Bind: () =>
      broker.client.bind({
        selector: byKey(),
        nativeId: "n-1",
        expectedGeneration: 1,
        expectedNativeId: "",
        idempotencyKey,
      }),
    ResetSession: () => broker.client.resetSession({ selector: byKey(), idempotencyKey }),
    PinSession: () => broker.client.pinSession({ selector: byKey(), pinned: true, idempotencyKey }),
  };

  it.each(Object.entries(calls))(
    "by %s is done once, and refused once it is out of date",
    async (_, call) => {
      await broker.client.reserve({ key: key() });
      const first = await call();
      expect(await call()).toEqual(first);
      const { session } = await broker.client.getSession({ selector: byKey() });
      expect(session?.generation).toBe(first.session?.generation);
      const generation = session?.generation ?? 0;
      await broker.client.resetSession({ selector: byKey(), expectedGeneration: generation });
      expect(await reasonOf(call())).toBe("Aborted REPLAY_OUTDATED");
      expect(await detailOf(call())).toEqual({ generation: String(generation + 1) });
      await broker.client.deleteSession({ selector: byKey() });
      expect(await reasonOf(call())).toBe("Aborted REPLAY_OUTDATED");
    },
  );

  it("by DeleteSession is done once: a session made since is not deleted by a retry", async () => {
    await broker.client.reserve({ key: key() });
    const request = { selector: byKey(), idempotencyKey };
    const first = await broker.client.deleteSession(request);
    await broker.client.reserve({ key: key() });
    expect(await broker.client.deleteSession(request)).toEqual(first);
    expect(await reasonOf(broker.client.getSession({ selector: byKey() }))).toBe("none");
  });

  it.each(["bind", "resetSession", "pinSession", "deleteSession"] as const)(
    "by %s of another generation is refused with the current one",
    async (method) => {
      await broker.client.reserve({ key: key() });
      const call = broker.client[method]({ selector: byKey(), expectedGeneration: 7 });
      expect(await reasonOf(call)).toBe("FailedPrecondition STALE_GENERATION");
      expect(await detailOf(call)).toMatchObject({ generation: "1" });
    },
  );

  it("by ResetSession needs something that keeps a retry from resetting twice", async () => {
    await broker.client.reserve({ key: key() });
    expect(await reasonOf(broker.client.resetSession({ selector: byKey() }))).toBe(
      "InvalidArgument INVALID_FIELD",
    );
  });
});
