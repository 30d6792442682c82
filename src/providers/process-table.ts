/**
 * The processes of the machine with their marks. Looking at all of them costs
 * milliseconds, so those who ask at the same time share one look, which begins
 * after they asked; and an environment is read once, since it stays what it is.
 */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { childMarkVariable } from "./environment.js";

export interface LiveProcess {
  readonly pid: number;
  /** Process group. */
  readonly group: number;
  /** Absent: none, or it cannot be read. */
  readonly mark?: string;
}

interface Known {
  /** In clock ticks since boot: tells two processes with one pid apart. */
  readonly startTicks: number;
  readonly mark: string | undefined;
}

/** Only Linux shows the environment of other processes. */
export const canScan = process.platform === "linux" && existsSync("/proc/self/environ");

const ticksPerSecond = 100;
/** A younger process may not have begun its own program yet, and has the environment of its parent. */
const settledTicks = 5 * ticksPerSecond;
/** Looked at in one turn of the event loop. */
const sliceSize = 64;

export class ProcessTable {
  #known = new Map<number, Known>();
  #running: Promise<unknown> | undefined;
  #next: Promise<readonly LiveProcess[]> | undefined;

  /** Every live process but this one. Rejects if they cannot be listed. */
  list(): Promise<readonly LiveProcess[]> {
    if (!canScan) return Promise.resolve([]);
    this.#next ??= this.#afterRunning();
    return this.#next;
  }

  async #afterRunning(): Promise<readonly LiveProcess[]> {
    await this.#running;
    const scan = this.#scan();
    this.#next = undefined;
    this.#running = scan.catch(() => {});
    return scan;
  }

  async #scan(): Promise<LiveProcess[]> {
    const pids = readdirSync("/proc").map(Number);
    const others = pids.filter((pid) => Number.isInteger(pid) && pid > 0 && pid !== process.pid);
    const uptimeTicks = Number.parseFloat(readFileSync("/proc/uptime", "latin1")) * ticksPerSecond;
    const found: LiveProcess[] = [];
    const known = new Map<number, Known>();
    for (const [index, pid] of others.entries()) {
      if (index % sliceSize === sliceSize - 1) await nextTurn();
      const stat = readStat(pid);
      if (stat === undefined) continue;
      const mark = this.#markOf(pid, stat.startTicks);
      if (uptimeTicks - stat.startTicks > settledTicks) known.set(pid, { startTicks: stat.startTicks, mark });
      found.push({ pid, group: stat.group, ...(mark === undefined ? {} : { mark }) });
    }
    this.#known = known;
    return found;
  }

  #markOf(pid: number, startTicks: number): string | undefined {
    const known = this.#known.get(pid);
    return known?.startTicks === startTicks ? known.mark : readMark(pid);
  }
}

/** Undefined if it is gone. */
function readStat(pid: number): { readonly group: number; readonly startTicks: number } | undefined {
  const stat = read(`/proc/${pid}/stat`, ["ENOENT", "ESRCH"]);
  if (stat === undefined) return undefined;
  // pid (name) state parent group …; the name may hold spaces and brackets.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return undefined;
  return { group: Number(fields[2]), startTicks: Number(fields[19]) };
}

function readMark(pid: number): string | undefined {
  const prefix = `${childMarkVariable}=`;
  return read(`/proc/${pid}/environ`, ["ENOENT", "ESRCH", "EACCES", "EPERM"])
    ?.split("\0")
    .find((entry) => entry.startsWith(prefix))
    ?.slice(prefix.length);
}

const chunk = Buffer.allocUnsafe(4096);

/** Undefined for errors that only say that the process is gone, or another user's. */
function read(path: string, expected: readonly string[]): string | undefined {
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    const length = readSync(file, chunk, 0, chunk.length, null);
    if (length < chunk.length) return chunk.toString("utf8", 0, length);
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && expected.includes(String(error.code))) return undefined;
    throw error;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
