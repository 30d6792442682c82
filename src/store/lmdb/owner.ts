/**
 * Which process may write the store. The owner is a row in the store itself,
 * taken in a write transaction, and every write transaction asserts it.
 *
 * An owner is dead if its process is gone (same boot and pid namespace: the pid
 * does not run, or runs since another time), or, seen from elsewhere, if its
 * heartbeat is older than 15 s.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { sealJson, unsealJson } from "./codec.js";
import type { Tables } from "./tables.js";

export interface Owner {
  /** Random, one per opening of the store. */
  readonly instance: string;
  readonly bootId: string;
  readonly pidNamespace: string;
  readonly pid: number;
  /** In clock ticks since boot; 0 where /proc is missing. */
  readonly processStart: number;
  readonly heartbeatMs: number;
}

export const heartbeatEveryMs = 5_000;
const silentMs = 15_000;

export class OwnershipLost extends Error {
  override readonly name = "OwnershipLost";

  constructor() {
    super("another process has taken the store");
  }
}

export class StoreInUse extends Error {
  override readonly name = "StoreInUse";

  constructor(
    readonly pid: number,
    path: string,
  ) {
    super(`the store ${path} is in use by process ${pid}: stop that one first, or choose another --data`);
  }
}

export function readOwner(tables: Tables): Owner | undefined {
  const sealed = tables.get("meta", "owner");
  return sealed === undefined ? undefined : (unsealJson(sealed, "meta") as Owner);
}

/** Takes the store for this process, inside a write transaction. @throws StoreInUse */
export function takeOwnership(tables: Tables, instance: string, path: string, nowMs: number): void {
  const owner = readOwner(tables);
  if (owner !== undefined && isAlive(owner, nowMs)) throw new StoreInUse(owner.pid, path);
  const here: Owner = {
    instance,
    bootId: bootId(),
    pidNamespace: pidNamespace(),
    pid: process.pid,
    processStart: processStart(process.pid) ?? 0,
    heartbeatMs: nowMs,
  };
  tables.put("meta", "owner", sealJson(here));
}

export function renewOwnership(tables: Tables, nowMs: number): void {
  const owner = readOwner(tables);
  if (owner !== undefined) tables.put("meta", "owner", sealJson({ ...owner, heartbeatMs: nowMs }));
}

export function releaseOwnership(tables: Tables): void {
  tables.delete("meta", "owner");
}

function isAlive(owner: Owner, nowMs: number): boolean {
  const here = owner.bootId === bootId() && owner.pidNamespace === pidNamespace();
  if (!here) return Math.abs(nowMs - owner.heartbeatMs) <= silentMs;
  const start = processStart(owner.pid);
  if (start !== undefined) return start === owner.processStart;
  return owner.processStart === 0 && processExists(owner.pid);
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Field 22 of /proc/<pid>/stat; undefined if there is no such process or no /proc. */
function processStart(pid: number): number | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const afterName = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // A zombie holds nothing any more.
  return afterName[0] === "Z" ? undefined : Number(afterName[19]);
}

function bootId(): string {
  return readText("/proc/sys/kernel/random/boot_id")?.trim() ?? "";
}

function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
