/** The first steps of a user: `npm start`, the line it prints, and the lines of the README. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePort } from "../support/broker.js";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const fakeClaude = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");

const stackTrace = /^ +at /m;

let folder: string;
let listen: string;
let openaiListen: string;
let metricsListen: string;
let started: Started[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "start-"));
  listen = `127.0.0.1:${await freePort()}`;
  openaiListen = `127.0.0.1:${await freePort()}`;
  metricsListen = `127.0.0.1:${await freePort()}`;
  started = [];
});

afterEach(async () => {
  for (const each of started) {
    each.child.kill("SIGKILL");
    await each.ended;
  }
  rmSync(folder, { recursive: true, force: true });
});

interface Started {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly errorOutput: () => string;
  /** Resolves when it and all that it has started are gone: they share its standard error. */
  readonly ended: Promise<number | null>;
}

function launch(...more: readonly string[]): Started {
  const addresses = ["--listen", listen, "--openai-listen", openaiListen, "--metrics-listen", metricsListen];
  const args = [main, "start", ...addresses, ...more];
  const child = spawn(process.execPath, args, {
    cwd: folder,
    // No claude is found on this path, unless a test puts one there.
    env: { PATH: folder, HOME: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said: string[] = [];
  const warned: string[] = [];
  child.stdout.on("data", (chunk) => said.push(String(chunk)));
  child.stderr.on("data", (chunk) => warned.push(String(chunk)));
  const one: Started = {
    child,
    output: () => said.join(""),
    errorOutput: () => warned.join(""),
    ended: once(child, "close").then(([code]) => code as number | null),
  };
  started.push(one);
  return one;
}

/** Starts it; answers the line that it prints for pasting. */
async function start(...more: readonly string[]): Promise<Started & { readonly line: string }> {
  const one = launch(...more);
  const ended = one.ended.then(() => true);
  for (;;) {
    const line = /^curl .*\n/m.exec(one.output())?.[0];
    if (line !== undefined) return { ...one, line: line.trimEnd() };
    const more = once(one.child.stdout ?? one.child, "data").then(() => false);
    if (await Promise.race([ended, more])) throw new Error(`it has ended:\n${one.errorOutput()}`);
  }
}

async function bash(script: string): Promise<string> {
  return (await execa("bash", ["-c", script], { cwd: folder })).stdout;
}

async function answerTo(line: string): Promise<string> {
  return JSON.parse(await bash(line)).choices[0].message.content;
}

/** The command line of a process. */
function wordsOf(pid: number): readonly string[] {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
}

/** The processes that another one has started, by the command that they run. */
function partsOf(pid: number | undefined): Map<string | undefined, number> {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const parts = pids.flatMap((name) => {
    try {
      // pid (name) state parent …; the name may hold spaces and brackets.
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      const words = wordsOf(Number(name));
      const command = words[words.indexOf(main) + 1];
      return parent === pid ? [[command, Number(name)] as const] : [];
    } catch {
      return [];
    }
  });
  return new Map(parts);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("session-broker start in an empty folder", { timeout: 120_000 }, () => {
  it("prints a line that works as it stands, and again after a stop", async () => {
    const first = await start();
    expect(await answerTo(first.line)).toBe("turn 1: My name is Ada.");
    expect(await answerTo(first.line)).toBe("turn 2: My name is Ada.");
    const parts = process.platform === "linux" ? partsOf(first.child.pid) : new Map<string, number>();
    if (process.platform === "linux") {
      expect([...parts.keys()].sort()).toEqual(["openai", "serve"]);
    }
    first.child.kill("SIGTERM");
    expect(await first.ended).toBe(0);
    expect([...parts.values()].filter(isAlive)).toEqual([]);

    const second = await start();
    expect(second.line).toBe(first.line);
    expect(await answerTo(second.line)).toBe("turn 3: My name is Ada.");
    second.child.kill("SIGINT");
    expect(await second.ended).toBe(0);
  });

  it("asks claude if it is on the PATH, and says how to do without", async () => {
    const programs = { claude: fakeClaude, node: process.execPath };
    for (const [name, program] of Object.entries(programs)) symlinkSync(program, join(folder, name));
    const one = await start();
    expect(one.output()).toContain('The agent is claude. Say "model":"echo"');
    expect(await answerTo(one.line)).toBe('turns=1 history=["My name is Ada."]');
    expect(await answerTo(one.line.replace('"claude"', '"echo"'))).toBe("turn 1: My name is Ada.");
  });

  it("prints a line that works with a directory of any name", async () => {
    const one = await start("--data", "it's at $HOME");
    expect(await answerTo(one.line)).toBe("turn 1: My name is Ada.");
  });

  it("refuses to start twice, and the first one goes on", async () => {
    const first = await start();
    const second = launch("--listen", `127.0.0.1:${await freePort()}`, "--metrics-listen", "off");
    expect(await second.ended).toBe(1);
    expect(second.output()).toBe("");
    expect(second.errorOutput()).toMatch(/is in use by process \d+/);
    expect(second.errorOutput()).not.toMatch(stackTrace);
    expect(await answerTo(first.line)).toBe("turn 1: My name is Ada.");
  });

  it("answers the lines of the README as the README says", async () => {
    const [ask, later] = [/```sh\n(ask\(\) \{.*?)```/s, /```sh\n(ask "And now\?".*?)```/s].map(
      (pattern) => pattern.exec(readme)?.[1] ?? "",
    );
    const [define = "", ...lines] = (ask ?? "").split(/^(?=ask ")/m);
    expect(lines).toHaveLength(2);
    const here = define.replace("127.0.0.1:7411", openaiListen);
    expect(here).not.toBe(define);

    const first = await start();
    for (const line of lines) expect(await bash(here + line)).toContain(promisedBy(line));
    // "Kill it in any way you like."
    first.child.kill("SIGKILL");
    await first.ended;
    await start();
    expect(await bash(here + later)).toContain(promisedBy(later));
  });

  it.skipIf(process.platform !== "linux").each(["serve", "openai"])(
    "ends as a whole when its part %s is killed, and starts again",
    async (part) => {
      const first = await start();
      expect(await answerTo(first.line)).toMatch(/^turn 1:/);
      process.kill(partsOf(first.child.pid).get(part) ?? 0, "SIGKILL");
      expect(await first.ended).toBe(1);
      expect(first.errorOutput()).toContain(`session-broker ${part} ended by SIGKILL`);
      expect(first.errorOutput()).not.toMatch(stackTrace);
      expect(await answerTo((await start()).line)).toMatch(/^turn 2:/);
    },
  );

  it.skipIf(process.platform !== "linux")("starts again after it and the broker were killed", async () => {
    const first = await start();
    expect(await answerTo(first.line)).toMatch(/^turn 1:/);
    const broker = partsOf(first.child.pid).get("serve") ?? 0;
    first.child.kill("SIGKILL");
    process.kill(broker, "SIGKILL");
    await first.ended;
    expect(await answerTo((await start()).line)).toMatch(/^turn 2:/);
  });

  it.each(["the broker", "the adapter", "the metrics"])(
    "says which address is taken, that of %s",
    async (part) => {
      const address = { "the broker": listen, "the adapter": openaiListen }[part] ?? metricsListen;
      const holder = await hold(address);
      try {
        const one = launch();
        expect(await one.ended).toBe(1);
        expect(one.output()).toBe("");
        const where = part === "the metrics" ? `${address} (metrics_listen)` : address;
        expect(one.errorOutput()).toContain(`cannot listen on ${where}: another process listens there`);
        expect(one.errorOutput()).not.toMatch(stackTrace);
      } finally {
        holder.close();
      }
    },
  );
});

/** What the comment behind a line of the README says that the answer has in it. */
function promisedBy(line: string | undefined): string {
  const promise = /# … (.*) …$/m.exec(line ?? "")?.[1];
  if (promise === undefined) throw new Error(`no promise in ${line}`);
  return promise;
}

async function hold(address: string): Promise<Server> {
  const [host, port] = address.split(":");
  const server = createServer().listen({ host, port: Number(port) });
  await once(server, "listening");
  return server;
}
