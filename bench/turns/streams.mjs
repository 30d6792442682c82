// Many turns at once, each streaming 20 words a second: does any delta get lost
// or come late, and what does it cost? The readers are one Go program, which
// does not slow them down as a client in Node would. Needs Go.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { startBroker } from "../broker.mjs";

const turns = Number(process.argv[2] ?? 500);
const seconds = Number(process.argv[3] ?? 30);
const root = new URL("../..", import.meta.url).pathname;

/** Builds the reader with clients generated from the contract. */
function buildReader(folder) {
  const module = join(root, "test", "polyglot", "go");
  for (const file of ["go.mod", "go.sum"]) cpSync(join(module, file), join(folder, file));
  cpSync(new URL("reader/main.go", import.meta.url).pathname, join(folder, "main.go"));
  const run = (command, args, env = {}) =>
    execFileSync(command, args, {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ["ignore", "ignore", "inherit"],
    });
  const bin = join(folder, "bin");
  run("go", ["install", "tool"], { GOBIN: bin });
  const template = {
    version: "v2",
    managed: { enabled: true, override: [{ file_option: "go_package_prefix", value: "polyglot/gen" }] },
    plugins: ["protoc-gen-go", "protoc-gen-connect-go"].map((plugin) => ({
      local: join(bin, plugin),
      out: join(folder, "gen"),
      opt: ["paths=source_relative"],
    })),
    inputs: [
      {
        directory: join(root, "proto"),
        paths: ["sessionbroker/v1", "buf", "google"].map((path) => join(root, "proto", path)),
      },
    ],
  };
  const file = join(folder, "buf.gen.json");
  writeFileSync(file, JSON.stringify(template));
  run(join(root, "node_modules", ".bin", "buf"), ["generate", "--template", file]);
  run("go", ["build", "-o", "reader", "."], { GOFLAGS: "-mod=readonly" });
  return join(folder, "reader");
}

const folder = mkdtempSync(join(tmpdir(), "bench-reader-"));
const broker = await startBroker(
  `providers: [{ id: paced, maxRunning: ${turns}, echo: { delay: 0.05s } }]\nlimits: { runningTurns: ${turns} }\n`,
  17_421,
);
try {
  const reader = buildReader(folder);
  const idleMiB = broker.memoryMiB();
  const environment = {
    BROKER_URL: broker.url,
    BROKER_TOKEN: broker.token,
    TURNS: `${turns}`,
    WORDS: `${seconds * 20}`,
  };
  const child = spawn(reader, [], { env: environment, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  let peakMiB = 0;
  let done = false;
  const ended = once(child, "exit").then(() => {
    done = true;
  });
  while (!done) {
    peakMiB = Math.max(peakMiB, broker.memoryMiB());
    await Promise.race([ended, pause(200)]);
  }
  const { completed, deltas, lost, p50Ms, p99Ms, maxMs, lastMs } = JSON.parse(output);
  console.log(`${turns} turns at once, 20 deltas/s each, for ${seconds} s, journal on:`);
  console.log(
    `completed ${completed}, deltas ${deltas}, lost ${lost}, all over after ${(lastMs / 1000).toFixed(1)} s`,
  );
  console.log(
    `from the broker's stamp to the reader: p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, most ${maxMs.toFixed(1)} ms`,
  );
  console.log(
    `memory without the mapped store: ${idleMiB.toFixed(0)} MiB idle, ${peakMiB.toFixed(0)} MiB at most: ${(peakMiB - idleMiB).toFixed(0)} MiB more`,
  );
} finally {
  await broker.stop();
  rmSync(folder, { recursive: true, force: true });
}
