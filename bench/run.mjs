#!/usr/bin/env node
// The benchmarks: the broker beside its peers on one machine, measured in turns.
//
//   npm run bench                     everything, with stores of up to 200,000 sessions
//   npm run bench:full                and with 5 million sessions
//   npm run bench -- --quick          each measure once and briefly, as a smoke test
//   npm run bench -- --only NAME      one part: empty, identity, durable, latency, streams, dispatch, scale
//   npm run bench -- --write          puts the result into docs/benchmarks.md
//
// Prints Markdown on stdout and progress on stderr. Ends with 0 whatever the
// figures are. Needs wrk and h2load (Debian: wrk, nghttp2-client); peers that
// are not installed are left out, with a message.
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { findProgram } from "./load.mjs";
import { durable } from "./parts/durable.mjs";
import { empty } from "./parts/empty.mjs";
import { identity } from "./parts/identity.mjs";
import { latency } from "./parts/latency.mjs";
import { dispatch, scale } from "./parts/programs.mjs";
import { createServers } from "./parts/servers.mjs";
import { streams } from "./parts/streams.mjs";
import { createReport, toMarkdown, writeBlock } from "./report.mjs";

const parts = { empty, identity, durable, latency, streams, dispatch, scale };
/** Of these, a smoke test has no time. */
const slow = ["dispatch", "scale"];
/**
 * Seconds of each measurement; `sideSeconds` where no bar hangs on it. `barRounds` of empty RPCs, and of a
 * latency with a bar: the 99th percentile of two seconds is what the disk did in its worst twenty
 * milliseconds. Without `paced`, the latency of all.
 */
const normal = {
  rounds: 3,
  barRounds: 5,
  seconds: 2,
  sideSeconds: 1,
  warmSeconds: 1,
  clients: [1, 16, 64, 256],
  rows: 200_000,
  streams: [1, 100],
  open: 500,
  mayCompile: true,
  scale: ["100000", "20000"],
};
const plans = {
  normal,
  full: { ...normal, scale: ["5000000", "1000000"] },
  quick: {
    rounds: 1,
    barRounds: 1,
    seconds: 1,
    sideSeconds: 1,
    warmSeconds: 0,
    clients: [64],
    rows: 2_000,
    streams: [16],
    open: 50,
    mayCompile: false,
    paced: ["Reserve, existing"],
    scale: ["2000", "200"],
  },
};

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    only: { type: "string", multiple: true },
  },
});
for (const name of options.only ?? []) {
  if (!Object.hasOwn(parts, name)) {
    process.stderr.write(`--only: there is no part "${name}"; there are ${Object.keys(parts).join(", ")}\n`);
    process.exit(2);
  }
}
const size = options.quick ? "quick" : options.full ? "full" : "normal";
const missing = ["wrk", "h2load"].filter((name) => findProgram(name) === undefined);
if (missing.length > 0) {
  process.stderr.write(
    `${missing.join(" and ")} not found: nothing is measured; install them (Debian: wrk, nghttp2-client)\n`,
  );
  process.exit(0);
}

const started = performance.now();
const say = (text) =>
  process.stderr.write(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}\n`);
const folder = mkdtempSync(join(tmpdir(), "bench-"));
// PostgreSQL may run as another user, in a folder of its own in here.
chmodSync(folder, 0o711);
const plan = plans[size];
const report = createReport();
const servers = createServers(folder, plan.rows, say);
const loadBefore = loadavg()[0];
try {
  const chosen =
    options.only ?? Object.keys(parts).filter((name) => size !== "quick" || !slow.includes(name));
  for (const name of chosen) {
    await parts[name]({ plan, report, servers, folder, say });
    await servers.stopBroker();
  }
} finally {
  await servers.stop();
  rmSync(folder, { recursive: true, force: true });
}
const markdown = toMarkdown(report, heading());
process.stdout.write(markdown);
if (options.write) writeBlock("npm run bench -- --write", markdown);

function heading() {
  const flags = size === "normal" ? [] : [`--${size}`];
  for (const name of options.only ?? []) flags.push(`--only ${name}`);
  const command = ["npm run bench", ...(flags.length === 0 ? [] : ["--", ...flags])].join(" ");
  const [cpu] = cpus();
  return [
    `\`${command}\` on ${new Date().toISOString().slice(0, 10)}: ${cpus().length} cores (${cpu?.model.trim()}),`,
    `${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.versions.node};`,
    `${plan.rounds} rounds of ${plan.seconds} s each, ${plan.barRounds} of empty RPCs and of latencies with a bar, medians; the load of the machine was ${loadBefore.toFixed(1)} before it began;`,
    `it took ${((performance.now() - started) / 60_000).toFixed(1)} minutes.`,
  ].join("\n");
}
