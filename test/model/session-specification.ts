/** What the design says of a few keys under Reserve, Bind, ResetSession, DeleteSession and ResolveSelection. */
import type { Specification } from "./linearizable.js";

export interface ReserveInput {
  readonly method: "reserve";
  readonly key: number;
  /** Asked for by the caller, with the generation that it knows. */
  readonly sessionId?: string;
  readonly expectedGeneration?: number;
  readonly alias?: string;
  /** Idempotency key. */
  readonly once?: string;
}

interface BindInput {
  readonly method: "bind";
  readonly key: number;
  readonly nativeId: string;
  readonly expectedGeneration: number;
  readonly expectedNativeId: string;
}

export type Input =
  | ReserveInput
  | BindInput
  | { readonly method: "resolve"; readonly key: number }
  | { readonly method: "find"; readonly key: number; readonly alias: string }
  | { readonly method: "reset" | "delete"; readonly key: number; readonly expectedGeneration: number };

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

interface Archived {
  /** An id that begins with "?" was minted for an answer that was lost, and is not known yet. */
  readonly sessionId: string;
  readonly generation: number;
  readonly nativeId: string;
  readonly previous: string;
}

interface Live extends Archived {
  readonly owed?: "EXPLICIT_RESET" | "PURGED";
  readonly aliases: readonly string[];
}

interface KeyState {
  readonly live?: Live;
  /** Sessions that the key had before. */
  readonly former: readonly Archived[];
  /** Generation of the session that was deleted, if the key has none since. */
  readonly purged?: number;
}

export interface State {
  readonly keys: readonly KeyState[];
  /** Every id that was minted. */
  readonly minted: readonly string[];
  /** Answers that are given again. */
  readonly replays: Readonly<Record<string, { readonly request: string; readonly answer: SessionOutput }>>;
}

export function sessionSpecification(keys: number): Specification<State, Input, Output> {
  return {
    initial: { keys: Array.from({ length: keys }, () => ({ former: [] })), minted: [], replays: {} },
    step,
    identify: (state) => JSON.stringify(state),
  };
}

function step(state: State, input: Input, output: Output | undefined): State | undefined {
  const live = state.keys[input.key]?.live;
  switch (input.method) {
    case "reserve":
      return once(state, input, output);
    case "resolve":
      return look(state, input.key, live, output);
    case "find": {
      const owner = state.keys.findIndex((each) => each.live?.aliases.includes(input.alias));
      return look(state, owner, state.keys[owner]?.live, output);
    }
    case "reset":
      return guarded(state, live, input, output, (found) => reset(state, input.key, found, output));
    case "delete":
      return guarded(state, live, input, output, (found) => remove(state, input.key, found, output));
    case "bind":
      return guarded(state, live, input, output, (found) => bind(state, input, found, output));
  }
}

function look(
  state: State,
  key: number,
  live: Live | undefined,
  output: Output | undefined,
): State | undefined {
  if (live !== undefined) return output && sees(state, key, live, output);
  return output?.kind === "none" ? state : undefined;
}

/** A reservation with an idempotency key has its effect once. */
function once(state: State, input: ReserveInput, output: Output | undefined): State | undefined {
  const request = JSON.stringify(input);
  const known = input.once === undefined ? undefined : state.replays[input.once];
  if (known !== undefined) {
    const answer = known.request === request ? known.answer : refusal("IDEMPOTENCY_KEY_REUSED");
    return output && answered(state, answer, output);
  }
  const minted = output?.kind === "session" ? output.sessionId : `?${state.minted.length}`;
  const { next, answer } = reserve(state, input, minted);
  if (answer.kind === "session" && next.minted !== state.minted && state.minted.includes(minted))
    return undefined;
  const kept =
    input.once === undefined || answer.kind !== "session"
      ? next
      : { ...next, replays: { ...next.replays, [input.once]: { request, answer } } };
  if (output !== undefined) return answered(kept, answer, output);
  return kept === state ? undefined : kept;
}

/** The state, if this is what had to be answered; an id that was unknown is known from then on. */
function answered(state: State, answer: Answer, output: Output): State | undefined {
  if (answer.kind === "refused") {
    return refusedWith(output, answer.reason, answer.current) ? state : undefined;
  }
  if (output.kind !== "session") return undefined;
  const known = learn(state, answer.sessionId, output.sessionId);
  const all = known && learn(known, answer.previous, output.previous);
  const isSame =
    output.outcome === answer.outcome &&
    output.reason === answer.reason &&
    output.generation === answer.generation &&
    output.nativeId === answer.nativeId;
  return isSame ? all : undefined;
}

type Answer = SessionOutput | Extract<Output, { kind: "refused" }>;

interface Effect {
  readonly next: State;
  readonly answer: Answer;
}

/** @param minted the id of a new session, if nobody asks for another */
function reserve(state: State, input: ReserveInput, minted: string): Effect {
  const { key, sessionId, expectedGeneration, alias } = input;
  const { live, former = [], purged } = state.keys[key] ?? {};
  const refuse = (reason: string, current?: string): Effect => ({
    next: state,
    answer: refusal(reason, current),
  });
  if (live !== undefined && expectedGeneration !== undefined && expectedGeneration !== live.generation) {
    return refuse("STALE_GENERATION", String(live.generation));
  }
  const revived =
    sessionId === undefined || sessionId === live?.sessionId
      ? undefined
      : former.find((each) => each.sessionId === sessionId);
  if (revived !== undefined && revived.nativeId !== "") {
    const isTaken = state.keys.some((each) => each.live?.nativeId === revived.nativeId);
    if (isTaken) return refuse("NATIVE_ID_IN_USE");
  }
  const others = state.keys.filter((_, index) => index !== key);
  if (alias !== undefined && others.some((each) => each.live?.aliases.includes(alias)))
    return refuse("ALIAS_TAKEN");

  const aliases = [...new Set([...(live?.aliases ?? []), ...(alias === undefined ? [] : [alias])])];
  const explicit = sessionId !== undefined;
  if (live === undefined && revived === undefined) {
    const isPurged = purged !== undefined ? { owed: "PURGED" as const } : {};
    const made = {
      sessionId: sessionId ?? minted,
      generation: 1,
      nativeId: "",
      previous: "",
      aliases,
      ...isPurged,
    };
    const next = withLive(explicit ? state : mint(state, minted), key, made, former);
    return { next, answer: told(made, explicit ? "EXPLICIT" : "CREATED") };
  }
  if (live !== undefined && (!explicit || sessionId === live.sessionId)) {
    const isNew = alias !== undefined && !live.aliases.includes(alias);
    const kept = { ...live, aliases };
    const next = isNew ? withLive(state, key, kept, former) : state;
    return { next, answer: told(kept, explicit ? "EXPLICIT" : "EXISTING") };
  }
  const generation = (live?.generation ?? purged ?? revived?.generation ?? 0) + 1;
  const bound = {
    sessionId: sessionId ?? minted,
    generation,
    nativeId: revived?.nativeId ?? "",
    previous: live?.sessionId ?? revived?.previous ?? "",
    aliases,
  };
  const left = former.filter((each) => each !== revived);
  const next = withLive(state, key, bound, live === undefined ? left : [...left, archived(live)]);
  return { next, answer: told(bound, "EXPLICIT") };
}

/** The answer to a reservation; an announcement is told until the first turn. */
function told(live: Live, outcome: string): SessionOutput {
  const { sessionId, generation, nativeId, previous, owed } = live;
  return {
    kind: "session",
    outcome: owed === "EXPLICIT_RESET" ? "ROTATED" : outcome,
    reason: owed ?? "UNSPECIFIED",
    sessionId,
    generation,
    nativeId,
    previous,
  };
}

function refusal(reason: string, current?: string): Answer {
  return { kind: "refused", reason, ...(current === undefined ? {} : { current }) };
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

function reset(state: State, key: number, live: Live, output: Output | undefined): State | undefined {
  const minted = output?.kind === "session" ? output.sessionId : `?${state.minted.length}`;
  if (state.minted.includes(minted)) return undefined;
  const next: Live = {
    sessionId: minted,
    generation: live.generation + 1,
    nativeId: "",
    previous: live.sessionId,
    owed: "EXPLICIT_RESET",
    aliases: live.aliases,
  };
  const former = [...(state.keys[key]?.former ?? []), archived(live)];
  const after = withLive(mint(state, minted), key, next, former);
  return output === undefined ? after : sees(after, key, next, output);
}

function remove(state: State, key: number, live: Live, output: Output | undefined): State | undefined {
  const known = output === undefined ? state : sees(state, key, live, output);
  if (known === undefined) return undefined;
  const former = known.keys[key]?.former ?? [];
  const keys = known.keys.map((each, index) => (index === key ? { former, purged: live.generation } : each));
  return { ...known, keys };
}

function bind(state: State, input: BindInput, live: Live, output: Output | undefined): State | undefined {
  if (input.expectedNativeId !== live.nativeId) {
    return refusedWith(output, "NATIVE_ID_MISMATCH", live.nativeId) ? state : undefined;
  }
  const elsewhere = state.keys.some(
    (other, index) => index !== input.key && other.live?.nativeId === input.nativeId,
  );
  if (elsewhere) return refusedWith(output, "NATIVE_ID_IN_USE") ? state : undefined;
  const bound = { ...live, nativeId: input.nativeId };
  const next = withLive(state, input.key, bound, state.keys[input.key]?.former ?? []);
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

function isLive(output: SessionOutput, live: Live): boolean {
  return (
    output.sessionId === live.sessionId &&
    output.generation === live.generation &&
    output.nativeId === live.nativeId &&
    output.previous === live.previous
  );
}

function archived({ sessionId, generation, nativeId, previous }: Live): Archived {
  return { sessionId, generation, nativeId, previous };
}

function mint(state: State, sessionId: string): State {
  return { ...state, minted: [...state.minted, sessionId] };
}

/** The state in which an id that was not known is this one. */
function learn(state: State, sessionId: string, shown: string): State | undefined {
  if (sessionId === shown) return state;
  if (!sessionId.startsWith("?") || state.minted.includes(shown)) return undefined;
  const named = (id: string) => (id === sessionId ? shown : id);
  const renamed = <T extends Archived | SessionOutput>(each: T): T => ({
    ...each,
    sessionId: named(each.sessionId),
    previous: named(each.previous),
  });
  return {
    minted: state.minted.map(named),
    keys: state.keys.map((each) => ({
      ...each,
      ...(each.live === undefined ? {} : { live: renamed(each.live) }),
      former: each.former.map(renamed),
    })),
    replays: Object.fromEntries(
      Object.entries(state.replays).map(([name, { request, answer }]) => [
        name,
        { request, answer: renamed(answer) },
      ]),
    ),
  };
}

function withLive(state: State, key: number, live: Live, former: readonly Archived[]): State {
  return { ...state, keys: state.keys.map((each, index) => (index === key ? { live, former } : each)) };
}
