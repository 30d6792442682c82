// New reservations that are on disk before the answer: over the wire from the
// broker, and from stores that are asked directly and hold as many keys.
import { randomBytes, randomUUID } from "node:crypto";
import { contest } from "../contest.mjs";
import { loops } from "../load.mjs";
import * as etcd from "../peers/etcd.mjs";
import * as postgres from "../peers/postgres.mjs";
import * as redis from "../peers/redis.mjs";
import { idOf, keyOf } from "../rows.mjs";
import { reserveNew } from "./requests.mjs";

const connections = 64;
const bars = [
  { peer: etcd, goal: 4 },
  { peer: postgres, goal: 1 },
  { peer: redis, goal: 0.5, wish: ", as a goal" },
];

export async function durable(context) {
  const { servers, report, folder, plan, say } = context;
  const broker = await servers.broker();
  const stores = [];
  try {
    for (const { peer } of bars) {
      const store = await peer.start(folder, connections);
      if (store === undefined) continue;
      stores.push(store);
      say(`filling ${store.name} with ${plan.rows} keys`);
      await store.fill(Array.from({ length: plan.rows }, (_, i) => [nameOf(keyOf(i)), idOf(i)]));
    }
    const [own, ...others] = await contest(
      context,
      "new reservation, durable",
      [
        { name: "session-broker over HTTP/1.1", pid: broker.pid, load: reserveNew(broker) },
        ...stores.map((store) => ({ name: store.name, pid: store.pid, load: createNew(store) })),
      ],
      connections,
    );
    for (const { peer, goal, wish = "" } of bars) {
      const rate = others[stores.findIndex(({ name }) => name === peer.name)];
      if (rate !== undefined) report.bar(`Reserve, new, of ${peer.name}`, own / rate, goal, { wish });
    }
  } finally {
    for (const store of stores) await store.stop();
  }
}

const nameOf = ({ scope, externalId, provider }) => `${scope}/${externalId}/${provider}`;

function createNew({ name, create }) {
  return (plan) => {
    const prefix = randomBytes(6).toString("hex");
    let number = 0;
    return loops(async () => {
      const key = { scope: "fresh", externalId: `new-${prefix}-${number++}`, provider: "echo" };
      const created = await create(nameOf(key), randomUUID());
      if (!created) throw new Error(`${name}: a new key was taken`);
    }, plan);
  };
}
