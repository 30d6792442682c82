import { type Refusal, refuse } from "../../sessions/refusal.js";
import type { Transaction } from "./transaction.js";

/** Why no session may be added to a scope. @param most default: any number may */
export function scopeFull(tx: Transaction, scope: string, most?: number): Refusal | undefined {
  if (most === undefined || tx.sessionsIn(scope) < most) return undefined;
  return refuse(
    "SCOPE_FULL",
    `the scope ${scope} keeps ${most} sessions, and limits.sessions_per_scope allows no more; delete or prune some`,
    { scope },
  );
}
