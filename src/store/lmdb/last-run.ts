/**
 * What is known of the broker that had the store last, in a file beside it.
 *
 *     open ──▶ running ──closed──▶ closed
 *                 └── still "running" at the next open: it was killed, or crashed
 *
 * The native library ends the process on pages that it cannot use, and nothing
 * can run then. A single kill is ordinary; the second one in a row, without a
 * clean stop or a quarter of an hour of service in between, may be such a crash
 * that comes back, and the store is read as a whole. So it is when somebody
 * knows more: who saw the signal, or the disk fail, leaves `verify-needed`.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { syncDirectory, writeDurably } from "./marker.js";

export interface LastRun {
  readonly storeId: string;
  readonly state: "running" | "closed";
  /** Stops in a row that were no clean ones, without the running one. */
  readonly uncleanStops: number;
  /** No life of any store of this directory has granted a fence above this one. */
  readonly fencesThrough: number;
}

/** Unclean stops in a row from which on the next open reads everything. */
const suspicious = 2;
/** A life that lasted so long was not ended by what was wrong at its start. */
export const livedMs = 15 * 60_000;

export function readLastRun(data: string): LastRun | undefined {
  try {
    const run = JSON.parse(readFileSync(lastRunFile(data), "utf8")) as Partial<LastRun>;
    const whole =
      typeof run.storeId === "string" &&
      (run.state === "running" || run.state === "closed") &&
      Number.isSafeInteger(run.uncleanStops) &&
      Number.isSafeInteger(run.fencesThrough);
    return whole ? (run as LastRun) : undefined;
  } catch {
    return undefined;
  }
}

export function writeLastRun(data: string, run: LastRun): void {
  writeDurably(lastRunFile(data), run);
}

export function uncleanStopsBefore(last: LastRun | undefined): number {
  if (last === undefined || last.state === "closed") return 0;
  return last.uncleanStops + 1;
}

/** Whether the next open has to read everything, and why. */
export function whyVerify(last: LastRun | undefined, needed: string | undefined): string | undefined {
  if (needed !== undefined) return needed;
  const stops = uncleanStopsBefore(last);
  return stops < suspicious ? undefined : `the last ${stops} stops were no clean ones`;
}

/** Why the store has to be read as a whole, as somebody has noted. */
export function verifyNeeded(data: string): string | undefined {
  const file = verifyNeededFile(data);
  if (!existsSync(file)) return undefined;
  return readFileSync(file, "utf8").trim().split("\n")[0] || "verify-needed lies in the data directory";
}

/** @throws if it cannot be written */
export function needVerify(data: string, why: string): void {
  const file = verifyNeededFile(data);
  writeFileSync(file, `${why}\n`, { mode: 0o600, flush: true });
  syncDirectory(dirname(file));
}

export function verified(data: string): void {
  rmSync(verifyNeededFile(data), { force: true });
}

function lastRunFile(data: string): string {
  return join(data, "last-run.json");
}

function verifyNeededFile(data: string): string {
  return join(data, "verify-needed");
}
