import { afterAll, beforeAll, expect, it } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { TestBroker } from "../support/broker.js";

let broker: TestBroker;

beforeAll(async () => {
  broker = await TestBroker.start();
});

afterAll(() => broker.close());

const rounds = 100;
const perRound = 400;

it(`keeps every acknowledged reservation over ${rounds} kills under load`, async () => {
  const acknowledged = new Map<string, string>();
  const reserve = async (externalId: string) => {
    const key = { scope: "crash", externalId, provider: "echo" };
    const { session } = await client.reserve({ key });
    acknowledged.set(externalId, session?.sessionId ?? "");
  };
  let client = broker.client("connect-h2");
  for (let round = 0; round < rounds; round++) {
    const load = Array.from({ length: perRound }, (_, i) => reserve(`${round}-${i}`).catch(() => {}));
    // Killed in the middle of the answers, later in each round.
    while (acknowledged.size < round * 10 + 1 && (await isAnyPending(load)));
    await broker.restart("SIGKILL");
    await Promise.all(load);
    client = broker.client("connect-h2");
  }
  expect(acknowledged.size).toBeGreaterThan(rounds);
  const entries = [...acknowledged];
  for (let from = 0; from < entries.length; from += 200) {
    await Promise.all(
      entries.slice(from, from + 200).map(async ([externalId, sessionId]) => {
        const answer = await client.reserve({ key: { scope: "crash", externalId, provider: "echo" } });
        expect([answer.outcome, answer.session?.sessionId]).toEqual([Outcome.EXISTING, sessionId]);
      }),
    );
  }
}, 400_000);

async function isAnyPending(load: readonly Promise<unknown>[]): Promise<boolean> {
  const pending = Symbol();
  await new Promise((resolve) => setImmediate(resolve));
  const states = await Promise.all(load.map((each) => Promise.race([each, Promise.resolve(pending)])));
  return states.includes(pending);
}
