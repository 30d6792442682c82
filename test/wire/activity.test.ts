/** Activity that is written behind the answers counts from the moment of the answer. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const config = `
scopes:
  - pattern: idle
    resetPolicy: { idle: 100s }
`;
const second = 1_000;

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, config);
});

afterEach(() => broker.close());

const key = (externalId: string, scope = "acme") => ({ scope, externalId, provider: "echo" });

async function writtenActivity(externalId: string, scope = "acme"): Promise<number> {
  const { session } = await broker.client.getSession({
    selector: { case: "key", value: key(externalId, scope) },
  });
  return session?.lastActivityAt === undefined ? 0 : timestampMs(session.lastActivityAt);
}

it("a session that was just used is not idle to Prune, whatever its row says", async () => {
  await broker.client.reserve({ key: key("used") });
  await broker.client.reserve({ key: key("unused") });
  clock.advance(50 * second);
  await broker.client.reserve({ key: key("used") });
  expect(await writtenActivity("used")).toBe(clock.now() - 50 * second);
  clock.advance(5 * second);
  const report = await broker.client.prune({ olderThan: { seconds: 10n } });
  expect(report.rows.map((row) => row.key?.externalId)).toEqual(["unused"]);
});

it("nor is it stale to Reserve, on the path that reads and on the one that writes", async () => {
  for (const chat of ["read", "written"]) await broker.client.reserve({ key: key(chat, "idle") });
  clock.advance(9 * second);
  for (const chat of ["read", "written"]) await broker.client.reserve({ key: key(chat, "idle") });
  clock.advance(95 * second);
  expect((await broker.client.reserve({ key: key("read", "idle") })).outcome).toBe(Outcome.EXISTING);
  const written = await broker.client.reserve({ key: key("written", "idle"), labels: { a: "b" } });
  expect(written.outcome).toBe(Outcome.EXISTING);
  clock.advance(101 * second);
  expect((await broker.client.reserve({ key: key("read", "idle") })).outcome).toBe(Outcome.ROTATED);
});

it("activity is written after a tenth of the idle time, or a minute without one", async () => {
  const startMs = clock.now();
  await broker.client.reserve({ key: key("slow") });
  await broker.client.reserve({ key: key("quick", "idle") });
  await broker.client.reserve({
    key: key("own"),
    resetPolicy: { idle: { seconds: 50n } },
  });
  clock.advance(1 * second);
  for (const [chat, scope] of [["slow"], ["quick", "idle"], ["own"]] as const) {
    await broker.client.reserve({ key: key(chat, scope) });
  }
  const all = async () => [
    await writtenActivity("slow"),
    await writtenActivity("quick", "idle"),
    await writtenActivity("own"),
  ];
  const [before, after] = [startMs, startMs + second];
  clock.advance(4 * second);
  await vi.waitFor(async () => expect(await all()).toEqual([before, before, after]), 10_000);
  clock.advance(5 * second);
  await vi.waitFor(async () => expect(await all()).toEqual([before, after, after]), 10_000);
  clock.advance(50 * second);
  await vi.waitFor(async () => expect(await all()).toEqual([after, after, after]), 10_000);
}, 60_000);

it("activity that was not written yet is written when the broker stops", async () => {
  await broker.client.reserve({ key: key("kept") });
  clock.advance(50 * second);
  await broker.client.reserve({ key: key("kept") });
  await broker.restart();
  expect(await writtenActivity("kept")).toBe(clock.now());
});
