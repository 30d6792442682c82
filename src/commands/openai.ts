/** `session-broker openai`: the OpenAI-compatible adapter, a process of its own. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createClient } from "@connectrpc/connect";
import { type Logger, pino } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { originTable } from "../adapters/openai/origin-table.js";
import { createAdapter } from "../adapters/openai/server.js";
import type { Address, FetchingSettings, OriginSettings } from "../config/config.js";
import { readTls, type TlsSettings } from "../config/tls.js";
import { toListenError } from "../server/listen-error.js";
import { tlsContext } from "../server/tls.js";
import { createRequestTracing } from "../trace-requests.js";
import { transportTo } from "./broker-client.js";
import { describeAddress, untilStopped } from "./process.js";

export interface OpenAiOptions {
  readonly listen: Address;
  /** `http://host:port`, or `unix:<path>`. */
  readonly broker: string;
  readonly origins: readonly OriginSettings[];
  readonly fetching?: FetchingSettings | undefined;
  /** Default: cleartext. */
  readonly tls?: TlsSettings;
}

const handshakeMs = 10_000;

export async function openai({ listen, broker, origins, fetching, tls }: OpenAiOptions): Promise<void> {
  const log = pino(
    { name: "session-broker-openai", level: process.env.SESSION_BROKER_LOG_LEVEL ?? "info" },
    pino.destination(2),
  );
  const stop = untilStopped();
  const tracing = createRequestTracing();
  const client = createClient(SessionBroker, transportTo(broker, [tracing.interceptor]));
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const table = originTable(origins);
  const adapter = tracing.around(
    createAdapter({ broker: client, brokerAddress: broker, origins: table, fetching, log, registry }),
  );
  const server = tls === undefined ? createServer(adapter) : secureServer(tls, adapter, log);
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
    `session-broker openai listens on ${describeAddress(listen, tls !== undefined)}, asking the broker at ${broker}\n`,
  );

  await stop.first;
  const closed = once(server, "close");
  server.close();
  server.closeIdleConnections();
  stop.second.then(() => server.closeAllConnections());
  await closed;
}

/** SIGHUP reads its certificate again; what is wrong then leaves it as it was. */
function secureServer(tls: TlsSettings, listener: RequestListener, log: Logger): Server {
  const options = { ...tlsContext(readTls(tls, Date.now())), handshakeTimeout: handshakeMs };
  const server = createTlsServer(options, listener);
  process.on("SIGHUP", () => {
    try {
      server.setSecureContext(tlsContext(readTls(tls, Date.now())));
      log.info("the certificate was read again");
    } catch (error) {
      log.error(`the certificate stays as it was: ${(error as Error).message}`);
    }
  });
  return server;
}
