/** `session-broker start` over a broker that crashes, or whose store is damaged. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { freePort } from "../support/broker.js";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));

let folder: string;
let data: string;
const started: { readonly child: ChildProcess; readonly ended: Promise<unknown[]> }[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "crash-signal-"));
  data = join(folder, "data");
});

afterEach(async () => {
  // Killed, it would leave a broker that still writes.
  for (const { child, ended } of started.splice(0)) {
    child.kill("SIGTERM");
    await ended;
  }
  rmSync(folder, { recursive: true, force: true });
});

/** Resolves once it answers, or has ended. */
async function start(
  ...more: string[]
): Promise<{ child: ChildProcess; said: () => string; ended: Promise<unknown[]> }> {
  const [listen, openai] = [await freePort(), await freePort()].map((port) => `127.0.0.1:${port}`);
  const words = ["start", "--data", data, "--metrics-listen", "off", ...more];
  const args = [main, ...words, "--listen", listen ?? "", "--openai-listen", openai ?? ""];
  const child = spawn(process.execPath, args, { cwd: folder, env: { PATH: folder, HOME: folder } });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += String(chunk)));
  const ended = once(child, "close");
  started.push({ child, ended });
  const answers = () => output.includes("Try, twice:") || child.exitCode !== null;
  await expect.poll(answers, { timeout: 20_000 }).toBe(true);
  return { child, said: () => output, ended };
}

/** The process of the broker that runs under another. */
function brokerUnder(parent: number | undefined): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim().split(" ");
  const found = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("\0serve\0"));
  return Number(found);
}

const onLinux = existsSync("/proc/self/task");

it.skipIf(!onLinux).each(["SIGSEGV", "SIGBUS", "SIGABRT"] as const)(
  "a broker that %s ends has its store read as a whole with the next start",
  async (signal) => {
    const first = await start();
    process.kill(brokerUnder(first.child.pid), signal);
    expect((await first.ended)[0]).toBe(1);
    expect(readFileSync(join(data, "verify-needed"), "utf8")).toContain(signal);
    const second = await start();
    // What it says on one stream may be read after what it said later on the other.
    await expect.poll(second.said).toMatch(new RegExp(`ended by ${signal}.*all of the store is read`));
    expect(existsSync(join(data, "verify-needed"))).toBe(false);
  },
);

it.skipIf(!onLinux)("a broker that is killed is started again as quickly as ever", async () => {
  const first = await start();
  process.kill(brokerUnder(first.child.pid), "SIGKILL");
  await first.ended;
  expect((await start()).said()).not.toContain("all of the store is read");
});

it("what to do with a damaged store is handed on to the broker", async () => {
  const first = await start();
  first.child.kill("SIGTERM");
  await first.ended;
  truncateSync(join(data, "store", "data.mdb"), 8192);
  const refused = await start();
  expect((await refused.ended)[0]).toBe(3);
  expect(refused.said()).toContain("is damaged");
  const second = await start("--start-empty");
  await expect.poll(second.said).toContain("was set aside");
  expect(readdirSync(data).filter((name) => name.startsWith("damaged-"))).toHaveLength(1);
});
