/** `session-broker openai`: the OpenAI-compatible adapter, a process of its own. */
import { once } from "node:events";
import { createServer } from "node:http";
import { createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { originTable } from "../adapters/openai/origin-table.js";
import { createAdapter } from "../adapters/openai/server.js";
import type { Address, FetchingSettings, OriginSettings } from "../config/config.js";
import { toListenError } from "../server/listen-error.js";
import { transportTo } from "./broker-client.js";
import { describeAddress, untilStopped } from "./process.js";

export interface OpenAiOptions {
  readonly listen: Address;
  /** `http://host:port`, or `unix:<path>`. */
  readonly broker: string;
  readonly origins: readonly OriginSettings[];
  readonly fetching?: FetchingSettings | undefined;
}

export async function openai({ listen, broker, origins, fetching }: OpenAiOptions): Promise<void> {
  const log = pino(
    { name: "session-broker-openai", level: process.env.SESSION_BROKER_LOG_LEVEL ?? "info" },
    pino.destination(2),
  );
  const stop = untilStopped();
  const client = createClient(SessionBroker, transportTo(broker));
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const server = createServer(
    createAdapter({
      broker: client,
      brokerAddress: broker,
      origins: originTable(origins),
      fetching,
      log,
      registry,
    }),
  );
  // A stream of answers lasts as long as its turn.
  server.requestTimeout = 0;
  const address = `${listen.host}:${listen.port}`;
  server.listen(listen);
  try {
    await once(server, "listening");
  } catch (error) {
    throw toListenError(address, error as NodeJS.ErrnoException);
  }
  process.stdout.write(
    `session-broker openai listens on ${describeAddress(listen)}, asking the broker at ${broker}\n`,
  );

  await stop.first;
  const closed = once(server, "close");
  server.close();
  server.closeIdleConnections();
  stop.second.then(() => server.closeAllConnections());
  await closed;
}
