/**
 * Concurrent calls of several processes on the same keys, some of them while the
 * broker is killed, each history checked for an order in which every answer is
 * right.
 *
 * SESSION_BROKER_HISTORIES: how many without a kill.
 * SESSION_BROKER_HISTORY_SEED: the seed that a failure printed, for the same scripts.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { linearize, type Operation, type Specification } from "./linearizable.js";
import { type Input, type Output, type State, sessionSpecification } from "./session-specification.js";

type History = readonly Operation<Input, Output>[];

interface Plan {
  readonly keys: number;
  /** Of each client, one after the other. */
  readonly scripts: readonly (readonly Step[])[];
}

interface Step {
  /** Claim, name and once are reservations with a session id, an alias, and an idempotency key. */
  readonly method: Input["method"] | "claim" | "name" | "once";
  readonly key: number;
  readonly nativeId: string;
  readonly sessionId: string;
  readonly alias: string;
  readonly once: string;
  /** Expects a generation that the client never saw. */
  readonly stale: boolean;
  /** Turns of the client's event loop to let pass first. */
  readonly wait: number;
}

const histories = Number(process.env.SESSION_BROKER_HISTORIES ?? 1000);
const seed = Number(process.env.SESSION_BROKER_HISTORY_SEED ?? Math.floor(Math.random() * 2 ** 31));
const processes = 4;
const atOnce = 10;
const kills = 10;
const timeoutMs = 240_000 + histories * 200;

let broker: TestBroker;
let clients: readonly ChildProcess[];
let keysUsed = 0;
const recorded: History[] = [];

beforeAll(async () => {
  broker = await TestBroker.start();
  clients = await Promise.all(Array.from({ length: processes }, startClient));
});

afterAll(async () => {
  for (const client of clients) client.disconnect();
  await broker.close();
});

it(
  `answers ${histories} concurrent histories as if they were sequential`,
  async () => {
    const plans = fc.sample(plan, { seed, numRuns: histories });
    for (let from = 0; from < plans.length; from += atOnce) {
      recorded.push(...(await run(plans.slice(from, from + atOnce))));
    }
    for (const [index, history] of recorded.entries()) expectLinearizable(history, `history ${index}`);
    expect(recorded.filter(overlaps).length).toBeGreaterThan(histories / 2);
  },
  timeoutMs,
);

it(
  `loses and invents nothing when it is killed ${kills} times in the middle`,
  async () => {
    const plans = fc.sample(plan, { seed: seed + 1, numRuns: kills * atOnce });
    const moments = fc.sample(fc.integer({ min: 1, max: 60 }), { seed, numRuns: kills });
    let lost = 0;
    for (const [round, moment] of moments.entries()) {
      const killed = afterProgress(moment).then(() => broker.restart("SIGKILL"));
      const some = await run(plans.slice(round * atOnce, (round + 1) * atOnce));
      await killed;
      for (const [index, history] of some.entries()) {
        expectLinearizable(history, `history ${index} of kill ${round}`);
        lost += history.filter(({ output }) => output === undefined).length;
      }
    }
    expect(lost).toBeGreaterThan(0);
  },
  timeoutMs,
);

/** Each makes a right history wrong; undefined where it has nothing to work on. */
const corruptions: Record<string, (history: History) => History | undefined> = {
  "a session that nobody made": (history) => [
    ...history,
    atEnd(
      history,
      { method: "resolve", key: 0 },
      { kind: "session", sessionId: "nobody's", generation: 1, nativeId: "", previous: "" },
    ),
  ],
  "a second CREATED of one id": (history) => {
    // With an idempotency key it would be right.
    const made = history.find(
      ({ input, output }) =>
        output?.kind === "session" &&
        output.outcome === "CREATED" &&
        input.method === "reserve" &&
        input.once === undefined,
    );
    return made?.output && [...history, atEnd(history, made.input, made.output)];
  },
  "a reset that is missing": (history) => {
    const shows = (operation: History[number], id: string) =>
      operation.output?.kind === "session" &&
      (operation.output.sessionId === id || operation.output.previous === id);
    const reset = history.find(
      (operation) =>
        operation.input.method === "reset" &&
        operation.output?.kind === "session" &&
        history.filter((other) => shows(other, sessionIdOf(operation))).length > 1,
    );
    return reset && history.filter((operation) => operation !== reset);
  },
  "a look-up that goes back in time": (history) => {
    const seen = history.find(
      ({ input, output }) => input.method === "reserve" && output?.kind === "session",
    );
    const gone = history.some(({ input }) => input.method === "delete");
    return seen === undefined || gone
      ? undefined
      : [...history, atEnd(history, { method: "resolve", key: seen.input.key }, { kind: "none" })];
  },
};

it.each(Object.entries(corruptions))("would notice %s", (_, corrupt) => {
  const corrupted = recorded.map(corrupt).filter((history) => history !== undefined);
  expect(corrupted.length).toBeGreaterThan(0);
  for (const history of corrupted) expect(linearize(history, sessionSpecification(2))).toBeUndefined();
});

/** Specifications of a broker with a defect; the real one does not fit them. */
const defects: Record<string, Partial<Record<Input["method"], (before: State, after: State) => State>>> = {
  "a reset that keeps the generation": {
    reset: (before, after) => ({
      ...after,
      keys: after.keys.map((key, index) =>
        key.live === undefined
          ? key
          : { ...key, live: { ...key.live, generation: before.keys[index]?.live?.generation ?? 1 } },
      ),
    }),
  },
  "a delete that changes nothing": { delete: (before) => before },
  "a binding that is forgotten": { bind: (before) => before },
  "a reservation that is forgotten": { reserve: (before) => before },
  "an idempotency key that is forgotten": {
    reserve: (before, after) => ({ ...after, replays: before.replays }),
  },
  "an alias that is forgotten": {
    reserve: (_, after) => ({
      ...after,
      keys: after.keys.map((key) =>
        key.live === undefined ? key : { ...key, live: { ...key.live, aliases: [] } },
      ),
    }),
  },
  "a former session that is forgotten": {
    reset: (_, after) => ({ ...after, keys: after.keys.map((key) => ({ ...key, former: [] })) }),
  },
};

it.each(Object.entries(defects))("would notice %s", (_, defect) => {
  const right = sessionSpecification(2);
  const wrong: Specification<State, Input, Output> = {
    ...right,
    step(state, input, output) {
      const after = right.step(state, input, output);
      return after && (defect[input.method]?.(state, after) ?? after);
    },
  };
  expect(recorded.filter((history) => linearize(history, wrong) === undefined).length).toBeGreaterThan(0);
});

const method = fc.constantFrom<Step["method"]>(
  ...(["reserve", "reserve", "resolve", "bind", "bind", "reset", "delete"] as const),
  ...(["claim", "claim", "name", "once", "once", "find"] as const),
);

const step: fc.Arbitrary<Step> = fc.record({
  method,
  key: fc.nat(1),
  nativeId: fc.constantFrom("native-1", "native-2"),
  sessionId: fc.constantFrom("session-1", "session-2"),
  alias: fc.constant("alias"),
  once: fc.constant("once"),
  stale: fc.nat(7).map((chance) => chance === 0),
  wait: fc.nat(3),
});

const plan: fc.Arbitrary<Plan> = fc.record({
  keys: fc.integer({ min: 1, max: 2 }),
  scripts: fc.array(fc.array(step, { minLength: 3, maxLength: 5, size: "max" }), {
    minLength: 3,
    maxLength: processes,
    size: "max",
  }),
});

/** Runs histories at the same time, each on keys that nothing used before. */
async function run(plans: readonly Plan[]): Promise<History[]> {
  const places = plans.map((each) => Array.from({ length: each.keys }, freshKey));
  // Ids are found in all of the scope, and a history has its own.
  const named = (index: number, id: string) => `${places[index]?.[0]?.externalId}-${id}`;
  const answers = clients.map((client, number) =>
    ask<{ histories: Omit<Operation<Input, Output>, "client">[][] }>(client, "done", {
      kind: "run",
      scripts: plans.map(({ keys, scripts }, index) => ({
        keys: places[index],
        steps: (scripts[number] ?? []).map((each) => ({
          ...each,
          key: each.key % keys,
          nativeId: named(index, each.nativeId),
          sessionId: named(index, each.sessionId),
          alias: named(index, each.alias),
          once: named(index, each.once),
        })),
      })),
    }),
  );
  const done = await Promise.all(answers);
  return plans.map((_, index) =>
    done.flatMap(({ histories }, client) =>
      (histories[index] ?? []).map((operation) => ({
        ...operation,
        client,
        // JSON has no Infinity.
        returned: operation.returned ?? Number.POSITIVE_INFINITY,
      })),
    ),
  );
}

function freshKey() {
  keysUsed += 1;
  return { scope: "histories", externalId: `key-${keysUsed}`, provider: "echo" };
}

async function startClient(): Promise<ChildProcess> {
  const client = fork(new URL("./history-client.mjs", import.meta.url));
  const { url: baseUrl, adminToken: token } = broker;
  await ask(client, "connected", { kind: "connect", baseUrl, token });
  return client;
}

/** Resolves with the answer; fails if the process ends first. */
async function ask<A>(client: ChildProcess, kind: string, message: object): Promise<A> {
  const ended = new AbortController();
  const death = once(client, "exit", { signal: ended.signal }).then(([code, signal]) => {
    throw new Error(`a client process ended with ${code ?? signal}`);
  });
  const answer = new Promise<A>((resolve) => {
    const take = (told: { readonly kind: string }) => {
      if (told.kind !== kind) return;
      client.off("message", take);
      resolve(told as A);
    };
    client.on("message", take);
  });
  client.send(message);
  try {
    return await Promise.race([answer, death]);
  } finally {
    death.catch(() => {});
    ended.abort();
  }
}

/** Resolves when the clients have finished this many operations from here on. */
async function afterProgress(operations: number): Promise<void> {
  let left = operations;
  await new Promise<void>((resolve) => {
    const take = (told: { readonly kind: string }) => {
      if (told.kind !== "progress") return;
      left -= 1;
      if (left > 0) return;
      for (const client of clients) client.off("message", take);
      resolve();
    };
    for (const client of clients) client.on("message", take);
  });
}

function expectLinearizable(history: History, title: string): void {
  if (linearize(history, sessionSpecification(2)) !== undefined) return;
  throw new Error(
    `${title} has no order (SESSION_BROKER_HISTORY_SEED=${seed}):\n${describeHistory(history)}`,
  );
}

function describeHistory(history: History): string {
  const start = Math.min(...history.map(({ called }) => called));
  return [...history]
    .sort((a, b) => a.called - b.called)
    .map(({ client, called, returned, input, output }) => {
      const span = `${called - start}..${Number.isFinite(returned) ? returned - start : "?"} µs`;
      return `client ${client} ${span} ${JSON.stringify(input)} -> ${JSON.stringify(output) ?? "lost"}`;
    })
    .join("\n");
}

function overlaps(history: History): boolean {
  return history.some((a) =>
    history.some((b) => a.client !== b.client && a.called < b.returned && b.called < a.returned),
  );
}

function atEnd(history: History, input: Input, output: Output): History[number] {
  const last = Math.max(...history.map(({ returned }) => returned));
  return { client: 0, input, output, called: last + 1, returned: last + 2 };
}

function sessionIdOf({ output }: History[number]): string {
  return output?.kind === "session" ? output.sessionId : "";
}
