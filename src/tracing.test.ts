import { SpanKind } from "@opentelemetry/api";
import { expect, it } from "vitest";
import { readCarrier, startSpan } from "./tracing.js";

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

it.each([
  [{ traceparent }, { traceparent }],
  [
    { traceparent, tracestate: "a=1,b=2" },
    { traceparent, tracestate: "a=1,b=2" },
  ],
  [{ tracestate: "a=1" }, {}],
  [{}, {}],
  [{ traceparent: "00-short" }, {}],
  [{ traceparent: `${traceparent}\n$(reboot)` }, {}],
  [{ traceparent, tracestate: "a=ä" }, { traceparent }],
  [{ traceparent, tracestate: "a=1\0" }, { traceparent }],
  [{ traceparent, tracestate: "x".repeat(513) }, { traceparent }],
])("of the headers %j", (headers: Record<string, string>, carrier) => {
  expect(readCarrier((name) => headers[name])).toEqual(carrier);
});

it("without an SDK a span hands on what it was given", () => {
  const parent = { traceparent };
  const span = startSpan("anything", parent, { kind: SpanKind.INTERNAL });
  expect(span.carrier).toBe(parent);
  span.end("failed");
});
