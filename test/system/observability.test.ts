/** examples/observability, held against what real processes show. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

const rules: readonly { alert: string; expr: string; annotations: Record<string, string> }[] = parse(
  read("examples/observability/alerts.yml"),
).groups.flatMap(({ rules }: { rules: unknown[] }) => rules);
const panels: readonly { title: string; targets?: readonly { expr: string; legendFormat: string }[] }[] =
  JSON.parse(read("examples/observability/dashboard.json")).panels;
const queries = panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr, legendFormat }) => ({ title, expr, legend: legendFormat })),
);

/** As the processes show them: names, and the labels of each that has samples. */
const shown = new Map<string, Set<string>>();
/** Each metric's labels, as the page has them, which is held against the code elsewhere. */
const documented = new Map(
  [...read("docs/metrics.md").matchAll(/^\| `(\w+)` \| \w+ \|([^|]*)\|/gm)].map(
    ([, name = "", labels = ""]) =>
      [name, new Set([...labels.matchAll(/`(\w+)`/g)].map(([, label = ""]) => label))] as const,
  ),
);

let broker: TestBroker;
beforeAll(async () => {
  broker = await TestBroker.start({
    metrics: true,
    config: JSON.stringify({ providers: [{ id: "claude", claude: { executable } }] }),
  });
  const target = { case: "key" as const, value: { scope: "acme", externalId: "chat", provider: "claude" } };
  await dispatchTurn(broker.client(), "hello", { target }).ended;
  const adapter = await broker.startAdapter();
  await fetch(`${adapter}/healthz`);
  for (const url of [broker.metricsUrl, `${adapter}/metrics`]) {
    const text = await (await fetch(url)).text();
    for (const [, name = ""] of text.matchAll(/^# TYPE (\S+)/gm))
      shown.set(name, shown.get(name) ?? new Set());
    for (const [, sample = "", labels = ""] of text.matchAll(/^([a-z]\w*)(?:\{(.*)\})? /gm)) {
      const known = shown.get(metricOf(sample));
      for (const [, label = ""] of labels.matchAll(/(\w+)="/g)) known?.add(label);
    }
  }
});
afterAll(() => broker.close());

function metricOf(name: string): string {
  return shown.has(name) ? name : name.replace(/_(bucket|sum|count)$/, "");
}

/** Labels that Prometheus adds. */
const added = ["instance", "job", "le"];

/** What of an expression is not there: names of metrics, and labels that none of its metrics has. */
function unknownIn(expr: string): string[] {
  const metrics = [...new Set(expr.match(/\b(?:session_broker|process|nodejs)_\w+/g) ?? [])];
  const ofThese = metrics.flatMap((name) => [
    ...(documented.get(metricOf(name)) ?? []),
    ...(shown.get(metricOf(name)) ?? []),
  ]);
  const grouped = [...expr.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].flatMap(([, list = ""]) =>
    list.split(/, */),
  );
  const matched = [...expr.matchAll(/[{,]\s*(\w+)(?==~?")/g)].map(([, label = ""]) => label);
  const known = new Set([...added, ...ofThese]);
  return [
    ...(metrics.length === 0 ? ["no metric"] : []),
    ...metrics.filter((name) => !shown.has(metricOf(name))),
    ...[...grouped, ...matched].filter((label) => !known.has(label)),
  ];
}

it("the check finds names and labels that are not there", () => {
  expect(unknownIn('sum by (nobody) (rate(session_broker_turns_total{what="a"}[5m]))')).toEqual([
    "nobody",
    "what",
  ]);
  expect(unknownIn("session_broker_no_such_metric")).toEqual(["session_broker_no_such_metric"]);
});

describe("alerts", () => {
  it.each(rules.map((rule) => [rule.alert, rule] as const))("%s", (_, { expr, annotations }) => {
    expect(unknownIn(expr)).toEqual([]);
    const told = Object.values(annotations).join(" ");
    const labels = [...told.matchAll(/\$labels\.(\w+)/g)].map(([, label = ""]) => label);
    const metrics = expr.match(/session_broker_\w+/g) ?? [];
    const has = new Set([
      ...added,
      ...metrics.flatMap((name) => [...(documented.get(metricOf(name)) ?? [])]),
    ]);
    expect(labels.filter((label) => !has.has(label))).toEqual([]);
  });
});

describe("dashboard", () => {
  it.each(queries.map((query) => [`${query.title}: ${query.legend}`, query] as const))(
    "%s",
    (_, { expr, legend }) => {
      expect(unknownIn(expr)).toEqual([]);
      const labels = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = ""]) => label);
      expect(labels.filter((label) => !expr.includes(label) && !added.includes(label))).toEqual([]);
    },
  );

  it("has every metric of the broker but those of builds and jumps", () => {
    const used = queries.map(({ expr }) => expr).join(" ");
    const missing = [...documented.keys()].filter((name) => !used.includes(name));
    expect(missing).toEqual([
      "session_broker_build_info",
      "session_broker_sessions_stuck",
      "session_broker_reasoning_tokens_total",
      "session_broker_stores_set_aside",
      "session_broker_clock_jumps_total",
      "session_broker_adapter_request_duration_seconds",
    ]);
  });
});

it("a process that has answered is counted as ready for the next turn", async () => {
  const text = await (await fetch(broker.metricsUrl)).text();
  expect(text).toContain('session_broker_processes_warm{provider="claude"} 1');
  expect(text).toContain('session_broker_processes_warm{provider="echo"} 0');
});
