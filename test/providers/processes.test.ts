import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { getPriority } from "node:os";
import { afterEach, describe, expect, test } from "vitest";
import { OutputLimitError } from "../../src/providers/lines.js";
import { findMarked, killMarked, sweepEarlierLives } from "../../src/providers/marks.js";
import { SilenceError } from "../../src/providers/output-wait.js";
import { type ChildOptions, SpawnError, startChild, type Written } from "../../src/providers/process.js";
import { isRunning } from "./turns.js";

const started: number[] = [];

afterEach(() => {
  for (const pid of started.splice(0)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It is gone, as it should be.
    }
  }
});

/** Starts a program with a mark that says `ready` when its handlers stand. Resolves to its pid. */
async function startMarked(mark: string, program = ""): Promise<number> {
  const code = `${program}; setInterval(() => {}, 1000); console.log("ready");`;
  const child = spawn(process.execPath, ["-e", code], {
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
    env: { SESSION_BROKER_CHILD: mark },
  });
  await once(child.stdout, "data");
  const pid = child.pid ?? 0;
  started.push(pid);
  return pid;
}

const deaf = "process.on('SIGTERM', () => {})";
const pidsOf = async (mark: string) => (await findMarked((each) => each === mark)).map((found) => found.pid);

function childOf(program: string, fields: Partial<ChildOptions> = {}): ChildOptions {
  return {
    executable: process.execPath,
    args: ["-e", program],
    cwd: "/",
    environment: {},
    input: "",
    silenceMs: 60_000,
    ...fields,
  };
}

async function read(lines: AsyncIterable<string>): Promise<string[]> {
  const got: string[] = [];
  for await (const line of lines) got.push(line);
  return got;
}

describe.runIf(process.platform === "linux")("marked processes", () => {
  test("are found by their mark, and ended", async () => {
    const mark = `${randomUUID()}/life/session`;
    const pid = await startMarked(mark);
    expect(await pidsOf(mark)).toEqual([pid]);
    expect(await killMarked((each) => each === mark)).toEqual([]);
    expect(await pidsOf(mark)).toEqual([]);
  });

  test("are killed if they do not listen", async () => {
    const mark = `${randomUUID()}/life/session`;
    await startMarked(mark, deaf);
    const steps = [
      { signal: "SIGTERM", waitMs: 100 },
      { signal: "SIGKILL", waitMs: 10_000 },
    ] as const;
    expect(await killMarked((each) => each === mark, steps)).toEqual([]);
  });

  test("are named if they cannot be ended", async () => {
    const mark = `${randomUUID()}/life/session`;
    const pid = await startMarked(mark, deaf);
    expect(await killMarked((each) => each === mark, [{ signal: "SIGTERM", waitMs: 100 }])).toEqual([pid]);
  });

  test("of earlier lives of the store are swept, and no others", async () => {
    const [store, other] = [randomUUID(), randomUUID()];
    await startMarked(`${store}/life-1/session`);
    await startMarked(`${store}/life-2/session`);
    const current = await startMarked(`${store}/life-3/session`);
    const foreign = await startMarked(`${other}/life-1/session`);
    expect(await sweepEarlierLives(store, "life-3")).toEqual([]);
    const left = await findMarked((mark) => mark.startsWith(store) || mark.startsWith(other));
    expect(left.map((found) => found.pid).sort()).toEqual([current, foreign].sort());
  });
});

describe("a child", () => {
  test("gets its input and an end of it, and only the environment it is given", async () => {
    const program = `
      const input = require("node:fs").readFileSync(0, "utf8");
      console.log(JSON.stringify({ input, names: Object.keys(process.env) }));`;
    const child = await startChild(childOf(program, { input: "äöü", environment: { ONLY: "1" } }));
    const [line] = await read(child.lines());
    expect(JSON.parse(line ?? "")).toEqual({ input: "äöü", names: ["ONLY"] });
    expect(await child.end()).toEqual({ exit: { code: 0, signal: null }, survivors: [] });
  });

  test("leaves the processor to the broker first, and so does what it starts", async () => {
    const program = `
      process.stdin.once("data", () => {
        const of = (pid) => require("os").getPriority(pid);
        const tool = require("child_process").spawn("sleep", ["5"]);
        console.log(JSON.stringify([of(process.pid), of(tool.pid)]));
        tool.kill();
      });`;
    const child = await startChild(childOf(program, { input: "go\n", keepInputOpen: true }));
    for await (const line of child.lines()) {
      const niceness = getPriority() + 5;
      expect(JSON.parse(line)).toEqual([niceness, niceness]);
      child.closeInput();
    }
    await child.end();
  });

  test("takes more input until that is closed", async () => {
    const child = await startChild(
      childOf("process.stdin.pipe(process.stdout)", { input: "a\n", keepInputOpen: true }),
    );
    const got: string[] = [];
    const written: Written[] = [];
    for await (const line of child.lines()) {
      got.push(line);
      if (line === "b") child.closeInput();
      written.push(await child.write("b\n"));
    }
    expect(got).toEqual(["a", "b"]);
    expect(written).toEqual(["taken", "refused"]);
    expect(await child.end()).toMatchObject({ exit: { code: 0 } });
    expect(await child.write("c\n")).toBe("refused");
  });

  test("that is gone takes no input", async () => {
    const child = await startChild(childOf("process.exit(0)", { keepInputOpen: true }));
    await child.exit;
    expect(await child.write("x".repeat(4_000_000))).toBe("refused");
    await child.end();
  });

  test("may say nothing while the answer is ours, and has its time again afterwards", async () => {
    const program = `process.stdin.once("data", () => setInterval(() => {}, 1000)); console.log("well?");`;
    const child = await startChild(childOf(program, { silenceMs: 200, keepInputOpen: true }));
    let isAsked = true;
    const answeredAt = new Promise<number>((resolve) =>
      setTimeout(async () => {
        isAsked = false;
        await child.write("yes");
        resolve(performance.now());
      }, 600),
    );
    await expect(read(child.lines(() => isAsked))).rejects.toThrow(SilenceError);
    expect(performance.now() - (await answeredAt)).toBeGreaterThanOrEqual(190);
    await child.end();
  });

  test("that does not read its input is judged by its exit", async () => {
    const child = await startChild(childOf("process.exit(5)", { input: "x".repeat(4_000_000) }));
    expect(await read(child.lines())).toEqual([]);
    expect(await child.end()).toMatchObject({ exit: { code: 5 } });
  });

  test("keeps the end of its standard error", async () => {
    const program = `process.stderr.write("x".repeat(200_000) + "the end")`;
    const child = await startChild(childOf(program));
    await read(child.lines());
    await child.end();
    expect(child.errorOutput()).toMatch(/^x+the end$/);
    expect(child.errorOutput().length).toBe(64 * 1024);
  });

  test("is ended after a silence", async () => {
    const child = await startChild(childOf("setInterval(() => {}, 1000)", { silenceMs: 200 }));
    await expect(read(child.lines())).rejects.toThrow(SilenceError);
    expect(await child.end()).toEqual({ exit: { code: null, signal: "SIGTERM" }, survivors: [] });
  });

  test("is ended after too much output", async () => {
    const program = "setInterval(() => console.log('x'.repeat(1000)), 1)";
    const child = await startChild(childOf(program, { limits: { maxBytes: 10_000 } }));
    await expect(read(child.lines())).rejects.toThrow(OutputLimitError);
    expect(await child.end()).toMatchObject({ survivors: [] });
  });

  test("takes its group with it", async () => {
    const program = `
      const inner = "setInterval(() => {}, 1000); console.log(process.pid)";
      require("node:child_process").spawn(process.execPath, ["-e", inner], { stdio: ["ignore", 1, 2] });
      setInterval(() => {}, 1000);`;
    const child = await startChild(childOf(program));
    let inner = 0;
    for await (const line of child.lines()) {
      inner = Number(line);
      void child.end();
    }
    expect(await child.end()).toMatchObject({ survivors: [] });
    expect(inner).toBeGreaterThan(0);
    expect(isRunning(inner)).toBe(false);
  });

  test("that cannot be ended is named and does not hold its reader", async () => {
    const steps = [{ signal: "SIGTERM", waitMs: 100 }] as const;
    const program = `${deaf}; setInterval(() => {}, 1000); console.log(process.pid)`;
    const child = await startChild(childOf(program, { steps }));
    let pid = 0;
    for await (const line of child.lines()) {
      pid = Number(line);
      started.push(pid);
      void child.end();
    }
    expect(await child.end()).toEqual({ survivors: [pid] });
  });

  test("whose executable is missing or no program is a SpawnError", async () => {
    await expect(startChild(childOf("", { executable: "/missing/program" }))).rejects.toThrow(SpawnError);
    await expect(startChild(childOf("", { executable: "/" }))).rejects.toThrow(SpawnError);
  });
});
