/** Shows the metrics to Prometheus, on a port of their own. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { collectDefaultMetrics, type Registry } from "prom-client";
import type { Address } from "../config/config.js";
import { guardHost, reachableAddresses } from "../server/host-guard.js";
import { toListenError } from "../server/listen-error.js";

export interface MetricsListenOptions {
  readonly listen: Address;
  /** Names of this server, besides loopback and the bound address, that a Host header may hold. */
  readonly hosts: () => readonly string[];
  readonly registry: Registry;
  readonly onError: (error: unknown) => void;
}

export interface MetricsListening {
  /** The port is the real one where 0 was asked for. */
  readonly address: Address;
  close(): Promise<void>;
}

const connections = 64;
const requestMs = 10_000;

/** Adds the metrics of the process as well. @throws ListenError */
export async function listenForMetrics(options: MetricsListenOptions): Promise<MetricsListening> {
  const { listen, registry, onError } = options;
  const reachable = reachableAddresses(listen.host);
  const rules = () => ({ hosts: [...options.hosts(), ...reachable], origins: [] });
  const guarded = guardHost(
    (req, res) => {
      answer(registry, req as IncomingMessage, res as ServerResponse).catch((error: unknown) => {
        onError(error);
        if (!res.headersSent) res.writeHead(500);
        res.end();
      });
    },
    rules,
    () => false,
  );
  const server = createServer({ headersTimeout: requestMs, requestTimeout: requestMs }, guarded);
  server.maxConnections = connections;
  server.listen(listen);
  try {
    await once(server, "listening");
  } catch (error) {
    const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
    throw toListenError(`${host}:${listen.port} (metrics_listen)`, error as NodeJS.ErrnoException);
  }
  server.on("error", onError);
  collectDefaultMetrics({ register: registry });
  const { address, port } = server.address() as AddressInfo;
  return {
    address: { host: address, port },
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(registry: Registry, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const path = (req.url ?? "").split("?", 1)[0];
  if (path !== "/metrics") return end(res, 404, "the metrics are at /metrics\n");
  if (req.method !== "GET" && req.method !== "HEAD") {
    res.setHeader("allow", "GET, HEAD");
    return end(res, 405, "GET is the method of metrics\n");
  }
  const text = await registry.metrics();
  res.setHeader("content-type", registry.contentType);
  end(res, 200, text);
}

function end(res: ServerResponse, status: number, text: string): void {
  if (!res.hasHeader("content-type")) res.setHeader("content-type", "text/plain; charset=utf-8");
  res.writeHead(status, { "content-length": Buffer.byteLength(text) });
  res.end(text);
}
