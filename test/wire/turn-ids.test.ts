/** Turn ids that outlive their turns. */
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { SessionState } from "../../gen/sessionbroker/v1/session_pb.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

const day = 24 * 3_600_000;
const key = { scope: "acme", externalId: "chat", provider: "echo" };

let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock);
});

afterEach(() => broker.close());

/** The answer of a turn, or the reason of its refusal. */
async function run(turnId: string, text: string): Promise<string> {
  const request = {
    target: { case: "key" as const, value: key },
    turnId,
    input: [{ part: { case: "text" as const, value: text } }],
  };
  try {
    for await (const { event } of broker.client.dispatch(request)) {
      if (event?.event.case === "completed") return event.event.value.text;
    }
    return "";
  } catch (error) {
    const { code, details } = ConnectError.from(error);
    expect([Code.FailedPrecondition, Code.AlreadyExists]).toContain(code);
    expect(details.length).toBeGreaterThan(0);
    return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason ?? "";
  }
}

it("a retry of a turn that was deleted with its session does not run again, for a week", async () => {
  expect(await run("first", "hello")).toBe("turn 1: hello");
  await broker.client.deleteSession({ selector: { case: "key", value: key }, idempotencyKey: "d" });
  expect(await run("first", "hello")).toBe("TURN_DELETED");
  expect(await run("first", "something else")).toBe("TURN_ID_REUSED");
  await broker.restart();
  clock.advance(7 * day);
  expect(await run("first", "hello")).toBe("TURN_DELETED");
  clock.advance(1);
  expect(await run("first", "hello")).toBe("turn 1: hello");
});

it("the same holds for a session that was purged", async () => {
  await run("first", "hello");
  clock.advance(2 * day);
  const { purged } = await broker.client.prune({
    scope: "acme",
    olderThan: { seconds: 86_400n },
    purge: true,
    states: [SessionState.ACTIVE],
  });
  expect(purged).toBe(1);
  expect(await run("first", "hello")).toBe("TURN_DELETED");
});

it("another scope has its own turn ids", async () => {
  await run("first", "hello");
  await broker.client.deleteSession({ selector: { case: "key", value: key }, idempotencyKey: "d" });
  const elsewhere = { ...key, scope: "beta" };
  const request = {
    target: { case: "key" as const, value: elsewhere },
    turnId: "first",
    input: [{ part: { case: "text" as const, value: "hi" } }],
  };
  const cases: (string | undefined)[] = [];
  for await (const { event } of broker.client.dispatch(request)) cases.push(event?.event.case);
  expect(cases.at(-1)).toBe("completed");
});
