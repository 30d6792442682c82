import { type Refusal, refuse } from "./refusal.js";
import type { SessionRow } from "./session.js";

/** A write to a session's ids by a caller that may have been overtaken. */
export interface Binding {
  readonly nativeId?: string;
  readonly aliases: readonly string[];
  readonly fence?: number;
  readonly expectedGeneration?: number;
  /** Empty: expected to be unbound. */
  readonly expectedNativeId?: string;
}

export interface BindingFacts {
  /** Fence of the key's running turn; absent if none runs. */
  readonly liveFence?: number;
  /** A turn that runs or waits. */
  readonly busyTurnId?: string;
  /** Another live session of the provider with this native id. */
  readonly nativeIdOwner?: SessionRow;
}

export type BindingDecision =
  | { readonly kind: "bound"; readonly row: SessionRow; readonly write: boolean }
  | Refusal;

/** Needs a live fence, or the expected generation together with the expected native id. */
export function decideBinding(row: SessionRow, request: Binding, facts: BindingFacts): BindingDecision {
  const overtaken = checkOrder(row, request, facts);
  if (overtaken !== undefined) return overtaken;
  if (request.nativeId !== undefined && facts.nativeIdOwner !== undefined) {
    return refuse("NATIVE_ID_IN_USE", "native_id: another live session has it");
  }
  const next = withAliases(withNativeId(row, request.nativeId), request.aliases);
  return { kind: "bound", row: next, write: next !== row };
}

/** The row bound to a native id; the former one stays as an alias. */
export function withNativeId(row: SessionRow, nativeId: string | undefined): SessionRow {
  if (nativeId === undefined) return row;
  if (row.nativeId === nativeId && row.nativeState === "bound") return row;
  const known = new Set(row.aliases.filter(({ kind }) => kind === "former-native").map(({ id }) => id));
  const isNew = row.nativeId !== undefined && row.nativeId !== nativeId && !known.has(row.nativeId);
  const former = isNew ? [row.nativeId] : [];
  return {
    ...row,
    nativeId,
    nativeState: "bound",
    aliases: [...row.aliases, ...former.map((id) => ({ id, kind: "former-native" as const }))],
    revision: 0,
  };
}

function withAliases(row: SessionRow, aliases: readonly string[]): SessionRow {
  const known = new Set(row.aliases.map((alias) => alias.id));
  const added = [...new Set(aliases)].filter((id) => !known.has(id));
  if (added.length === 0) return row;
  return {
    ...row,
    aliases: [...row.aliases, ...added.map((id) => ({ id, kind: "platform" as const }))],
    revision: 0,
  };
}

function checkOrder(row: SessionRow, request: Binding, facts: BindingFacts): Refusal | undefined {
  if (request.fence !== undefined) {
    if (request.fence === facts.liveFence) return undefined;
    return refuse("STALE_FENCE", "fence: it no longer holds the session's lane", {
      fence: String(facts.liveFence ?? 0),
    });
  }
  if (request.expectedGeneration !== row.generation) {
    return refuse("STALE_GENERATION", `expected_generation: the session's generation is ${row.generation}`, {
      generation: String(row.generation),
    });
  }
  if (request.expectedNativeId !== (row.nativeId ?? "")) {
    return refuse("NATIVE_ID_MISMATCH", "expected_native_id: the session has another", {
      native_id: row.nativeId ?? "",
    });
  }
  if (facts.busyTurnId !== undefined) {
    return refuse("SESSION_BUSY", `turn ${facts.busyTurnId} runs or waits in the session`, {
      turn_id: facts.busyTurnId,
    });
  }
  return undefined;
}
