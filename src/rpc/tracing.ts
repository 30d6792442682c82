/** A span for each RPC, which hands its trace on to the turn that it dispatches. */
import type { DescMethod } from "@bufbuild/protobuf";
import { ConnectError, createContextKey, type Interceptor } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { SpanKind } from "@opentelemetry/api";
import { isTraced, readCarrier, type SpanOptions, startSpan, type TracedSpan } from "../tracing.js";
import type { TraceCarrier } from "../turns/turn-trace.js";
import { staged } from "./staged-stream.js";

/** The trace that a request is part of. */
export const traceKey = createContextKey<TraceCarrier>({});

/** What is the same in all spans of a method. */
interface MethodSpan {
  readonly name: string;
  readonly options: SpanOptions;
}

export function tracingInterceptor(): Interceptor {
  const spans = new Map<DescMethod, MethodSpan>();
  const spanOf = (method: DescMethod): MethodSpan => {
    let span = spans.get(method);
    if (span === undefined) {
      span = describe(method);
      spans.set(method, span);
    }
    return span;
  };
  return (next) => {
    const inSpan = async (request: Parameters<typeof next>[0], parent: TraceCarrier) => {
      const { name, options } = spanOf(request.method);
      const span = startSpan(name, parent, options);
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
    return (request) => {
      const parent = readCarrier((field) => request.header.get(field));
      if (isTraced()) return inSpan(request, parent);
      request.contextValues.set(traceKey, parent);
      return next(request);
    };
  };
}

function describe({ parent, name }: DescMethod): MethodSpan {
  const attributes = { "rpc.system": "connect_rpc", "rpc.service": parent.typeName, "rpc.method": name };
  return { name: `${parent.typeName}/${name}`, options: { kind: SpanKind.SERVER, attributes } };
}

function untilEnd<T>(messages: AsyncIterable<T>, span: TracedSpan): AsyncIterable<T> {
  return staged(messages, {
    ended: (ending) => span.end(ending.how === "failed" ? codeOf(ending.reason) : undefined),
  });
}

function codeOf(error: unknown): string {
  return codeToString(ConnectError.from(error).code);
}
