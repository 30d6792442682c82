// Parts that are programs of their own, whose output the report takes over.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** What the broker adds to a turn, and what processes that stay save with the real command line. */
export async function dispatch(context) {
  await run(context, "bench/turns/overhead.mjs", ["40"]);
  const claude = process.env.SESSION_BROKER_TEST_CLAUDE ?? installedClaude();
  if (existsSync(claude)) await run(context, "bench/providers/claude.mjs", [claude, "3"], "CLAUDE 3");
  else
    console.error(
      "Claude Code is not installed (npm run verify does that): the real command line is skipped",
    );
}

/** Small and large stores. In full, 5 million sessions, for which there are bars. */
export async function scale(context) {
  const { plan, report } = context;
  const output = await run(context, "bench/identity.mjs", [...plan.scale, "--json"]);
  const { sessions, bytesPerSession, ownMemory, memoryPerMillion } = JSON.parse(output.split("\n").at(-1));
  if (sessions < 5_000_000) return;
  report.figure(
    "memory for each million sessions, beside the mapped store",
    `${(memoryPerMillion / 2 ** 20).toFixed(1)} MiB`,
  );
  report.bar("5 million sessions: memory beyond the mapped store", ownMemory / 2 ** 20, 300, {
    most: true,
    unit: "MiB",
  });
  report.bar("5 million sessions: disk for each", bytesPerSession, 900, { most: true, unit: "bytes" });
}

async function run({ report, say }, file, args, shown = args.join(" ")) {
  say(`${file} ${args.join(" ")}`);
  const path = fileURLToPath(new URL(`../../${file}`, import.meta.url));
  const child = spawn(process.execPath, [path, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  const [status] = await once(child, "close");
  if (status !== 0) throw new Error(`${file} ended with ${status}`);
  const text = output.trim();
  report.outputs.push([`node ${file} ${shown.replace(" --json", "")}`, text.replace(/\n\{.*\}$/, "")]);
  return text;
}

const installedClaude = () =>
  fileURLToPath(
    new URL(
      `../../node_modules/.cache/session-broker/claude/node_modules/@anthropic-ai/claude-code-${process.platform}-${process.arch}/claude`,
      import.meta.url,
    ),
  );
