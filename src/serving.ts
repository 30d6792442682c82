/** A broker behind its doors: listening, healthy, and drained in order. */
import { setMaxListeners } from "node:events";
import { existsSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ConnectNodeAdapterOptions, connectNodeAdapter } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import { Health } from "../gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { SessionBroker } from "../gen/sessionbroker/v1/session_broker_pb.js";
import { type Broker, type BrokerOptions, startBroker } from "./broker.js";
import type { Address, Settings } from "./config/config.js";
import type { Reloaded } from "./config/live.js";
import { readTls } from "./config/tls.js";
import { listenForMetrics, type MetricsListening } from "./metrics/listen.js";
import type { EndedRpc } from "./metrics/record.js";
import { certificateSubjectKey, seenCallerKey } from "./rpc/authentication.js";
import type { Caller } from "./rpc/caller.js";
import { needsCredential, refuseUnknownCallers } from "./rpc/early-refusal.js";
import { createHealth, type HealthState, ServingStatus } from "./rpc/health.js";
import { withHttpMethods } from "./rpc/http-methods.js";
import { readMalformedTextAsReplacement } from "./rpc/malformed-text.js";
import { metricsInterceptor, unknownMethodHandler } from "./rpc/metrics.js";
import { reflectionRoutes } from "./rpc/reflection.js";
import { serviceInterceptors, serviceRoutes } from "./rpc/service.js";
import { tracingInterceptor } from "./rpc/tracing.js";
import { inheritedSockets } from "./server/activation.js";
import { CallValues } from "./server/call-values.js";
import { withPlainGrpcMessages, withUsableAuthority } from "./server/grpc-compat.js";
import type { FastPath, RequestHead, ShortWay } from "./server/handler.js";
import { guardHost, isLoopback, judgeRequest, reachableAddresses } from "./server/host-guard.js";
import { type Listening, listen } from "./server/one-port.js";
import { certificateSubject, type TlsMaterial } from "./server/tls.js";
import { withRefusedBodies } from "./server/unread-body.js";

export interface Serving {
  /** Where it listens; the port is the real one where 0 was asked for. */
  readonly address: Address;
  /** Where it shows metrics. */
  readonly metricsAddress?: Address;
  /** Refuses new turns, lets the running ones end by the deadline, and closes everything. */
  stop(drainMs: number): Promise<void>;
  /** Puts settings in force that can be changed while it runs. */
  reload(settings: Settings): Reloaded;
  /** Stops waiting for running turns. */
  hurry(): void;
}

const closeMs = 5_000;
/** In health: whether no damaged store lies set aside. */
const storeHealth = "store";

export async function serveBroker(options: BrokerOptions): Promise<Serving> {
  readMalformedTextAsReplacement();
  const { tls } = options.settings;
  const certificates = { inForce: tls && readTls(tls, Date.now()) };
  const broker = await startBroker(options);
  const shutdown = new AbortController();
  // Each request that runs listens to it.
  setMaxListeners(0, shutdown.signal);
  const health = createHealth([SessionBroker.typeName], {
    [storeHealth]: () => broker.service.storeState().setAside.length === 0,
  });
  let metrics: MetricsListening | undefined;
  let listening: Listening;
  try {
    metrics = await openMetrics(broker, options.log);
    listening = await openDoors(broker, health, shutdown.signal, options, () => certificates.inForce);
  } catch (error) {
    await metrics?.close();
    await broker[Symbol.asyncDispose]();
    throw error;
  }
  health.set(ServingStatus.SERVING);
  return {
    address: { host: listening.address, port: listening.port },
    ...(metrics === undefined ? {} : { metricsAddress: metrics.address }),
    reload(settings) {
      // What fails leaves everything as it was.
      const renewed = tls && readTls(tls, Date.now());
      const reloaded = broker.reload(settings);
      if (renewed !== undefined) listening.replaceTls(renewed);
      certificates.inForce = renewed;
      return reloaded;
    },
    hurry: () => broker.dispatcher.stopNow(),
    async stop(drainMs) {
      health.set(ServingStatus.NOT_SERVING);
      await broker.dispatcher.drain(drainMs);
      // Readers of turns that still wait are told to come back.
      shutdown.abort(new ConnectError("the broker is stopping; attach again", Code.Unavailable));
      await listening.close(closeMs);
      await metrics?.close();
      await broker[Symbol.asyncDispose]();
    },
  };
}

async function openMetrics(broker: Broker, log: Logger): Promise<MetricsListening | undefined> {
  const { settings } = broker;
  const { metricsListen } = settings;
  if (metricsListen === undefined) return undefined;
  return listenForMetrics({
    listen: metricsListen,
    hosts: () => settings.hosts,
    registry: broker.metrics.registry,
    onError: (error) => log.error({ err: error }, "the metrics could not be shown"),
  });
}

async function openDoors(
  broker: Broker,
  health: HealthState,
  shutdownSignal: AbortSignal,
  { log, environment }: BrokerOptions,
  certificates: () => TlsMaterial | undefined,
): Promise<Listening> {
  const { settings } = broker;
  const reflection = reflectionRoutes([SessionBroker, Health]);
  const service = serviceRoutes(broker.service);
  const onEnded = (rpc: EndedRpc) => broker.metrics.rpcEnded(rpc);
  const services = [SessionBroker, Health, ServerReflection, ServerReflectionAlpha];
  const onUnexpected = (method: string, error: unknown) =>
    log.error({ method, err: error }, "a request failed unexpectedly");
  // Whom the header of the last request was let in for. Its context is made before another
  // request is looked at, so that a token is looked up once.
  let seen: { readonly request: RequestHead; readonly caller: Caller } | undefined;
  const options: ConnectNodeAdapterOptions = {
    routes: (router) => {
      service(router);
      health.routes(router);
      reflection(router);
    },
    interceptors: [
      metricsInterceptor(services, onEnded),
      tracingInterceptor(),
      ...serviceInterceptors(() => broker.credentials, onUnexpected),
    ],
    fallback: unknownMethodHandler(onEnded),
    // A misspelt field is told instead of being passed over.
    jsonOptions: { ignoreUnknownFields: false },
    readMaxBytes: settings.limits.messageBytes,
    contextValues(request) {
      const caller = seen?.request === request ? seen.caller : undefined;
      seen = undefined;
      return new CallValues()
        .set(certificateSubjectKey, () => certificateSubject(request))
        .set(seenCallerKey, caller);
    },
    shutdownSignal,
  };
  const complete = withRefusedBodies(
    withHttpMethods(services, withPlainGrpcMessages(connectNodeAdapter(options))),
  );
  const withFastPath = settings.fastPath ? await findFastPath() : undefined;
  const served = withFastPath?.(options, complete, (error) => onUnexpected("fast path", error)) ?? {
    handler: complete,
    shortWay: () => false,
  };
  const isKnownCaller = (request: RequestHead) => {
    const { authorization } = request.headers;
    const caller = broker.credentials.find({
      authorization,
      certificateSubject: () => certificateSubject(request),
    });
    seen = caller && { request, caller };
    return caller !== undefined;
  };
  const handler = refuseUnknownCallers(complete, served.handler, isKnownCaller);
  /** Whom `handler` would refuse is left to it. */
  const shortWay: ShortWay = (request) =>
    (!needsCredential(request) || isKnownCaller(request)) && served.shortWay(request);
  let reachable = reachableAddresses(settings.listen.host);
  const rules = () => ({
    hosts: [...settings.hosts, ...reachable],
    isCertified: certificates()?.isNamed,
    origins: [],
  });
  const tls = certificates();
  const listening = await listen({
    ...settings.listen,
    ...(tls === undefined ? {} : { tls }),
    inherited: inheritedSockets(environment, process.pid),
    socketPath: settings.socket,
    handler: guardHost(handler, rules, isKnownCaller),
    shortWay: (request) => judgeRequest(request, rules, isKnownCaller).allowed && shortWay(request),
    socketHandler: withUsableAuthority(handler),
    // Nothing on it makes a URL of the authority.
    socketShortWay: shortWay,
    limits: {
      connections: settings.limits.connections,
      streamsPerConnection: settings.limits.streamsPerConnection,
      headerBytes: settings.limits.headerBytes,
      headerFields: settings.limits.headerFields,
      resetsPerConnection: settings.limits.resetsPerConnection,
      headersTimeoutMs: settings.limits.headerTimeoutMs,
      requestTimeoutMs: settings.limits.requestTimeoutMs,
      idleTimeoutMs: settings.limits.idleTimeoutMs,
    },
    onError: (error) => log.error({ err: error }, "a connection could not be accepted"),
  });
  reachable = reachableAddresses(listening.address);
  if (tls === undefined && !isLoopback(listening.address)) {
    log.warn(
      { address: listening.address },
      "tokens and prompts can be read on the way to this address: it listens beyond loopback without tls",
    );
  }
  return listening;
}

/** Undefined if its folder was deleted: nothing else needs it, and connect-node answers everything. */
async function findFastPath(): Promise<FastPath | undefined> {
  if (!existsSync(new URL("./server/fast-path", import.meta.url))) return undefined;
  // A name that the compiler does not follow.
  const index: string = "./server/fast-path/index.js";
  return (await import(index)).withFastPath;
}
