/**
 * Spans of OpenTelemetry, if the process has an SDK (docs/operations.md). If
 * it has none, nothing is recorded, and the caller's own trace context is
 * handed on as it came.
 */
import {
  type Attributes,
  ProxyTracerProvider,
  propagation,
  ROOT_CONTEXT,
  type SpanKind,
  SpanStatusCode,
  type TimeInput,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { TraceCarrier } from "./turns/turn-trace.js";
import { version } from "./version.js";

export interface TracedSpan {
  /** What to hand on to whatever is done within the span. */
  readonly carrier: TraceCarrier;
  /** @param failure why what the span stands for has failed; absent: it has not */
  end(failure?: string, attributes?: Attributes): void;
}

export interface SpanOptions {
  readonly kind: SpanKind;
  readonly attributes?: Attributes;
  /** Default: now */
  readonly startTime?: TimeInput;
}

/** That of the SDK, which may be set at any time. */
function sdkTracer(): Tracer | undefined {
  const provider = trace.getTracerProvider();
  const name = "session-broker";
  return provider instanceof ProxyTracerProvider
    ? provider.getDelegateTracer(name, version)
    : provider.getTracer(name, version);
}

/** False: there is no SDK, and a span would be recorded by nobody. */
export function isTraced(): boolean {
  return sdkTracer() !== undefined;
}

export function startSpan(name: string, parent: TraceCarrier, options: SpanOptions): TracedSpan {
  const tracer = sdkTracer();
  // A span that nobody records would take more than a kilobyte of each call.
  if (tracer === undefined) return { carrier: parent, end() {} };
  const around = propagation.extract(ROOT_CONTEXT, parent);
  const span = tracer.startSpan(name, options, around);
  const own: Record<string, string> = {};
  if (span.isRecording()) propagation.inject(trace.setSpan(around, span), own);
  return {
    carrier: own.traceparent === undefined ? parent : (own as TraceCarrier),
    end(failure, attributes = {}) {
      span.setAttributes(attributes);
      if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
      span.end();
    },
  };
}

const noCarrier: TraceCarrier = {};

/**
 * The trace context of a request's headers. What is not as the W3C has it
 * counts as none. https://www.w3.org/TR/trace-context/
 */
export function readCarrier(header: (name: string) => string | null | undefined): TraceCarrier {
  const traceparent = header("traceparent");
  if (traceparent == null) return noCarrier;
  if (!/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)) return noCarrier;
  const tracestate = header("tracestate") ?? "";
  // A list of 32 members at most, in printable characters.
  return /^[\x20-\x7e]{1,512}$/.test(tracestate) ? { traceparent, tracestate } : { traceparent };
}
