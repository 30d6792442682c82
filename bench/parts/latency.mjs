// Latency at a fixed rate: half of what the broker does at saturation.
import { contest } from "../contest.mjs";
import { wrk } from "../load.mjs";
import { inTurns, median } from "../measure.mjs";
import { emptyOverHttp, lookup, lookups, reserveNew } from "./requests.mjs";

/** As at saturation, where each asks as often as it is answered. */
const connections = 64;

export async function latency(context) {
  const { servers, report, plan, say } = context;
  const broker = await servers.broker();
  // What the machine and the generator of load themselves do to a tail.
  const request = emptyOverHttp((await servers.bareHttp()).http);
  const bare = (plan) => wrk(request, plan);
  // New sessions first: looking up leaves activity behind that is written for a while.
  const measures = Object.fromEntries([
    ["Reserve, new (durable)", reserveNew(broker)],
    ...Object.entries(lookups).map(([what, each]) => [what, lookup(broker, each)]),
  ]);
  for (const what of plan.paced ?? Object.keys(measures)) {
    const load = measures[what];
    const hasBar = what.startsWith("Reserve");
    const seconds = hasBar ? plan.seconds : plan.sideSeconds;
    const contestant = { name: "session-broker", pid: broker.pid, load };
    const [saturation] = await contest({ ...context, plan: { ...plan, seconds } }, `${what}, at saturation`, [
      contestant,
    ]);
    const rate = saturation / 2;
    say(`${what}, ${Math.round(rate)} a second`);
    const pauseMs = (connections / rate) * 1000;
    const loads = hasBar ? [load, bare] : [load];
    const [results, ofBare] = await inTurns(loads, hasBar ? plan.barRounds : plan.rounds, (each) =>
      each({ connections, seconds, pauseMs }),
    );
    const reached = median(results.map(({ requests, seconds }) => requests / seconds));
    report.figure(`${what}, at ${Math.round(reached)} a second: p50, p99, p99.9`, inText(results));
    if (ofBare !== undefined)
      report.figure("bare node:http in turns with it, at the same rate", inText(ofBare));
    if (hasBar) {
      const ratio = medianOf(results, "p99") / medianOf(results, "p50");
      report.bar(`p99 of ${what}, at half the saturation, of p50`, ratio, 5, { most: true });
    }
  }
}

const medianOf = (results, name) => median(results.map((result) => result[name]));

const inText = (results) =>
  ["p50", "p99", "p999"].map((name) => `${medianOf(results, name).toFixed(2)} ms`).join(", ");
