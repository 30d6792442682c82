#!/usr/bin/env node
// Where the time of a call goes, on the short way and without it.
//
//   npm run build && node bench/profile.mjs
//
// Reserve of existing sessions over HTTP/1.1 with JSON, 64 clients (wrk). Each
// broker runs with a profiler, which samples what its main thread is doing.
// Prints a table: microseconds of one call, by what they are spent in.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startBroker } from "./broker.mjs";
import { lookup, lookups } from "./parts/requests.mjs";
import { fillStore } from "./rows.mjs";

const [connections, seconds, warmSeconds, rows] = [64, 5, 2, 20_000];
/** By where the code of a sample lies; the first that fits counts. */
const parts = [
  ["collecting memory", ({ functionName }) => functionName === "(garbage collector)"],
  ["the system and Node.js's native code", ({ url }) => url === ""],
  ["Node.js's HTTP and streams", ({ url }) => url.startsWith("node:")],
  ["connect", ({ url }) => /@connectrpc\/(connect|connect-node)\//.test(url)],
  [
    "validation",
    ({ url }) => /protovalidate|@bufbuild\/(cel|re2)|@connectrpc\/validate|rpc\/validation/.test(url),
  ],
  ["protobuf", ({ url }) => /@bufbuild\/protobuf/.test(url)],
  ["the store", ({ url }) => /node_modules\/(lmdb|ordered-binary|@harperfast)|store\/lmdb/.test(url)],
  ["the short way", ({ url }) => /server\/fast-path/.test(url)],
  ["metrics and traces", ({ url }) => /prom-client|@opentelemetry|\/(metrics|tracing)/.test(url)],
  ["the rest of the broker", () => true],
];

const table = new Map(parts.map(([part]) => [part, []]));
for (const fastPath of [false, true]) {
  const data = mkdtempSync(join(tmpdir(), "bench-profile-"));
  try {
    await fillStore(data, rows, { aliased: true });
    const config = JSON.stringify({ providers: [{ id: "echo", echo: {} }], fastPath });
    const startedMs = performance.now();
    const profiling = ["--cpu-prof", `--cpu-prof-dir=${join(data, "profiles")}`];
    const broker = await startBroker(config, undefined, {}, data, profiling);
    const load = lookup({ ...broker, rows }, lookups["Reserve, existing"]);
    await load({ connections, seconds: warmSeconds });
    const fromMs = performance.now() - startedMs;
    const { requests } = await load({ connections, seconds });
    const toMs = performance.now() - startedMs;
    await broker.stop();
    const spent = readProfile(join(data, "profiles"), fromMs, toMs);
    for (const [part, row] of table) row.push((spent.get(part) ?? 0) / requests);
  } finally {
    rmSync(data, { recursive: true, force: true });
  }
}
console.log("| microseconds of one call spent in | `fast_path: false` | `fast_path: true` |\n|---|---|---|");
const print = (name, row) => console.log(`| ${name} | ${row.map((each) => each.toFixed(1)).join(" | ")} |`);
for (const [part, row] of table) print(part, row);
print(
  "all",
  [0, 1].map((way) => [...table.values()].reduce((sum, row) => sum + row[way], 0)),
);

/** Microseconds by part, of the main thread: CPU.<date>.<time>.<pid>.<thread>.<number>.cpuprofile. */
function readProfile(folder, fromMs, toMs) {
  const name = readdirSync(folder).find((each) => each.split(".")[4] === "0");
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(folder, name), "utf8"));
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const spent = new Map();
  let at = 0;
  for (const [index, sample] of samples.entries()) {
    const took = timeDeltas[index];
    at += took;
    const frame = frames.get(sample);
    if (frame.functionName === "(idle)" || at < fromMs * 1000 || at > toMs * 1000) continue;
    const [part] = parts.find(([, fits]) => fits(frame));
    spent.set(part, (spent.get(part) ?? 0) + took);
  }
  return spent;
}
