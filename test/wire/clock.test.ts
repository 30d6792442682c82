/** What the age of a session decides, while the wall clock cannot be believed. */
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Outcome, RotationReason, SessionState } from "../../gen/sessionbroker/v1/session_pb.js";
import { InProcessBroker } from "../support/in-process.js";
import { PartingClock } from "../support/parting-clock.js";

const config = `
scopes:
  - pattern: aging
    resetPolicy: { idle: 600s, daily: { hour: 4 } }
maintenance: { archiveAfter: 86400s, purgeAfter: 0s, every: 1s }
`;
const hour = 3_600_000;
const day = 24 * hour;

let clock: PartingClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new PartingClock(Date.UTC(2026, 0, 1, 12));
  broker = await InProcessBroker.start(clock, config);
});

afterEach(() => broker.close());

const key = (externalId: string, scope = "aging") => ({ scope, externalId, provider: "echo" });
const byKey = (externalId: string, scope?: string) => ({
  case: "key" as const,
  value: key(externalId, scope),
});

const outcomeOf = async (externalId: string) => {
  const { outcome, rotationReason } = await broker.client.reserve({ key: key(externalId) });
  return [Outcome[outcome], RotationReason[rotationReason]];
};

it("a session whose time has passed is rotated", async () => {
  await outcomeOf("idle");
  clock.advance(hour);
  expect(await outcomeOf("idle")).toEqual(["ROTATED", "IDLE"]);
});

it("a jump of the wall clock rotates nothing, until it has been steady for an hour", async () => {
  await outcomeOf("idle");
  clock.jump(3 * day);
  expect(await outcomeOf("idle")).toEqual(["EXISTING", "UNSPECIFIED"]);
  clock.advance(hour - 1);
  const written = await broker.client.reserve({ key: key("idle"), labels: { a: "b" } });
  expect(written.outcome).toBe(Outcome.EXISTING);
  clock.advance(1);
  expect(await outcomeOf("idle")).toEqual(["ROTATED", "DAILY"]);
});

it("a turn is no more rotated by it than a reservation", async () => {
  await outcomeOf("spoken");
  clock.jump(3 * day);
  const input = [{ part: { case: "text" as const, value: "hello" } }];
  const outcomes: Outcome[] = [];
  for await (const { event } of broker.client.dispatch({ target: byKey("spoken"), input })) {
    if (event?.event.case === "accepted") outcomes.push(event.event.value.outcome);
  }
  expect(outcomes).toEqual([Outcome.EXISTING]);
});

it("the background archives what is idle, and nothing after a jump until an hour has passed", async () => {
  const state = async (externalId: string) => {
    const { sessions } = await broker.client.listSessions({
      scope: "kept",
      states: [SessionState.RESERVED, SessionState.ARCHIVED],
    });
    return sessions.find((session) => session.key?.externalId === externalId)?.state;
  };
  await broker.client.reserve({ key: key("before", "kept") });
  clock.advance(day + 1);
  await vi.waitFor(async () => expect(await state("before")).toBe(SessionState.ARCHIVED), 10_000);

  await broker.client.reserve({ key: key("after", "kept") });
  clock.jump(2 * day);
  const reads = clock.reads;
  // Each of the two timers asks every second.
  await vi.waitFor(() => expect(clock.reads).toBeGreaterThan(reads + 6), 20_000);
  expect(await state("after")).toBe(SessionState.RESERVED);
  clock.advance(hour);
  await vi.waitFor(async () => expect(await state("after")).toBe(SessionState.ARCHIVED), 10_000);
}, 60_000);

it("a jump is noticed without any request, also if the clock comes back meanwhile", async () => {
  await broker.close();
  broker = await InProcessBroker.start(clock, config.replace("every: 1s", "every: 3600s"));
  await outcomeOf("unseen");
  const noticed = async (byMs: number) => {
    clock.jump(byMs);
    const reads = clock.reads;
    await vi.waitFor(() => expect(clock.reads).toBeGreaterThan(reads + 2), 10_000);
  };
  await noticed(3 * day);
  await noticed(-3 * day);
  clock.advance(hour - 1);
  expect(await outcomeOf("unseen")).toEqual(["EXISTING", "UNSPECIFIED"]);
  clock.advance(hour);
  expect(await outcomeOf("unseen")).toEqual(["ROTATED", "IDLE"]);
}, 60_000);

it("stamps of a clock that ran ahead read as now: the session is fresh, and not idle", async () => {
  clock.jump(30 * day);
  await outcomeOf("ahead");
  clock.jump(-30 * day);
  // The jump is noticed, and then forgiven.
  expect(await outcomeOf("ahead")).toEqual(["EXISTING", "UNSPECIFIED"]);
  clock.advance(2 * hour);
  expect(await outcomeOf("ahead")).toEqual(["EXISTING", "UNSPECIFIED"]);
  const { session } = await broker.client.getSession({ selector: byKey("ahead") });
  expect(Number(session?.lastActivityAt?.seconds) * 1000).toBeGreaterThan(clock.now());
  const pruned = await broker.client.prune({ scope: "aging", olderThan: { seconds: 1n } });
  expect(pruned.rows).toEqual([]);
});

it("of two sessions used in the same millisecond the one changed last is the freshest", async () => {
  const alias = "shared";
  await broker.client.reserve({ key: key("one", "a"), aliases: [alias] });
  await broker.client.reserve({ key: key("two", "b"), aliases: [alias] });
  const selected = async () => {
    const { selection } = await broker.client.resolveSelection({ selector: { case: "alias", value: alias } });
    return selection.case === "selected" ? selection.value.storeKey : selection.case;
  };
  expect(await selected()).toBe("two");
  await broker.client.pinSession({ selector: byKey("one", "a"), pinned: true });
  expect(await selected()).toBe("one");
});
