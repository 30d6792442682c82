// The servers that several parts ask, each started when it is first asked for.
import { cpSync } from "node:fs";
import { join } from "node:path";
import { startBroker } from "../broker.mjs";
import { startPeer } from "../peers/program.mjs";
import { fillStore } from "../rows.mjs";

/**
 * @param folder for what they store
 * @param rows of the broker's store and of SQLite's
 */
export function createServers(folder, rows, say) {
  const started = new Map();
  const once = (name, start) => () => {
    if (!started.has(name)) started.set(name, start());
    return started.get(name);
  };
  const filled = join(folder, "filled");
  const fill = once("filled", async () => {
    say(`filling a store with ${rows} sessions`);
    return { bytes: await fillStore(filled, rows, { aliased: true }), stop: () => {} };
  });
  let brokers = 0;
  return {
    /** With `rows` sessions, each with an alias, and room for many turns. */
    broker: once("broker", async () => {
      const { bytes } = await fill();
      const data = join(folder, `broker-${++brokers}`);
      cpSync(filled, data, { recursive: true });
      const config = {
        providers: [
          { id: "echo", maxRunning: 1_000, echo: {} },
          { id: "slow", maxRunning: 1_000, echo: { delay: "1s" } },
        ],
        limits: { runningTurns: 1_000 },
      };
      return Object.assign(await startBroker(JSON.stringify(config), undefined, {}, data), { bytes, rows });
    }),
    connectNode: once("connect-node", () => startPeer("connect-node")),
    grpcJs: once("grpc-js", () => startPeer("grpc-js")),
    bareHttp: once("bare-http", () => startPeer("bare-http")),
    ownDoors: once("own-doors", () => startPeer("own-doors")),
    /** The next that is asked for has `rows` sessions again. */
    async stopBroker() {
      const broker = started.get("broker");
      started.delete("broker");
      await (await broker)?.stop();
    },
    async stop() {
      for (const server of started.values()) await (await server.catch(() => undefined))?.stop();
    },
  };
}
