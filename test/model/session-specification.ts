/** What the design says of a few keys under Reserve, Bind, ResetSession, DeleteSession and ResolveSelection. */
import type { Specification } from "./linearizable.js";

export type Input =
  | { readonly method: "reserve" | "resolve"; readonly key: number }
  | { readonly method: "reset" | "delete"; readonly key: number; readonly expectedGeneration: number }
  | {
      readonly method: "bind";
      readonly key: number;
      readonly nativeId: string;
      readonly expectedGeneration: number;
      readonly expectedNativeId: string;
    };

export interface SessionOutput {
  readonly kind: "session";
  /** Only of Reserve. */
  readonly outcome?: string;
  readonly reason?: string;
  readonly sessionId: string;
  readonly generation: number;
  readonly nativeId: string;
  readonly previous: string;
}

export type Output =
  | SessionOutput
  | { readonly kind: "none" }
  | { readonly kind: "refused"; readonly reason: string; readonly current?: string };

interface Live {
  /** An id that begins with "?" was minted for an answer that was lost, and is not known yet. */
  readonly sessionId: string;
  readonly generation: number;
  readonly nativeId: string;
  readonly previous: string;
  readonly owed?: "EXPLICIT_RESET" | "PURGED";
}

interface KeyState {
  readonly live?: Live;
  readonly purged: boolean;
}

export interface State {
  readonly keys: readonly KeyState[];
  /** Every id that was minted. */
  readonly minted: readonly string[];
}

export function sessionSpecification(keys: number): Specification<State, Input, Output> {
  return {
    initial: { keys: Array.from({ length: keys }, () => ({ purged: false })), minted: [] },
    step,
    identify: (state) => JSON.stringify(state),
  };
}

function step(state: State, input: Input, output: Output | undefined): State | undefined {
  const live = state.keys[input.key]?.live;
  switch (input.method) {
    case "reserve":
      return live === undefined ? create(state, input.key, output) : keep(state, input.key, live, output);
    case "resolve":
      if (live !== undefined) return output && sees(state, input.key, live, output);
      return output?.kind === "none" ? state : undefined;
    case "reset":
      return guarded(state, live, input, output, (found) => rotate(state, input.key, found, output));
    case "delete":
      return guarded(state, live, input, output, (found) => remove(state, input.key, found, output));
    case "bind":
      return guarded(state, live, input, output, (found) => bind(state, input, found, output));
  }
}

/** A call about an absent session, or about another generation, changes nothing. */
function guarded(
  state: State,
  live: Live | undefined,
  { expectedGeneration }: { readonly expectedGeneration: number },
  output: Output | undefined,
  act: (live: Live) => State | undefined,
): State | undefined {
  if (live === undefined) return refusedWith(output, "SESSION_NOT_FOUND") ? state : undefined;
  if (expectedGeneration === live.generation) return act(live);
  return refusedWith(output, "STALE_GENERATION", String(live.generation)) ? state : undefined;
}

function create(state: State, key: number, output: Output | undefined): State | undefined {
  const purged = state.keys[key]?.purged === true;
  const live: Live = {
    sessionId: newId(state, output),
    generation: 1,
    nativeId: "",
    previous: "",
    ...(purged ? { owed: "PURGED" } : {}),
  };
  const next = withLive(mint(state, live.sessionId), key, live, false);
  if (output === undefined) return next;
  const wanted = { outcome: "CREATED", reason: live.owed ?? "UNSPECIFIED" };
  return isFresh(state, output) && isAnswer(output, wanted) && isLive(output, live) ? next : undefined;
}

function keep(state: State, key: number, live: Live, output: Output | undefined): State | undefined {
  if (output === undefined) return undefined;
  const wanted = {
    outcome: live.owed === "EXPLICIT_RESET" ? "ROTATED" : "EXISTING",
    reason: live.owed ?? "UNSPECIFIED",
  };
  return isAnswer(output, wanted) ? sees(state, key, live, output) : undefined;
}

function rotate(state: State, key: number, live: Live, output: Output | undefined): State | undefined {
  const known = output?.kind === "session" ? learn(state, live.sessionId, output.previous) : state;
  if (known === undefined) return undefined;
  const next: Live = {
    sessionId: newId(known, output),
    generation: live.generation + 1,
    nativeId: "",
    previous: known.keys[key]?.live?.sessionId ?? "",
    owed: "EXPLICIT_RESET",
  };
  const after = withLive(mint(known, next.sessionId), key, next, false);
  if (output === undefined) return after;
  return isFresh(known, output) && isLive(output, next) ? after : undefined;
}

function remove(state: State, key: number, live: Live, output: Output | undefined): State | undefined {
  const known = output === undefined ? state : sees(state, key, live, output);
  return known && withLive(known, key, undefined, true);
}

function bind(
  state: State,
  input: Extract<Input, { method: "bind" }>,
  live: Live,
  output: Output | undefined,
): State | undefined {
  if (input.expectedNativeId !== live.nativeId) {
    return refusedWith(output, "NATIVE_ID_MISMATCH", live.nativeId) ? state : undefined;
  }
  const elsewhere = state.keys.some(
    (other, index) => index !== input.key && other.live?.nativeId === input.nativeId,
  );
  if (elsewhere) return refusedWith(output, "NATIVE_ID_IN_USE") ? state : undefined;
  const bound = { ...live, nativeId: input.nativeId };
  const next = withLive(state, input.key, bound, false);
  return output === undefined ? next : sees(next, input.key, bound, output);
}

function refusedWith(output: Output | undefined, reason: string, current?: string): boolean {
  return output?.kind === "refused" && output.reason === reason && output.current === current;
}

/** The state, if the output shows this session; an id that was unknown is known from then on. */
function sees(state: State, key: number, live: Live, output: Output): State | undefined {
  if (output.kind !== "session") return undefined;
  const known = learn(state, live.sessionId, output.sessionId);
  const all = known && learn(known, known.keys[key]?.live?.previous ?? "", output.previous);
  const row = all?.keys[key]?.live;
  return row !== undefined && isLive(output, row) ? all : undefined;
}

function isLive(output: Output, live: Live): boolean {
  return (
    output.kind === "session" &&
    output.sessionId === live.sessionId &&
    output.generation === live.generation &&
    output.nativeId === live.nativeId &&
    output.previous === live.previous
  );
}

function isAnswer(output: Output, wanted: { readonly outcome: string; readonly reason: string }): boolean {
  return output.kind === "session" && output.outcome === wanted.outcome && output.reason === wanted.reason;
}

function isFresh(state: State, output: Output): boolean {
  return output.kind === "session" && !state.minted.includes(output.sessionId);
}

function newId(state: State, output: Output | undefined): string {
  return output?.kind === "session" ? output.sessionId : `?${state.minted.length}`;
}

function mint(state: State, sessionId: string): State {
  return { ...state, minted: [...state.minted, sessionId] };
}

/** The state in which an id that was not known is this one. */
function learn(state: State, sessionId: string, shown: string): State | undefined {
  if (sessionId === shown) return state;
  if (!sessionId.startsWith("?") || state.minted.includes(shown)) return undefined;
  const named = (id: string) => (id === sessionId ? shown : id);
  return {
    minted: state.minted.map(named),
    keys: state.keys.map((each) =>
      each.live === undefined
        ? each
        : {
            ...each,
            live: {
              ...each.live,
              sessionId: named(each.live.sessionId),
              previous: named(each.live.previous),
            },
          },
    ),
  };
}

function withLive(state: State, key: number, live: Live | undefined, purged: boolean): State {
  const keys = state.keys.map((each, index) =>
    index === key ? { purged, ...(live === undefined ? {} : { live }) } : each,
  );
  return { ...state, keys };
}
