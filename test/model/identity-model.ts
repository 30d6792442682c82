/**
 * What the design says of keys, sessions and their ids, as plain data in memory:
 * no index, no store, no concurrency. Each operation answers what the broker has
 * to answer, and changes the data only when the answer is committed.
 */

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const replayMs = dayMs;

export interface KeyShape {
  readonly scope: string;
  /** As a caller writes it. */
  readonly spelling: string;
  readonly storeKey: string;
  readonly requestKey: string;
  readonly agent: string;
}

export interface Policy {
  readonly idleMs?: number;
  /** UTC hour and minutes by which the zone is ahead of UTC. */
  readonly daily?: { readonly hour: number; readonly timeZone: string; readonly aheadMs: number };
}

export type State = "live" | "rotated" | "pruned";
export type Reason = "IDLE" | "DAILY" | "EXPLICIT_RESET" | "PRUNED" | "PURGED";

export interface Row {
  readonly key: KeyShape;
  sessionId: string;
  generation: number;
  state: State;
  /** Empty: unbound. */
  nativeId: string;
  platform: string[];
  former: string[];
  labels: Record<string, string>;
  policy?: Policy;
  startedAtMs: number;
  /** Latest activity, and how much of it is certainly written. */
  activeAtMs: number;
  writtenAtMs: number;
  turns: number;
  pinned: boolean;
  previous: string;
  /** Owed to the first turn. */
  owed?: Reason;
  imported: boolean;
  /** Order of the last change that was not activity alone. */
  changed: number;
}

export interface Refused {
  readonly kind: "refused";
  readonly reason: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** An answer that names a row; its session id is empty if the broker mints it. */
export interface Planned {
  readonly kind: "row";
  readonly outcome?: "CREATED" | "EXISTING" | "ROTATED" | "EXPLICIT";
  readonly reason?: Reason;
  readonly row: Row;
  /** The design only says that the row's generation does not fall. */
  readonly anyGeneration?: boolean;
  readonly commit: () => void;
}

export interface Ephemeral {
  readonly kind: "ephemeral";
}

/** The answer that was given before to the same idempotency key. */
export interface Replayed {
  readonly kind: "replayed";
  readonly answer: unknown;
}

export interface ReserveOptions {
  readonly sessionId?: string;
  readonly expectedGeneration?: number;
  readonly internal?: boolean;
  readonly aliases?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly policy?: Policy;
}

export type Target =
  | { readonly kind: "key"; readonly key: KeyShape }
  | { readonly kind: "session-id"; readonly sessionId: string };

export type Query =
  | { readonly kind: "key"; readonly key: KeyShape }
  | { readonly kind: "session-id" | "short-id" | "native-id" | "alias" | "turn-id"; readonly id: string };

export interface Filters {
  readonly scope?: string;
  readonly agent?: string;
}

export type Selection =
  | { readonly kind: "none" }
  | { readonly kind: "selected"; readonly row: Row; readonly match: "EXACT" | "STRUCTURAL" | "FRESHEST" }
  | { readonly kind: "ambiguous"; readonly rows: readonly Row[] };

export interface Turn {
  readonly row: Row;
  readonly request: string;
  readonly events: unknown;
}

interface Remembered {
  readonly request: string;
  readonly answer: unknown;
  readonly atMs: number;
  readonly row?: Row;
  readonly generation?: number;
}

export class IdentityModel {
  rows: Row[] = [];
  readonly turns = new Map<string, Turn>();
  /** Every session id that was ever told, also of hand-offs and of deleted sessions. */
  readonly sessionIds = new Set<string>();
  readonly nativeIds = new Set<string>();
  readonly #tombstones = new Set<string>();
  readonly #replays = new Map<string, Remembered>();
  #changes = 0;

  constructor(
    readonly now: () => number,
    private readonly scopePolicy: (scope: string) => Policy,
  ) {}

  /** What the key points to. */
  current(key: KeyShape): Row | undefined {
    return this.rows.find((row) => row.state !== "rotated" && sameKey(row.key, key));
  }

  live(key: KeyShape): Row | undefined {
    const row = this.current(key);
    return row?.state === "live" ? row : undefined;
  }

  reserve(key: KeyShape, options: ReserveOptions): Refused | Ephemeral | Planned {
    if (options.internal) {
      const row = this.live(key);
      if (row === undefined || this.#stale(row, options.policy) !== undefined) return { kind: "ephemeral" };
      return { kind: "row", outcome: "EXISTING", row, commit: () => {} };
    }
    const plan =
      options.sessionId === undefined
        ? this.#reservePlain(key, options)
        : this.#reserveExplicit(key, options.sessionId, options);
    if (plan.kind === "refused") return plan;
    return this.#takenAlias(key, options.aliases ?? []) ?? plan;
  }

  /** The one row that a call about a session means. */
  find(target: Target, scope?: string): Row | Refused {
    if (target.kind === "key") return this.live(target.key) ?? refused("SESSION_NOT_FOUND");
    const rows = this.rows.filter(
      (row) => row.sessionId === target.sessionId && (scope === undefined || row.key.scope === scope),
    );
    if (rows.length > 1) return refused("AMBIGUOUS_ID");
    return rows[0] ?? refused("SESSION_NOT_FOUND");
  }

  bind(
    row: Row,
    request: {
      readonly nativeId?: string;
      readonly aliases: readonly string[];
      readonly expectedGeneration?: number;
      readonly expectedNativeId?: string;
    },
  ): Refused | Planned {
    if (request.expectedGeneration !== row.generation) return staleGeneration(row);
    if (request.expectedNativeId !== row.nativeId) {
      return refused("NATIVE_ID_MISMATCH", { native_id: row.nativeId });
    }
    const { nativeId } = request;
    if (nativeId !== undefined && this.#nativeIdInUse(row, nativeId)) return refused("NATIVE_ID_IN_USE");
    const taken = this.#takenAlias(row.key, request.aliases);
    if (taken !== undefined) return taken;
    const commit = () => {
      if (nativeId !== undefined) this.#rename(row, nativeId);
      this.#merge(row, request.aliases, {});
    };
    return { kind: "row", row, commit };
  }

  reset(row: Row, expectedGeneration: number | undefined): Refused | Planned {
    if (row.state === "rotated") return refused("ARCHIVED");
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    return this.#rotation(row, "EXPLICIT_RESET");
  }

  pin(row: Row, pinned: boolean, expectedGeneration: number | undefined): Refused | Planned {
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    const commit = () => {
      if (row.pinned !== pinned) this.#change(row);
      row.pinned = pinned;
    };
    return { kind: "row", row, commit };
  }

  remove(row: Row, expectedGeneration: number | undefined): Refused | Planned {
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    return { kind: "row", row, commit: () => this.purge(row) };
  }

  /** Rows that a prune may take and those that it passes over, without regard to a limit. */
  prunable(
    candidates: readonly Row[],
    criteria: { readonly olderThanMs?: number; readonly maxSessions?: number },
  ): { readonly due: Map<Row, "IDLE" | "OVER_CAP">; readonly pinned: Row[] } {
    const due = new Map<Row, "IDLE" | "OVER_CAP">();
    const pinned: Row[] = [];
    for (const scope of new Set(candidates.map((row) => row.key.scope))) {
      const newestFirst = candidates
        .filter((row) => row.key.scope === scope)
        .sort((a, b) => b.activeAtMs - a.activeAtMs);
      for (const [index, row] of newestFirst.entries()) {
        const idle = criteria.olderThanMs !== undefined && row.activeAtMs < this.now() - criteria.olderThanMs;
        const overCap = criteria.maxSessions !== undefined && index >= criteria.maxSessions;
        if (!idle && !overCap) continue;
        if (row.pinned) pinned.push(row);
        else due.set(row, idle ? "IDLE" : "OVER_CAP");
      }
    }
    return { due, pinned };
  }

  archive(row: Row): void {
    row.state = "pruned";
    this.#change(row);
  }

  purge(row: Row): void {
    this.rows = this.rows.filter((other) => other !== row);
    for (const [id, turn] of this.turns) if (turn.row === row) this.turns.delete(id);
    if (row.state !== "rotated") this.#tombstones.add(keyText(row.key));
  }

  /** The first turn of a generation pays its announcement. */
  turnRan(turnId: string, turn: Turn, nativeId: string): void {
    const { row } = turn;
    delete row.owed;
    row.turns += 1;
    row.nativeId = nativeId;
    this.nativeIds.add(nativeId);
    this.used(row);
    row.writtenAtMs = this.now();
    this.#change(row);
    this.turns.set(turnId, turn);
  }

  imported(row: Row): void {
    this.#tombstones.delete(keyText(row.key));
    this.add(row);
    row.changed = 0;
  }

  add(row: Row): void {
    this.rows.push(row);
    this.#change(row);
  }

  used(row: Row): void {
    row.activeAtMs = Math.max(row.activeAtMs, this.now());
  }

  /** All activity of live sessions has been written. */
  flushed(): void {
    for (const row of this.rows) if (row.state === "live") row.writtenAtMs = row.activeAtMs;
  }

  /** What an idempotency key has to be answered; undefined if the call is the first with it. */
  replay(owner: string, name: string, request: string): Refused | Replayed | undefined {
    const known = this.#replays.get(`${owner}\n${name}`);
    if (known === undefined || this.now() - known.atMs > replayMs) return undefined;
    if (known.request !== request) return refused("IDEMPOTENCY_KEY_REUSED");
    const { row, generation } = known;
    const isCurrent = row !== undefined && this.rows.includes(row) && row.state !== "rotated";
    if (row !== undefined && !(isCurrent && row.generation === generation)) {
      return refused("REPLAY_OUTDATED");
    }
    return { kind: "replayed", answer: known.answer };
  }

  /** @param row whose generation must be current when the answer is given again */
  remember(owner: string, name: string, request: string, answer: unknown, row?: Row): void {
    const told = row === undefined ? {} : { row, generation: row.generation };
    this.#replays.set(`${owner}\n${name}`, { request, answer, atMs: this.now(), ...told });
  }

  select(query: Query, filters: Filters): Selection {
    const rows = this.#rowsOf(query).filter(
      ({ key }) =>
        (filters.scope === undefined || key.scope === filters.scope) &&
        (filters.agent === undefined || key.agent === filters.agent),
    );
    const winners = collapse(rows);
    const [first] = winners;
    if (first === undefined) return { kind: "none" };
    if (winners.length === 1) return { kind: "selected", row: first, match: "EXACT" };
    const id = query.kind === "key" ? query.key.storeKey : query.id;
    const structural = winners.filter(
      ({ key }) =>
        key.storeKey.endsWith(`:${id}`) || key.requestKey === id || key.requestKey.endsWith(`:${id}`),
    );
    return structural.length > 0 ? freshest(structural, "STRUCTURAL") : freshest(winners, "FRESHEST");
  }

  #rowsOf(query: Query): readonly Row[] {
    switch (query.kind) {
      case "key": {
        const row = this.live(query.key);
        return row === undefined ? [] : [row];
      }
      case "session-id":
        return this.rows.filter((row) => row.sessionId === query.id);
      case "short-id":
        return this.rows.filter((row) => row.sessionId.replaceAll("-", "").startsWith(query.id));
      case "native-id":
        return this.rows.filter((row) => row.nativeId === query.id);
      case "alias":
        return this.rows.filter((row) => row.platform.includes(query.id) || row.former.includes(query.id));
      case "turn-id": {
        const turn = this.turns.get(query.id);
        return turn === undefined ? this.rows.filter((row) => row.sessionId === query.id) : [turn.row];
      }
    }
  }

  #reservePlain(key: KeyShape, options: ReserveOptions): Refused | Planned {
    const row = this.current(key);
    if (row === undefined) return this.#creation(key, options);
    const { expectedGeneration } = options;
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    const stale = row.state === "pruned" ? "PRUNED" : this.#stale(row, options.policy);
    if (stale !== undefined) {
      const rotation = this.#rotation(row, stale);
      return { ...rotation, outcome: "ROTATED", commit: this.#then(rotation, options) };
    }
    return this.#kept(row, "EXISTING", options);
  }

  #reserveExplicit(key: KeyShape, sessionId: string, options: ReserveOptions): Refused | Planned {
    const row = this.current(key);
    const former = this.rows.find(
      (other) => other.state === "rotated" && other.sessionId === sessionId && sameKey(other.key, key),
    );
    if (row === undefined) {
      if (former !== undefined) {
        const revival = this.#revival(former, former.generation + 1, options);
        return isRefused(revival) ? revival : { ...revival, anyGeneration: true };
      }
      const creation = this.#creation(key, options);
      creation.row.sessionId = sessionId;
      return { ...creation, outcome: "EXPLICIT" };
    }
    const { expectedGeneration } = options;
    if (row.sessionId === sessionId) {
      if (expectedGeneration !== undefined && expectedGeneration !== row.generation) {
        return staleGeneration(row);
      }
      if (row.state === "pruned") return this.#revival(row, row.generation, options);
      return this.#kept(row, "EXPLICIT", options);
    }
    if (row.state === "live" && expectedGeneration !== row.generation) return staleGeneration(row);
    if (former !== undefined) return this.#revival(former, row.generation + 1, options, row);
    const rotation = this.#rotation(row);
    rotation.row.sessionId = sessionId;
    return { ...rotation, outcome: "EXPLICIT", commit: this.#then(rotation, options) };
  }

  #creation(key: KeyShape, options: ReserveOptions): Planned {
    const nowMs = this.now();
    const row: Row = {
      key,
      sessionId: "",
      generation: 1,
      state: "live",
      nativeId: "",
      platform: [...new Set(options.aliases)],
      former: [],
      labels: { ...options.labels },
      ...(options.policy === undefined ? {} : { policy: options.policy }),
      startedAtMs: nowMs,
      activeAtMs: nowMs,
      writtenAtMs: nowMs,
      turns: 0,
      pinned: false,
      previous: "",
      imported: false,
      changed: 0,
    };
    const purged = this.#tombstones.has(keyText(key));
    if (purged) row.owed = "PURGED";
    const commit = () => {
      this.#tombstones.delete(keyText(key));
      this.add(row);
    };
    return { kind: "row", outcome: "CREATED", ...(purged ? { reason: "PURGED" } : {}), row, commit };
  }

  /** The key's session as it is, with the announcement that is still owed. */
  #kept(row: Row, outcome: "EXISTING" | "EXPLICIT", options: ReserveOptions): Planned {
    const commit = () => {
      this.used(row);
      this.#merge(row, options.aliases ?? [], options.labels ?? {});
    };
    if (row.owed === undefined) return { kind: "row", outcome, row, commit };
    return {
      kind: "row",
      outcome: row.owed === "PURGED" ? outcome : "ROTATED",
      reason: row.owed,
      row,
      commit,
    };
  }

  #rotation(row: Row, reason?: Reason): Planned {
    const nowMs = this.now();
    const { owed: _owed, ...kept } = row;
    const next: Row = {
      ...kept,
      sessionId: "",
      generation: row.generation + 1,
      state: "live",
      nativeId: "",
      platform: [...row.platform],
      former: [],
      labels: { ...row.labels },
      startedAtMs: nowMs,
      activeAtMs: nowMs,
      writtenAtMs: nowMs,
      turns: 0,
      previous: row.sessionId,
      ...(reason === undefined ? {} : { owed: reason }),
    };
    const commit = () => {
      this.#replace(row);
      this.add(next);
    };
    return { kind: "row", ...(reason === undefined ? {} : { reason }), row: next, commit };
  }

  /** An archived session becomes the key's again. */
  #revival(row: Row, generation: number, options: ReserveOptions, replaced?: Row): Refused | Planned {
    if (row.nativeId !== "" && this.#nativeIdInUse(row, row.nativeId)) return refused("NATIVE_ID_IN_USE");
    const commit = () => {
      row.platform.push(...(replaced?.platform ?? []));
      if (replaced !== undefined) {
        this.#replace(replaced);
        row.previous = replaced.sessionId;
      }
      this.#tombstones.delete(keyText(row.key));
      // A binding that the caller asked for is told by its own outcome.
      if (row.state === "rotated") delete row.owed;
      row.state = "live";
      if (generation !== row.generation) row.startedAtMs = this.now();
      row.generation = generation;
      row.activeAtMs = this.now();
      row.writtenAtMs = this.now();
      this.#change(row);
      this.#merge(row, options.aliases ?? [], options.labels ?? {});
    };
    return { kind: "row", outcome: "EXPLICIT", row, commit };
  }

  #replace(row: Row): void {
    row.state = "rotated";
    row.platform = [];
    this.#change(row);
  }

  #then({ row, commit }: Planned, options: ReserveOptions): () => void {
    return () => {
      commit();
      this.#merge(row, options.aliases ?? [], options.labels ?? {});
    };
  }

  #merge(row: Row, aliases: readonly string[], labels: Readonly<Record<string, string>>): void {
    const added = [...new Set(aliases)].filter((id) => !row.platform.includes(id));
    const labelled = Object.entries(labels).some(([name, value]) => row.labels[name] !== value);
    if (added.length === 0 && !labelled) return;
    row.platform.push(...added);
    row.labels = { ...row.labels, ...labels };
    this.#change(row);
  }

  #rename(row: Row, nativeId: string): void {
    this.nativeIds.add(nativeId);
    if (row.nativeId === nativeId) return;
    if (row.nativeId !== "" && !row.former.includes(row.nativeId)) row.former.push(row.nativeId);
    row.nativeId = nativeId;
    this.#change(row);
  }

  #change(row: Row): void {
    this.#changes += 1;
    // The order in which rows were imported says nothing about their age.
    row.changed = row.imported && row.turns === 0 ? 0 : this.#changes;
  }

  #takenAlias(key: KeyShape, aliases: readonly string[]): Refused | undefined {
    const taken = aliases.some((id) =>
      this.rows.some(
        (row) => row.key.scope === key.scope && !sameKey(row.key, key) && row.platform.includes(id),
      ),
    );
    return taken ? refused("ALIAS_TAKEN") : undefined;
  }

  #nativeIdInUse(row: Row, nativeId: string): boolean {
    return this.rows.some((other) => other !== row && other.state === "live" && other.nativeId === nativeId);
  }

  #stale(row: Row, requested: Policy | undefined): "IDLE" | "DAILY" | undefined {
    const policy = requested ?? row.policy ?? this.scopePolicy(row.key.scope);
    const nowMs = this.now();
    const idleEnds = policy.idleMs === undefined ? undefined : row.activeAtMs + policy.idleMs;
    const boundary = policy.daily === undefined ? undefined : latestBoundary(policy.daily, nowMs);
    const idle = idleEnds !== undefined && nowMs > idleEnds;
    const daily = boundary !== undefined && row.startedAtMs < boundary;
    if (idle && daily) return idleEnds < boundary ? "IDLE" : "DAILY";
    if (idle) return "IDLE";
    return daily ? "DAILY" : undefined;
  }
}

/** The latest moment at or before now at which the zone's clocks showed the hour. */
export function latestBoundary(daily: NonNullable<Policy["daily"]>, nowMs: number): number {
  const offset = daily.hour * hourMs - daily.aheadMs;
  return Math.floor((nowMs - offset) / dayMs) * dayMs + offset;
}

export function sameKey(a: KeyShape, b: KeyShape): boolean {
  return a.scope === b.scope && a.storeKey === b.storeKey;
}

export function keyText(key: KeyShape): string {
  return `${key.scope}\n${key.storeKey}`;
}

export function isRefused(answer: object): answer is Refused {
  return "kind" in answer && answer.kind === "refused";
}

function refused(reason: string, metadata?: Readonly<Record<string, string>>): Refused {
  return { kind: "refused", reason, ...(metadata === undefined ? {} : { metadata }) };
}

function staleGeneration(row: Row): Refused {
  return refused("STALE_GENERATION", { generation: String(row.generation) });
}

/** The freshest row of each conversation. */
function collapse(rows: readonly Row[]): Row[] {
  const winners = new Map<string, Row>();
  for (const row of rows) {
    const rival = winners.get(keyText(row.key));
    if (rival === undefined || compareAge(row, rival) < 0) winners.set(keyText(row.key), row);
  }
  return [...winners.values()].sort((a, b) => compareAge(a, b) || (a.key.storeKey < b.key.storeKey ? -1 : 1));
}

function freshest(winners: readonly Row[], match: "STRUCTURAL" | "FRESHEST"): Selection {
  const [first, second] = winners;
  if (first === undefined) return { kind: "none" };
  if (second !== undefined && compareAge(first, second) === 0) return { kind: "ambiguous", rows: winners };
  return { kind: "selected", row: first, match };
}

/** The freshest first. */
function compareAge(a: Row, b: Row): number {
  return b.activeAtMs - a.activeAtMs || b.changed - a.changed;
}
