// Contestants that are put under the same load in turns, and the rows and bars
// that come of it.
import { cpuSeconds, inTurns, median, spread } from "./measure.mjs";

/**
 * @typedef {object} Contestant
 * @property {string} name
 * @property {number} pid the server, whose processor time is measured with that of its children
 * @property {(plan: { connections: number, seconds: number }) => Promise<object>} load as of load.mjs
 * @property {boolean} [warm] it has been under this kind of load already
 */

/**
 * Warms each up, measures them in turns, adds a row for each to the report, and
 * resolves with the median rate of each, in operations a second. The ratios are
 * to the first.
 *
 * @param {Contestant[]} contestants
 */
export async function contest({ plan, report, say }, measure, contestants, connections = 64) {
  const { rounds, seconds, warmSeconds } = plan;
  say(`${measure}, ${connections} clients`);
  for (const { load, warm } of contestants) {
    if (!warm && warmSeconds > 0) await load({ connections, seconds: warmSeconds });
  }
  const results = await inTurns(contestants, rounds, async ({ pid, load }) => {
    const before = cpuSeconds([pid]);
    const result = await load({ connections, seconds });
    return { ...result, cpu: ((cpuSeconds([pid]) - before) / result.requests) * 1e6 };
  });
  const rates = results.map((each) => spread(each.map(({ requests, seconds }) => requests / seconds)));
  for (const [index, { name }] of contestants.entries()) {
    const of = (what) => median(results[index].map((result) => result[what]));
    report.rows.push({
      measure,
      name,
      connections,
      rate: rates[index],
      ratio: rates[index].median / rates[0].median,
      p50: of("p50"),
      p99: of("p99"),
      p999: of("p999"),
      cpu: of("cpu"),
    });
  }
  return rates.map((rate) => rate.median);
}
