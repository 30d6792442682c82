/** What prom-client makes of the same observations is the measure of what is made here. */
import fc from "fast-check";
import { Counter, Histogram, Registry } from "prom-client";
import { expect, it } from "vitest";
import { SlotCounter, SlotHistogram } from "./slots.js";

const calls = { name: "calls_total", help: 'Calls\nof "all"', labelNames: ["method", "code"] };
const kinds = { name: "kinds_total", help: "Kinds", labelNames: ["kind"] };
const times = { name: "time_seconds", help: "Time", labelNames: ["method"] };
const buckets = [0.001, 0.25, 1, 30];

function ours() {
  const registry = new Registry();
  const registers = [registry];
  const counter = new SlotCounter({ ...calls, registers });
  const single = new SlotCounter({ ...kinds, registers });
  const histogram = new SlotHistogram({ ...times, registers }, buckets);
  return {
    registry,
    count: (method: string, code: string) => counter.inc(method, code),
    countKind: (kind: string) => single.inc(kind),
    showKind: (kind: string) => single.show(kind),
    observe: (method: string, value: number) => histogram.observe(method, value),
  };
}

function theirs(): ReturnType<typeof ours> {
  const registry = new Registry();
  const registers = [registry];
  const counter = new Counter({ ...calls, registers });
  const single = new Counter({ ...kinds, registers });
  const histogram = new Histogram({ ...times, buckets: [...buckets], registers });
  return {
    registry,
    count: (method, code) => counter.inc({ method, code }),
    countKind: (kind) => single.inc({ kind }),
    showKind: (kind) => single.inc({ kind }, 0),
    observe: (method, value) => histogram.observe({ method }, value),
  };
}

const value = fc.oneof(
  fc.constantFrom(0, 0.001, 0.0010001, 0.25, 1, 30, 31),
  fc.double({ min: 0, max: 100, noNaN: true }),
);
const label = fc.constantFrom("a.B/C", "ok", 'odd "\\\n', "", "7", "__proto__");

it("shows what prom-client shows, each time that it is read", async () => {
  const event = fc.record({
    what: fc.constantFrom("count", "countKind", "showKind", "observe", "read"),
    ...{ label, other: label, value },
  });
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 40 }), async (events) => {
      const both = [ours(), theirs()] as const;
      const expectTheSame = async () => {
        const [text, expected] = await Promise.all(both.map(({ registry }) => registry.metrics()));
        expect(text).toBe(expected);
      };
      for (const { what, label, other, value } of events) {
        if (what === "read") await expectTheSame();
        for (const metrics of both) {
          if (what === "count") metrics.count(label, other);
          else if (what === "countKind") metrics.countKind(label);
          else if (what === "showKind") metrics.showKind(label);
          else if (what === "observe") metrics.observe(label, value);
        }
      }
      await expectTheSame();
    }),
  );
});

it("gives programs the values that prom-client gives", async () => {
  const told = [ours(), theirs()].map(async ({ registry, count, observe }) => {
    count("a", "ok");
    observe("a", 0.5);
    const metrics = await registry.getMetricsAsJSON();
    return metrics.map(({ values, ...rest }) => ({
      ...rest,
      values: values.map(({ value, labels, ...named }) => ({
        ...{ value, labels },
        name: (named as { metricName?: string }).metricName,
      })),
    }));
  });
  const [text, expected] = await Promise.all(told);
  expect(text).toEqual(expected);
});
