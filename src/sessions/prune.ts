import type { SessionRow } from "./session.js";

export interface PruneCriteria {
  /** Idle for longer than this. */
  readonly olderThanMs?: number;
  readonly nowMs: number;
}

export type PruneDecision =
  | { readonly kind: "keep" }
  | { readonly kind: "prune"; readonly reason: "IDLE" | "OVER_CAP" }
  | { readonly kind: "skip"; readonly reason: "RUNNING" | "QUEUED" | "PINNED" };

/** Whether a row goes. `overCap`: its scope holds more rows than it may, and this is one of the oldest. */
export function decidePrune(
  row: SessionRow,
  lane: "RUNNING" | "QUEUED" | undefined,
  overCap: boolean,
  criteria: PruneCriteria,
): PruneDecision {
  const idle =
    criteria.olderThanMs !== undefined && row.lastActivityMs < criteria.nowMs - criteria.olderThanMs;
  if (!idle && !overCap) return { kind: "keep" };
  if (lane !== undefined) return { kind: "skip", reason: lane };
  if (row.pinned) return { kind: "skip", reason: "PINNED" };
  return { kind: "prune", reason: idle ? "IDLE" : "OVER_CAP" };
}
