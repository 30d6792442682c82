/** The OpenAI-compatible adapter: which request goes where. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Client } from "@connectrpc/connect";
import type { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import { ClientGoneError } from "./body.js";
import type { AdapterDefaults, AdapterLimits, Call } from "./call.js";
import { handleChat } from "./chat.js";
import { ApiError, invalid, sendError, toApiError } from "./errors.js";
import { bearerAuthorization, readHeaders } from "./headers.js";
import { sendJson } from "./json.js";
import { handleModel, handleModels } from "./models.js";
import { handleCreateResponse } from "./responses/create.js";
import { handleCancelResponse, handleDeleteResponse, handleRetrieveResponse } from "./responses/retrieve.js";
import { createServerInfo } from "./server-info.js";
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
  readonly log?: AdapterLog;
  readonly timers?: Timers;
  readonly newId?: () => string;
}

interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: RegExp;
  readonly handle: (call: Call, ...groups: string[]) => Promise<void>;
}

const routes: readonly Route[] = [
  { method: "POST", path: /^\/v1\/chat\/completions$/, handle: handleChat },
  { method: "POST", path: /^\/v1\/responses$/, handle: handleCreateResponse },
  { method: "GET", path: /^\/v1\/responses\/([^/]+)$/, handle: handleRetrieveResponse },
  { method: "DELETE", path: /^\/v1\/responses\/([^/]+)$/, handle: handleDeleteResponse },
  { method: "POST", path: /^\/v1\/responses\/([^/]+)\/cancel$/, handle: handleCancelResponse },
  { method: "GET", path: /^\/v1\/models$/, handle: handleModels },
  { method: "GET", path: /^\/v1\/models\/(.+)$/, handle: handleModel },
];

const defaultLimits: AdapterLimits = {
  bodyBytes: 32 * 1024 * 1024,
  keepAliveMs: 15_000,
  reattachAttempts: 5,
  reattachDelayMs: 500,
};

export function createAdapter(options: AdapterOptions): RequestListener {
  const { broker, brokerAddress, log, timers = systemTimers, newId = randomUUID } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const defaults = { agent: "main", ...options.defaults };
  const serverInfo = createServerInfo(broker, timers.now);

  function logFailure(error: ApiError): void {
    const { status, code } = error.init;
    if (status >= 500) log?.error({ status, code, err: error.cause ?? error }, error.message);
  }

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const path = (req.url ?? "").split("?", 1)[0] ?? "";
    if (path === "/healthz") {
      if (req.method !== "GET") refuseMethod(["GET"], req, res);
      sendJson(res, 200, { status: "ok" });
      return;
    }
    const { handle, groups } = findRoute(path, req, res);
    const header = readHeaders(req.rawHeaders);
    const authorization = bearerAuthorization(header);
    const call: Call = {
      ...{ req, res, header, broker, brokerAddress, limits, defaults, timers, newId, logFailure },
      callHeaders: { authorization },
      serverInfo: () => serverInfo(authorization),
      sendJson: (value) => sendJson(res, 200, value),
    };
    await handle(call, ...groups);
  }

  return (req, res) => {
    answer(req, res).catch((reason) => {
      if (reason instanceof ClientGoneError) return;
      const error = toApiError(reason, brokerAddress);
      logFailure(error);
      if (res.headersSent) res.destroy();
      // What is left of a body that is too large is not read.
      else sendError(res, error, error.init.status === 413 ? { connection: "close" } : {});
    });
  };
}

function findRoute(path: string, req: IncomingMessage, res: ServerResponse) {
  const found = routes.flatMap((route) => {
    const match = route.path.exec(path);
    return match === null ? [] : [{ ...route, groups: match.slice(1).map(decodePath) }];
  });
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
