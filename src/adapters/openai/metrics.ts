/** Every metric of the adapter. docs/metrics.md tells people what they mean. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

export type AdapterMetrics = ReturnType<typeof defineAdapterMetrics>;

/** Label values are the adapter's own routes and statuses, never a caller's. */
export function defineAdapterMetrics(registry: Registry) {
  const registers = [registry];
  return {
    requests: new Counter({
      name: "session_broker_adapter_requests_total",
      help: "Requests that have ended",
      labelNames: ["route", "status"],
      registers,
    }),
    requestSeconds: new Histogram({
      name: "session_broker_adapter_request_duration_seconds",
      help: "From request to the end of the answer",
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800],
      labelNames: ["route"],
      registers,
    }),
    open: new Gauge({
      name: "session_broker_adapter_requests_open",
      help: "Requests that are being answered",
      registers,
    }),
  };
}
