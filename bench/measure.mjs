// What is done with measurements: medians, spread, and what a process used.
import { readdirSync, readFileSync } from "node:fs";

const ticksPerSecond = 100;

/** @param q from 0 to 1 */
export const quantile = (values, q) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))];

export const median = (values) => quantile(values, 0.5);

/** Median, least and most. */
export const spread = (values) => ({
  median: median(values),
  least: Math.min(...values),
  most: Math.max(...values),
});

/**
 * Runs each contestant once in every round, A B A B, so that what else runs on
 * the machine meets all of them alike. Resolves with the results of each.
 */
export async function inTurns(contestants, rounds, run) {
  const results = contestants.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, contestant] of contestants.entries()) {
      results[index].push(await run(contestant, round));
    }
  }
  return results;
}

/** Seconds of processor time of these processes and of all that they started. */
export function cpuSeconds(pids) {
  let ticks = 0;
  for (const pid of withChildren(pids)) {
    const fields = statOf(pid);
    if (fields !== undefined) ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / ticksPerSecond;
}

/** Bytes: all resident memory, and that of the process alone, without mapped files. */
export function memoryOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const bytes = (name) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) * 1024;
  return { resident: bytes("VmRSS"), own: bytes("RssAnon") };
}

export const openFiles = (pid) => readdirSync(`/proc/${pid}/fd`).length;

function withChildren(pids) {
  const all = new Set(pids);
  const parents = readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0)
    .map((pid) => [pid, Number(statOf(pid)?.[1])]);
  for (let size = 0; size !== all.size; ) {
    size = all.size;
    for (const [pid, parent] of parents) if (all.has(parent)) all.add(pid);
  }
  return all;
}

/** From the state on: what stands before it may have any name. See proc(5). */
function statOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(") ") + 2).split(" ");
  } catch {
    return undefined;
  }
}
