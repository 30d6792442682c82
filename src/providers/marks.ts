/**
 * Finding and ending the processes of a session. A tool that an agent starts
 * may leave the agent's process group, but it keeps the mark in its
 * environment. Marks are `<store>/<life>/<session>`.
 *
 * Only Linux shows the environment of other processes (/proc); elsewhere no
 * process is found by its mark, and only process groups are reached.
 */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { childMarkVariable } from "./environment.js";

export interface LiveProcess {
  readonly pid: number;
  /** Process group. */
  readonly group: number;
  /** Absent: none, or it cannot be read. */
  readonly mark?: string;
}

/** One signal, and how long to wait for its effect. */
export interface EndingStep {
  readonly signal: NodeJS.Signals;
  readonly waitMs: number;
}

export const endingSteps: readonly EndingStep[] = [
  { signal: "SIGTERM", waitMs: 5_000 },
  { signal: "SIGKILL", waitMs: 5_000 },
];

const canScan = process.platform === "linux" && existsSync("/proc/self/environ");
const pollMs = 25;

/** Every live process but this one whose mark fulfils the predicate. */
export async function findMarked(matches: (mark: string) => boolean): Promise<LiveProcess[]> {
  return (await listProcesses()).filter((found) => found.mark !== undefined && matches(found.mark));
}

/** Ends those processes. Returns the pids of the ones that could not be ended; throws if they cannot be listed. */
export async function killMarked(
  matches: (mark: string) => boolean,
  steps: readonly EndingStep[] = endingSteps,
): Promise<readonly number[]> {
  return await endAll(() => findMarked(matches), steps);
}

/**
 * Ends what earlier lives of a store have left. To be called at the start,
 * before any turn runs. Returns the pids of those that could not be ended.
 */
export async function sweepEarlierLives(
  storeId: string,
  lifeId: string,
  steps: readonly EndingStep[] = endingSteps,
): Promise<readonly number[]> {
  return await killMarked((mark) => {
    const [store, life] = mark.split("/");
    return store === storeId && life !== lifeId;
  }, steps);
}

/** Ends a process group and everything that carries the mark. Returns the pids that are left. */
export async function endProcesses(
  group: number,
  mark: string | undefined,
  steps: readonly EndingStep[] = endingSteps,
): Promise<readonly number[]> {
  if (!canScan) return await endAll(() => probeGroup(group), steps, group);
  const find = async () =>
    (await listProcesses()).filter(
      (found) => found.group === group || (mark !== undefined && found.mark === mark),
    );
  return await endAll(find, steps, group);
}

/**
 * Sends each step's signal to all that `find` names, and to those that it
 * names later. Nothing counts as ended before two scans in a row find nothing:
 * a process can be missed while it forks or begins a new program.
 */
async function endAll(
  find: () => Promise<LiveProcess[]>,
  steps: readonly EndingStep[],
  group?: number,
): Promise<readonly number[]> {
  for (const step of steps) {
    const signalled = new Set<number>();
    const until = performance.now() + step.waitMs;
    for (let emptyScans = 0; ; ) {
      // A scan that fails, for want of file descriptors, says nothing.
      const found = await find().catch(() => undefined);
      if (found?.length === 0) {
        if (++emptyScans === 2) return [];
        continue;
      }
      emptyScans = 0;
      // A group is signalled as one, so that none of its members can fork in between.
      for (const target of targetsOf(found ?? [], group)) {
        if (!signalled.has(target)) send(target, step.signal);
        signalled.add(target);
      }
      if (performance.now() >= until) break;
      await delay(pollMs);
    }
  }
  try {
    return (await find()).map((left) => left.pid);
  } catch (error) {
    if (group === undefined) throw error;
    // Unknown is not ended.
    return [group];
  }
}

function targetsOf(found: readonly LiveProcess[], group: number | undefined): Set<number> {
  return new Set(found.map((each) => (group !== undefined && each.group === group ? -group : each.pid)));
}

async function probeGroup(group: number): Promise<LiveProcess[]> {
  try {
    process.kill(-group, 0);
    return [{ pid: group, group }];
  } catch {
    return [];
  }
}

async function listProcesses(): Promise<LiveProcess[]> {
  if (!canScan) return [];
  const names = await readdir("/proc");
  const pids = names.map(Number).filter((pid) => Number.isInteger(pid) && pid > 0 && pid !== process.pid);
  const found = await Promise.all(pids.map(readProcess));
  return found.filter((each) => each !== undefined);
}

async function readProcess(pid: number): Promise<LiveProcess | undefined> {
  try {
    // pid (name) state parent group …; the name may hold spaces and brackets.
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    const [state, , group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (state === "Z" || state === "X") return undefined;
    const mark = await readMark(pid);
    return { pid, group: Number(group), ...(mark === undefined ? {} : { mark }) };
  } catch (error) {
    return undefinedIf(error, ["ENOENT", "ESRCH"]);
  }
}

async function readMark(pid: number): Promise<string | undefined> {
  const prefix = `${childMarkVariable}=`;
  try {
    const environment = await readFile(`/proc/${pid}/environ`, "utf8");
    return environment
      .split("\0")
      .find((entry) => entry.startsWith(prefix))
      ?.slice(prefix.length);
  } catch (error) {
    return undefinedIf(error, ["ENOENT", "ESRCH", "EACCES", "EPERM"]);
  }
}

/** Throws the error, unless it only says that the process is gone, or another user's. */
function undefinedIf(error: unknown, codes: readonly string[]): undefined {
  if (!(error instanceof Error && "code" in error && codes.includes(String(error.code)))) throw error;
}

function send(target: number, signal: NodeJS.Signals): void {
  try {
    process.kill(target, signal);
  } catch {
    // It has ended meanwhile, or is another user's: the next scan tells.
  }
}
