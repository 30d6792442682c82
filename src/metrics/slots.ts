/**
 * Metrics of what each call does. prom-client checks the labels of everything
 * that it is told and makes a text of them, which costs more than the rest of
 * counting. Here each set of labels has a slot of plain numbers, and prom-client
 * gets to see them when metrics are read.
 */
import { Counter, type Metric, type MetricValueWithName, type Registry } from "prom-client";

type Labels = Readonly<Record<string, string>>;

export interface SlotConfiguration {
  readonly name: string;
  readonly help: string;
  readonly labelNames: string[];
  readonly registers: Registry[];
}

interface CounterSlot {
  readonly labels: Labels;
  /** Since metrics were read last. */
  count: number;
}

/** A counter with one or two labels. */
export class SlotCounter {
  readonly #labelNames: readonly string[];
  readonly #slots: CounterSlot[] = [];
  readonly #found = new Map<string, Map<string, CounterSlot>>();

  constructor(configuration: SlotConfiguration) {
    this.#labelNames = configuration.labelNames;
    const slots = this.#slots;
    new Counter({
      ...configuration,
      collect() {
        for (const slot of slots) {
          this.inc(slot.labels, slot.count);
          slot.count = 0;
        }
      },
    });
  }

  /** @param first value of the first label, and so on */
  inc(first: string, second = ""): void {
    this.#slot(first, second).count += 1;
  }

  /** Shows it from now on, also if it is never counted. */
  show(first: string, second = ""): void {
    this.#slot(first, second);
  }

  #slot(first: string, second: string): CounterSlot {
    return this.#found.get(first)?.get(second) ?? this.#add(first, second);
  }

  #add(first: string, second: string): CounterSlot {
    const slot = { labels: labelled(this.#labelNames, [first, second]), count: 0 };
    const bySecond = this.#found.get(first) ?? new Map<string, CounterSlot>();
    this.#found.set(first, bySecond.set(second, slot));
    this.#slots.push(slot);
    return slot;
  }
}

interface HistogramSlot {
  readonly labels: Labels;
  /** How many fell into each bucket alone. */
  readonly counts: number[];
  sum: number;
  count: number;
}

/** A histogram with one label, which a registry takes for one of prom-client's. */
export class SlotHistogram {
  readonly type = "histogram";
  readonly aggregator = "sum";
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly #slots = new Map<string, HistogramSlot>();

  constructor(
    { name, help, labelNames, registers }: SlotConfiguration,
    private readonly buckets: readonly number[],
  ) {
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    for (const registry of registers) registry.registerMetric(this as unknown as Metric<string>);
  }

  /** @param label its value */
  observe(label: string, value: number): void {
    const slot = this.#slots.get(label) ?? this.#add(label);
    slot.sum += value;
    slot.count += 1;
    const bucket = this.buckets.findIndex((bound) => value <= bound);
    // There is none for what is beyond all bounds.
    if (bucket !== -1) slot.counts[bucket] = (slot.counts[bucket] ?? 0) + 1;
  }

  #add(label: string): HistogramSlot {
    const slot = {
      labels: labelled(this.labelNames, [label]),
      ...{ counts: this.buckets.map(() => 0), sum: 0, count: 0 },
    };
    this.#slots.set(label, slot);
    return slot;
  }

  /** For the registry. */
  async get() {
    const { name, help, type, aggregator } = this;
    const values = [...this.#slots.values()].flatMap((slot) => this.#valuesOf(slot));
    return { name, help, type, values, aggregator };
  }

  /** For the registry. */
  reset(): void {
    this.#slots.clear();
  }

  #valuesOf({ labels, counts, sum, count }: HistogramSlot): MetricValueWithName<string>[] {
    const { name } = this;
    let below = 0;
    const buckets = this.buckets.map((bound, n) => {
      below += counts[n] ?? 0;
      return { metricName: `${name}_bucket`, labels: { le: bound, ...labels }, value: below };
    });
    return [
      ...buckets,
      { metricName: `${name}_bucket`, labels: { le: "+Inf", ...labels }, value: count },
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

function labelled(names: readonly string[], values: readonly string[]): Labels {
  return Object.fromEntries(names.map((name, n) => [name, values[n]])) as Labels;
}
