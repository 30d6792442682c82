/** A span for each HTTP request, whose trace goes with the calls that are made for it. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { RequestListener } from "node:http";
import type { Interceptor } from "@connectrpc/connect";
import { SpanKind } from "@opentelemetry/api";
import { readCarrier, startSpan } from "./tracing.js";
import type { TraceCarrier } from "./turns/turn-trace.js";

export interface RequestTracing {
  /** Runs the listener for each request, within its trace. */
  around(listener: RequestListener): RequestListener;
  /** Adds the trace of the request to the calls that it makes. */
  readonly interceptor: Interceptor;
}

export function createRequestTracing(): RequestTracing {
  const current = new AsyncLocalStorage<TraceCarrier>();
  return {
    around: (listener) => (request, response) => {
      const header = (name: string) => request.headers[name]?.toString();
      const [path = ""] = (request.url ?? "").split("?", 1);
      const span = startSpan(request.method ?? "HTTP", readCarrier(header), {
        kind: SpanKind.SERVER,
        attributes: { "http.request.method": request.method ?? "", "url.path": path },
      });
      response.once("close", () => {
        const { statusCode } = response;
        const failure = statusCode >= 500 ? String(statusCode) : undefined;
        span.end(failure, { "http.response.status_code": statusCode });
      });
      if (span.carrier.traceparent === undefined) return listener(request, response);
      current.run(span.carrier, () => listener(request, response));
    },
    interceptor: (next) => (request) => {
      for (const [name, value] of Object.entries(current.getStore() ?? {})) request.header.set(name, value);
      return next(request);
    },
  };
}
