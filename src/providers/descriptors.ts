/**
 * Files of the broker that a child would find open. Node.js opens its own so
 * that none is; a native library need not, and the store's does not.
 */
import { readdirSync, readFileSync } from "node:fs";

const closedOnExec = 0o2000000;

/** Descriptors from 3 on that outlive the start of another program. Empty where there is no /proc. */
export function inheritedDescriptors(): number[] {
  return list("/proc/self/fdinfo").filter((descriptor) => {
    if (descriptor < 3) return false;
    const flags = /^flags:\s*([0-7]+)/m.exec(read(`/proc/self/fdinfo/${descriptor}`))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & closedOnExec) === 0;
  });
}

/** What the child gets from descriptor 3 on: `nothing` in place of each of those. */
export function overlay(descriptors: readonly number[], nothing: number): (number | "ignore")[] {
  const places = new Set(descriptors);
  const most = Math.max(2, ...descriptors);
  return Array.from({ length: most - 2 }, (_, index) => (places.has(index + 3) ? nothing : "ignore"));
}

function list(folder: string): number[] {
  try {
    return readdirSync(folder).map(Number);
  } catch {
    return [];
  }
}

/** One that was closed meanwhile is empty. */
function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
