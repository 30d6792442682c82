// What a run has found, as Markdown.
import { readFileSync, writeFileSync } from "node:fs";

const page = new URL("../docs/benchmarks.md", import.meta.url);

export function createReport() {
  return {
    /** Of contests. */
    rows: [],
    /** `[what, value]`, of everything else. */
    figures: [],
    /** Ratios with what is asked of them. */
    bars: [],
    /** What other programs of this folder printed: `[command, text]`. */
    outputs: [],
    figure(what, value) {
      this.figures.push([what, value]);
    },
    /** @param goal at least this; with `most`, at most */
    bar(what, value, goal, { most = false, unit = "times", wish = "" } = {}) {
      this.bars.push({ what, value, goal, most, unit, wish });
    },
  };
}

export function toMarkdown({ rows, figures, bars, outputs }, heading) {
  const parts = [heading];
  if (rows.length > 0) {
    parts.push(
      table(
        "measure | asked | clients | operations/s: median (least to most) | ratio | p50 ms | p99 ms | p99.9 ms | CPU s per million",
        rows.map(({ measure, name, connections, rate, ratio, p50, p99, p999, cpu }) => [
          ...[
            measure,
            name,
            connections,
            `${whole(rate.median)} (${whole(rate.least)} to ${whole(rate.most)})`,
          ],
          ...[ratio.toFixed(2), short(p50), short(p99), short(p999), cpu.toFixed(0)],
        ]),
      ),
      "Each ratio is to the first row of its measure and number of clients.",
    );
  }
  if (figures.length > 0) parts.push(table(" | measured", figures));
  if (bars.length > 0) {
    parts.push(
      table(
        "bar | measured | asked for | met",
        bars.map(({ what, value, goal, most, unit, wish }) => {
          const met = most ? value <= goal : value >= goal;
          const asked = `${most ? "at most" : "at least"} ${whole(goal)} ${unit}${wish}`;
          return [what, `${short(value)} ${unit}`, asked, met ? "yes" : "**no**"];
        }),
      ),
    );
  }
  for (const [command, text] of outputs) parts.push(`\`${command}\`:\n\n${text.trim()}`);
  return `${parts.join("\n\n")}\n`;
}

/** Puts a text into the page, between `<!-- begin: NAME -->` and `<!-- end: NAME -->`. */
export function writeBlock(name, text) {
  const [begin, end] = [`<!-- begin: ${name} -->`, `<!-- end: ${name} -->`];
  const before = readFileSync(page, "utf8");
  const [from, to] = [before.indexOf(begin), before.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${page.pathname} has no block ${begin}`);
  writeFileSync(page, `${before.slice(0, from + begin.length)}\n${text}${before.slice(to)}`);
}

function table(titles, rows) {
  const columns = titles.split(" | ").length;
  const lines = [
    `| ${titles.trim()} |`,
    `|${"---|".repeat(columns)}`,
    ...rows.map((row) => `| ${row.join(" | ")} |`),
  ];
  return lines.join("\n");
}

/** With commas; fractions only of what is small. */
const whole = (value) => value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 1 : 0 });
const short = (value) => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : whole(value));
