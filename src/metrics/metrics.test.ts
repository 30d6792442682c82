import { readFileSync } from "node:fs";
import { type Metric, Registry } from "prom-client";
import { expect, it } from "vitest";
import { defineAdapterMetrics } from "../adapters/openai/metrics.js";
import { defineMetrics } from "./metrics.js";

const page = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");

/** As prom-client keeps it; its types leave these out. */
type Defined = Metric & { readonly name: string; readonly type: string; readonly labelNames: string[] };

function define(): Defined[] {
  const registry = new Registry();
  const zero = () => 0;
  const turns = { runningTurns: zero, waitingTurns: zero, stuckSessions: zero, warmProcesses: zero };
  const store = { liveSessions: zero, storeBytes: zero, storesSetAside: zero };
  defineMetrics(registry, { version: "1", providers: [], ...turns, ...store });
  defineAdapterMetrics(registry);
  return registry.getMetricsAsArray() as unknown as Defined[];
}

it("docs/metrics.md has a row for each metric, with its type and its labels", () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \| (\w+) \|([^|]*)\|/gm)].map(
    ([, name, type, labels]) => `${name} ${type} ${labels?.replaceAll("`", "").trim()}`,
  );
  const defined = define().map(({ name, type, labelNames }) => `${name} ${type} ${labelNames.join(", ")}`);
  expect(rows.map((row) => row.trim()).sort()).toEqual(defined.map((row) => row.trim()).sort());
});

it("names begin with the product and end with the unit; counters with _total", () => {
  for (const { name, type } of define()) {
    expect(name).toMatch(/^session_broker_[a-z_]+$/);
    expect(name.endsWith("_total"), name).toBe(type === "counter");
    if (type === "histogram") expect(name).toMatch(/_seconds$/);
  }
});
