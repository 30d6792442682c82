/**
 * Finding and ending the processes of a session. A tool that an agent starts
 * may leave the agent's process group, but it keeps the mark in its
 * environment. Marks are `<store>/<life>/<session>`.
 *
 * Only Linux shows the environment of other processes (/proc); elsewhere no
 * process is found by its mark, and only process groups are reached.
 */
import { setTimeout as delay } from "node:timers/promises";
import { canScan, type LiveProcess, ProcessTable } from "./process-table.js";

/** One signal, and how long to wait for its effect. */
export interface EndingStep {
  readonly signal: NodeJS.Signals;
  readonly waitMs: number;
}

export const endingSteps: readonly EndingStep[] = [
  { signal: "SIGTERM", waitMs: 5_000 },
  { signal: "SIGKILL", waitMs: 5_000 },
];

/** One for this process, as there is one machine. */
const processes = new ProcessTable();
const pollMs = 25;

/** Every live process but this one whose mark fulfils the predicate. */
export async function findMarked(matches: (mark: string, pid: number) => boolean): Promise<LiveProcess[]> {
  return (await processes.list()).filter(({ mark, pid }) => mark !== undefined && matches(mark, pid));
}

/** Ends those processes. Returns the pids of the ones that could not be ended; throws if they cannot be listed. */
export async function killMarked(
  matches: (mark: string, pid: number) => boolean,
  steps: readonly EndingStep[] = endingSteps,
): Promise<readonly number[]> {
  return await endAll(() => findMarked(matches), steps);
}

/**
 * Ends what earlier lives of a store have left. To be called at the start,
 * before any turn runs. Returns those that could not be ended.
 */
export async function sweepEarlierLives(
  storeId: string,
  lifeId: string,
  steps: readonly EndingStep[] = endingSteps,
): Promise<readonly LiveProcess[]> {
  const isEarlier = (mark: string) => {
    const [store, life] = mark.split("/");
    return store === storeId && life !== lifeId;
  };
  const left = await killMarked(isEarlier, steps);
  return left.length === 0 ? [] : await findMarked(isEarlier);
}

/** Ends a process group and everything that carries the mark. Returns the pids that are left. */
export async function endProcesses(
  group: number,
  mark: string | undefined,
  steps: readonly EndingStep[] = endingSteps,
): Promise<readonly number[]> {
  if (!canScan) return await endAll(() => probeGroup(group), steps, group);
  const find = async () =>
    (await processes.list()).filter(
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

function send(target: number, signal: NodeJS.Signals): void {
  try {
    process.kill(target, signal);
  } catch {
    // It has ended meanwhile, or is another user's: the next scan tells.
  }
}
