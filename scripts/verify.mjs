// Everything that CI does: formatting, lint, the contract, types, and the tests
// on this Node and again on Node 24. Ends with 1 if any step failed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const scratch = mkdtempSync(join(tmpdir(), "verify-"));
const bin = (name) => join("node_modules", ".bin", name);
const failures = [];
const failedTests = [];

function run(title, command, args, environment = {}) {
  process.stdout.write(`\n== ${title}\n`);
  const { status, error } = spawnSync(command, args, {
    stdio: "inherit",
    env: {
      ...process.env,
      PATH: `${join(process.cwd(), "node_modules", ".bin")}:${process.env.PATH}`,
      ...environment,
    },
  });
  if (error !== undefined) process.stdout.write(`${error.message}\n`);
  if (status !== 0) failures.push(title);
  return status === 0;
}

function capture(command, args) {
  return spawnSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).stdout.trim();
}

/** The contract must stay compatible with the newest release; before the first one, with the first commit. */
function contractBase() {
  const tag = capture("git", ["tag", "--list", "v*", "--sort=-v:refname", "--merged", "HEAD"]).split("\n")[0];
  return tag || capture("git", ["rev-list", "--max-parents=0", "HEAD"]).split("\n")[0];
}

/** The path of the pinned version of an agent, or nothing where it cannot be installed. */
function installAgent(name) {
  process.stdout.write(`\n== ${name}, for the tests with the real agent\n`);
  const folder = join("node_modules", ".cache", "session-broker", name);
  const { status, stdout } = spawnSync(process.execPath, ["scripts/install-agent.mjs", name, folder], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (status === 0) return stdout.trim().split("\n").at(-1);
  process.stdout.write("it cannot be installed: its tests are SKIPPED\n");
  return undefined;
}

function tests(title, command, args, environment) {
  const report = join(scratch, `${title.replaceAll(/\W+/g, "-")}.json`);
  run(
    title,
    command,
    [...args, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`],
    environment,
  );
  try {
    const { numPassedTests, numFailedTests, numPendingTests, testResults } = JSON.parse(
      readFileSync(report, "utf8"),
    );
    failedTests.push(...testResults.flatMap(failuresOf).map((failure) => `${title}: ${failure}`));
    return `${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`;
  } catch {
    return "0 passed, 1 failed";
  }
}

/** What failed in a file of tests, with the start of each message: the whole lies far up in the output. */
function failuresOf({ name, status, message, assertionResults }) {
  const file = relative(process.cwd(), name);
  const failed = assertionResults.filter((test) => test.status === "failed");
  if (failed.length === 0) return status === "failed" ? [`${file}\n${firstLines(message)}`] : [];
  return failed.map((test) => `${file} > ${test.fullName}\n${firstLines(test.failureMessages.join("\n"))}`);
}

function firstLines(message) {
  return message
    .split("\n")
    .slice(0, 15)
    .map((line) => `    ${line}`)
    .join("\n");
}

run("format and lint", bin("biome"), ["check", "."]);
run("contract: format", bin("buf"), ["format", "--diff", "--exit-code"]);
run("contract: lint", bin("buf"), ["lint"]);
run("contract: breaking changes", bin("buf"), ["breaking", "--against", `.git#ref=${contractBase()}`]);
run("generated code: make", bin("buf"), ["generate", "--output", scratch]);
run("generated code: is it the committed one", "diff", ["-r", join(scratch, "gen"), "gen"]);
run("types", bin("tsc"), ["--noEmit"]);

const environment = {};
for (const name of ["claude", "codex", "gemini"]) {
  const executable = installAgent(name);
  if (executable !== undefined) environment[`SESSION_BROKER_TEST_${name.toUpperCase()}`] = executable;
}
if (!process.env.SESSION_BROKER_TEST_OPENAPI) {
  process.stdout.write(
    "\nSESSION_BROKER_TEST_OPENAPI names no schema of OpenAI's: the tests against it are SKIPPED\n",
  );
}
const conformance = join(scratch, "connect-conformance.txt");
environment.SESSION_BROKER_TEST_CONFORMANCE = conformance;
const here = tests("tests", "npm", ["test", "--"], environment);
const vitest = join("node_modules", "vitest", "vitest.mjs");
const on24 = tests(
  "unit and wire tests on Node 24",
  "npx",
  ["--yes", "node@24", vitest, "run", "src", "test/wire"],
  {},
);

run("costs of a small and a large store", process.execPath, [
  "bench/identity.mjs",
  "100000",
  "20000",
  "--check",
]);

run("benchmarks, briefly: do they run", "npm", ["run", "--silent", "bench", "--", "--quick"]);

const conformed = existsSync(conformance)
  ? readFileSync(conformance, "utf8")
  : "connect conformance: SKIPPED: its test has not run to its end\n";
rmSync(scratch, { recursive: true });
for (const failure of failedTests) process.stdout.write(`\n${failure}\n`);
process.stdout.write(`\nNode ${process.versions.node}: ${here}\nNode 24: ${on24}\n${conformed}`);
process.stdout.write(
  failures.length === 0 ? "verify: all steps passed\n" : `verify: FAILED: ${failures.join("; ")}\n`,
);
process.exit(failures.length === 0 ? 0 : 1);
