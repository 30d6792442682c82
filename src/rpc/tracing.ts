/** A span for each RPC, which hands its trace on to the turn that it dispatches. */
import { ConnectError, createContextKey, type Interceptor } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { SpanKind } from "@opentelemetry/api";
import { readCarrier, startSpan, type TracedSpan } from "../tracing.js";
import type { TraceCarrier } from "../turns/turn-trace.js";
import { staged } from "./staged-stream.js";

/** The trace that a request is part of. */
export const traceKey = createContextKey<TraceCarrier>({});

export function tracingInterceptor(): Interceptor {
  return (next) => async (request) => {
    const { service, method, header } = request;
    const span = startSpan(
      `${service.typeName}/${method.name}`,
      readCarrier((name) => header.get(name)),
      {
        kind: SpanKind.SERVER,
        attributes: {
          "rpc.system": "connect_rpc",
          "rpc.service": service.typeName,
          "rpc.method": method.name,
        },
      },
    );
    request.contextValues.set(traceKey, span.carrier);
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: untilEnd(response.message, span) };
      span.end();
      return response;
    } catch (error) {
      span.end(codeOf(error));
      throw error;
    }
  };
}

function untilEnd<T>(messages: AsyncIterable<T>, span: TracedSpan): AsyncIterable<T> {
  return staged(messages, {
    ended: (ending) => span.end(ending.how === "failed" ? codeOf(ending.reason) : undefined),
  });
}

function codeOf(error: unknown): string {
  return codeToString(ConnectError.from(error).code);
}
