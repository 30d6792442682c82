/** `session-broker serve`: the broker, until it is told to stop. */
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { pino } from "pino";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { type Broker, startBroker } from "../broker.js";
import type { Settings } from "../config/config.js";
import { tokenFile } from "../config/tokens.js";
import { createHealth, type HealthState, ServingStatus } from "../rpc/health.js";
import { readMalformedTextAsReplacement } from "../rpc/malformed-text.js";
import { reflectionRoutes } from "../rpc/reflection.js";
import { serviceInterceptors, serviceRoutes } from "../rpc/service.js";
import { withPlainGrpcMessages, withUsableAuthority } from "../server/grpc-compat.js";
import { guardHost, reachableAddresses } from "../server/host-guard.js";
import { type Listening, listen } from "../server/one-port.js";
import { describeAddress, untilStopped } from "./process.js";

const drainMs = 30_000;
const closeMs = 5_000;

export async function serve(settings: Settings): Promise<void> {
  const log = pino(
    { name: "session-broker", level: process.env.SESSION_BROKER_LOG_LEVEL ?? "info" },
    pino.destination(2),
  );
  const stop = untilStopped();
  readMalformedTextAsReplacement();
  const broker = await startBroker({
    settings,
    environment: process.env,
    log,
    onLost: (error) => {
      log.fatal({ err: error }, "the store can no longer be written; ending");
      process.exit(1);
    },
  });
  const shutdown = new AbortController();
  const health = createHealth([SessionBroker.typeName]);
  let listening: Listening;
  try {
    listening = await openDoors(settings, broker, health, shutdown.signal, log);
  } catch (error) {
    await broker[Symbol.asyncDispose]();
    throw error;
  }
  health.set(ServingStatus.SERVING);
  const at = describeAddress({ host: listening.address, port: listening.port });
  process.stdout.write(
    `session-broker listens on ${at} and ${settings.socket}; token in ${tokenFile(settings.data)}\n`,
  );

  await stop.first;
  log.info("stopping: running turns may end, new ones are refused");
  health.set(ServingStatus.NOT_SERVING);
  stop.second.then(() => broker.dispatcher.stopNow());
  await broker.dispatcher.drain(drainMs);
  shutdown.abort();
  await listening.close(closeMs);
  await broker[Symbol.asyncDispose]();
}

async function openDoors(
  settings: Settings,
  broker: Broker,
  health: HealthState,
  shutdownSignal: AbortSignal,
  log: pino.Logger,
): Promise<Listening> {
  const reflection = reflectionRoutes([SessionBroker, Health]);
  const service = serviceRoutes(broker.service);
  const handler = withPlainGrpcMessages(
    connectNodeAdapter({
      routes: (router) => {
        service(router);
        health.routes(router);
        reflection(router);
      },
      interceptors: serviceInterceptors(
        () => broker.credentials,
        (method, error) => log.error({ method, err: error }, "a request failed unexpectedly"),
      ),
      // A misspelt field is told instead of being passed over.
      jsonOptions: { ignoreUnknownFields: false },
      readMaxBytes: settings.limits.messageBytes,
      shutdownSignal,
    }),
  );
  const rules = { hosts: [...settings.hosts, ...reachableAddresses(settings.listen.host)], origins: [] };
  return listen({
    ...settings.listen,
    socketPath: settings.socket,
    handler: guardHost(
      handler,
      rules,
      (authorization) => broker.credentials.find(authorization) !== undefined,
    ),
    socketHandler: withUsableAuthority(handler),
    limits: { connections: settings.limits.connections },
    onError: (error) => log.error({ err: error }, "a connection could not be accepted"),
  });
}
