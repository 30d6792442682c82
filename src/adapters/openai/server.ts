/** The adapter for clients of OpenAI and Anthropic: which request goes where. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Client } from "@connectrpc/connect";
import { Registry } from "prom-client";
import type { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import { sendAnthropicError } from "../anthropic/errors.js";
import { handleCountTokens, handleMessages } from "../anthropic/messages.js";
import { ClientGoneError } from "./body.js";
import type { AdapterDefaults, AdapterLimits, Call } from "./call.js";
import { handleChat } from "./chat.js";
import {
  handleConversationItems,
  handleCreateConversation,
  handleDeleteConversation,
  handleRetrieveConversation,
} from "./conversations.js";
import { ApiError, invalid, sendError, toApiError } from "./errors.js";
import type { Fetching } from "./fetch-parts.js";
import { clientAuthorization, readHeaders } from "./headers.js";
import { sendJson } from "./json.js";
import { type AdapterMetrics, defineAdapterMetrics } from "./metrics.js";
import { handleModel, handleModels, isOfAnthropic } from "./models.js";
import type { OriginRow } from "./origin.js";
import { shippedOrigins } from "./origin-table.js";
import { handleCreateResponse } from "./responses/create.js";
import { handleCancelResponse, handleDeleteResponse, handleRetrieveResponse } from "./responses/retrieve.js";
import { handleInputItems } from "./responses/said.js";
import { ServerInfo } from "./server-info.js";
import { systemTimers, type Timers } from "./time.js";

export interface AdapterLog {
  error(fields: object, message: string): void;
}

export interface AdapterOptions {
  readonly broker: Client<typeof SessionBroker>;
  /** For messages to people. */
  readonly brokerAddress: string;
  readonly limits?: Partial<AdapterLimits>;
  readonly defaults?: Partial<AdapterDefaults>;
  /** Which URLs of images and files are fetched. Default: none. */
  readonly fetching?: Fetching | undefined;
  /** Default: those that are shipped. */
  readonly origins?: readonly OriginRow[];
  readonly log?: AdapterLog;
  /** Its metrics are shown at /metrics. */
  readonly registry?: Registry;
  readonly timers?: Timers;
  readonly newId?: () => string;
}

interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  /** `{id}` is one segment, `{name}` is all that is left. */
  readonly path: string;
  readonly handle: (call: Call, ...ids: string[]) => Promise<void>;
  /** Default: as OpenAI's. */
  readonly fail?: typeof sendError;
}

const routes: readonly Route[] = [
  { method: "POST", path: "/v1/chat/completions", handle: handleChat },
  { method: "POST", path: "/v1/responses", handle: handleCreateResponse },
  { method: "GET", path: "/v1/responses/{id}", handle: handleRetrieveResponse },
  { method: "DELETE", path: "/v1/responses/{id}", handle: handleDeleteResponse },
  { method: "POST", path: "/v1/responses/{id}/cancel", handle: handleCancelResponse },
  { method: "GET", path: "/v1/responses/{id}/input_items", handle: handleInputItems },
  { method: "POST", path: "/v1/conversations", handle: handleCreateConversation },
  { method: "GET", path: "/v1/conversations/{id}", handle: handleRetrieveConversation },
  { method: "GET", path: "/v1/conversations/{id}/items", handle: handleConversationItems },
  { method: "DELETE", path: "/v1/conversations/{id}", handle: handleDeleteConversation },
  { method: "POST", path: "/v1/messages", handle: handleMessages, fail: sendAnthropicError },
  { method: "POST", path: "/v1/messages/count_tokens", handle: handleCountTokens, fail: sendAnthropicError },
  { method: "GET", path: "/v1/models", handle: handleModels },
  { method: "GET", path: "/v1/models/{name}", handle: handleModel },
];

const patterns = routes.map((route) => ({ ...route, pattern: patternOf(route.path) }));

function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replace("{id}", "([^/]+)").replace("{name}", "(.+)")}$`);
}

const defaultLimits: AdapterLimits = {
  bodyBytes: 32 * 1024 * 1024,
  keepAliveMs: 15_000,
  reattachAttempts: 5,
  reattachDelayMs: 500,
};

export function createAdapter(options: AdapterOptions): RequestListener {
  const { broker, brokerAddress, log, timers = systemTimers, newId = randomUUID } = options;
  const { origins = shippedOrigins, fetching } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const defaults = { agent: "main", ...options.defaults };
  const registry = options.registry ?? new Registry();
  const metrics = defineAdapterMetrics(registry);
  const serverInfo = new ServerInfo(broker, timers.now);

  function logFailure(error: ApiError): void {
    const { status, code } = error.init;
    if (status >= 500) log?.error({ status, code, err: error.cause ?? error }, error.message);
  }

  async function answer(req: IncomingMessage, res: ServerResponse, path: string): Promise<void> {
    if (path === "/healthz" || path === "/metrics") {
      if (req.method !== "GET") refuseMethod(["GET"], req, res);
      if (path === "/healthz") return sendJson(res, 200, { status: "ok" });
      res.setHeader("content-type", registry.contentType);
      res.end(await registry.metrics());
      return;
    }
    const { handle, pattern } = findRoute(path, req, res);
    const ids = (pattern.exec(path) ?? []).slice(1).map(decodePath);
    const header = readHeaders(req.rawHeaders);
    const authorization = clientAuthorization(header);
    const call: Call = {
      ...{
        req,
        res,
        header,
        broker,
        brokerAddress,
        limits,
        defaults,
        origins,
        fetching,
        timers,
        newId,
        logFailure,
      },
      callHeaders: { authorization },
      serverInfo: () => serverInfo.current(authorization),
      recentServerInfo: () => serverInfo.recent(authorization),
      sendJson: (value) => sendJson(res, 200, value),
    };
    await handle(call, ...ids);
  }

  return (req, res) => {
    const path = (req.url ?? "").split("?", 1)[0] ?? "";
    observe(metrics, routeName(req, path), res);
    answer(req, res, path).catch((reason) => {
      if (reason instanceof ClientGoneError) return;
      const error = toApiError(reason, brokerAddress);
      logFailure(error);
      if (res.headersSent) res.destroy();
      // What is left of a body that is too large is not read.
      else failOf(req, path)(res, error, error.init.status === 413 ? { connection: "close" } : {});
    });
  };
}

function observe(metrics: AdapterMetrics, route: string, res: ServerResponse): void {
  const stop = metrics.requestSeconds.startTimer({ route });
  metrics.open.inc();
  res.once("close", () => {
    metrics.open.dec();
    stop();
    // The client has left before it had an answer.
    const status = res.writableFinished ? String(res.statusCode) : "left";
    metrics.requests.inc({ route, status });
  });
}

function failOf(req: IncomingMessage, path: string): typeof sendError {
  const { fail } = patterns.find(({ pattern }) => pattern.test(path)) ?? {};
  return fail ?? (isOfAnthropic({ req }) ? sendAnthropicError : sendError);
}

function routeName(req: IncomingMessage, path: string): string {
  const route = patterns.find(({ method, pattern }) => method === req.method && pattern.test(path));
  return route === undefined ? "other" : `${route.method} ${route.path}`;
}

function findRoute(path: string, req: IncomingMessage, res: ServerResponse) {
  const found = patterns.filter(({ pattern }) => pattern.test(path));
  if (found.length === 0) {
    throw new ApiError(`no such route: ${path}`, {
      ...invalid("path", "").init,
      status: 404,
      code: "unknown_url",
    });
  }
  const methods = found.map(({ method }) => method);
  return found.find(({ method }) => method === req.method) ?? refuseMethod(methods, req, res);
}

function refuseMethod(methods: readonly string[], req: IncomingMessage, res: ServerResponse): never {
  res.setHeader("allow", methods.join(", "));
  throw new ApiError(`${req.method} is not a method of this route; ${methods.join(", ")} is`, {
    ...invalid("method", "").init,
    status: 405,
    code: "method_not_allowed",
  });
}

function decodePath(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw invalid("path", "the path is not valid");
  }
}
