/** What a process of this machine holds; Linux only. */
import { readdirSync, readFileSync } from "node:fs";

export interface ProcessState {
  readonly descriptors: number;
  /** Memory of its own, without the pages of files. */
  readonly memoryBytes: number;
}

export function processState(pid: number): ProcessState {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    memoryBytes: Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]) * 1024,
  };
}

/** How many files this process and its children may have open. */
export function descriptorLimit(): number {
  const limits = readFileSync("/proc/self/limits", "utf8");
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1]);
}
