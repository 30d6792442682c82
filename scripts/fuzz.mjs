// Fuzzes for so many minutes: rounds of test/fuzz, each with a seed of its own.
// node scripts/fuzz.mjs [minutes, default 10] [name of a file in test/fuzz]
// Ends with 1 at the first failure, and says its seed.
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const [minutes = "10", name = ""] = process.argv.slice(2);
const untilMs = Date.now() + Number(minutes) * 60_000;
if (!(untilMs > Date.now())) {
  process.stderr.write(`${minutes}: not a number of minutes\n`);
  process.exit(2);
}
const wanted = process.env.SESSION_BROKER_FUZZ_SEED;
const runs = process.env.SESSION_BROKER_FUZZ_RUNS ?? "500";

for (let round = 1; Date.now() < untilMs; round++) {
  const seed = wanted ?? String(randomInt(2 ** 31));
  const leftMinutes = Math.ceil((untilMs - Date.now()) / 60_000);
  process.stdout.write(
    `round ${round}, seed ${seed}, ${runs} inputs of each kind, ${leftMinutes} min left\n`,
  );
  const { status, stdout } = spawnSync(
    join("node_modules", ".bin", "vitest"),
    ["run", join("test", "fuzz", name), "--reporter=dot"],
    {
      encoding: "utf8",
      maxBuffer: 1024 * 1024 * 1024,
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, SESSION_BROKER_FUZZ_SEED: seed, SESSION_BROKER_FUZZ_RUNS: runs },
    },
  );
  if (status !== 0) {
    process.stdout.write(`${stdout}\nfailed; again with SESSION_BROKER_FUZZ_SEED=${seed} npm run fuzz\n`);
    process.exit(1);
  }
  if (wanted !== undefined) break;
}
