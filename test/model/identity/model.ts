/**
 * What the design says of keys, sessions and their ids, as plain data in memory:
 * no index, no store, no concurrency. Each operation answers what the broker has
 * to answer, and changes the data only when the answer is committed.
 */
import {
  type Change,
  type ChangeKind,
  type Ephemeral,
  isRefused,
  type KeyShape,
  keyText,
  type Lane,
  type Planned,
  type Policy,
  type Reason,
  type Refused,
  type Replayed,
  type ReserveOptions,
  type Row,
  refused,
  type Sees,
  sameKey,
  staleGeneration,
  type Target,
  type Turn,
} from "./rows.js";
import { ageReason, Belief, type Time } from "./time.js";

const replayMs = 24 * 3_600_000;

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
  /** What watchers are told, in order; the order within a group is not said. */
  readonly changes: Change[][] = [];
  /** Every session id that was ever told, also of hand-offs and of deleted sessions. */
  readonly sessionIds = new Set<string>();
  readonly nativeIds = new Set<string>();
  /** Turns that leave nothing behind, and the monotonic time at which even their id is forgotten. */
  readonly handOffs = new Map<string, { readonly key: KeyShape; readonly forgetAtMs: number }>();
  readonly belief: Belief;
  readonly #lanes = new Map<string, Turn[]>();
  readonly #tombstones = new Set<string>();
  readonly #replays = new Map<string, Remembered>();
  #changes = 0;
  #group: Change[] | undefined;

  constructor(
    readonly time: Time,
    private readonly scopePolicy: (scope: string) => Policy,
  ) {
    this.belief = new Belief(time);
  }

  now(): number {
    return this.time.now();
  }

  /** What the key points to. */
  current(key: KeyShape): Row | undefined {
    return this.rows.find((row) => row.state !== "rotated" && sameKey(row.key, key));
  }

  live(key: KeyShape): Row | undefined {
    const row = this.current(key);
    return row?.state === "live" ? row : undefined;
  }

  lane(key: KeyShape): Lane {
    return this.#lanes.get(keyText(key)) ?? [];
  }

  /** The lanes that are held or waited for. */
  busyLanes(): readonly Lane[] {
    return [...this.#lanes.values()].filter((lane) => lane.length > 0);
  }

  running(key: KeyShape): Turn | undefined {
    const [first] = this.lane(key);
    return first?.state === "running" ? first : undefined;
  }

  reserve(key: KeyShape, options: ReserveOptions): Refused | Ephemeral | Planned {
    if (options.internal) {
      const row = this.live(key);
      if (row === undefined || this.#stale(row, options.policy) !== undefined) return { kind: "ephemeral" };
      return this.#elsewhere(row, options) ?? { kind: "row", outcome: "EXISTING", row, commit: () => {} };
    }
    const plan =
      options.sessionId === undefined
        ? this.#reservePlain(key, options)
        : this.#reserveExplicit(key, options.sessionId, options);
    if (plan.kind === "refused") return plan;
    return this.#takenAlias(key, options.aliases ?? []) ?? plan;
  }

  /** The one row that a call about a session means. */
  find(target: Target, sees: Sees, scope?: string): Row | Refused {
    if (target.kind === "key") return this.live(target.key) ?? refused("SESSION_NOT_FOUND");
    const rows = this.rows.filter(
      ({ sessionId, key }) =>
        sessionId === target.sessionId && sees(key.scope) && (scope === undefined || key.scope === scope),
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
      readonly fence?: bigint;
    },
    sees: Sees,
  ): Refused | Planned {
    const { nativeId } = request;
    const overtaken = this.#overtaken(row, request);
    // Whether a conversation of somebody else exists is not told.
    if (nativeId !== undefined && this.#isForeign(row, nativeId, sees)) return refused("SESSION_NOT_FOUND");
    if (overtaken !== undefined) return overtaken;
    if (nativeId !== undefined && this.#nativeIdInUse(row, nativeId)) return refused("NATIVE_ID_IN_USE");
    const taken = this.#takenAlias(row.key, request.aliases);
    if (taken !== undefined) return taken;
    const commit = () => {
      const named = nativeId !== undefined && this.#rename(row, nativeId);
      const merged = this.#merge(row, request.aliases, {});
      if (named || merged) this.#tell("UPDATED", row);
    };
    return { kind: "row", row, commit };
  }

  reset(row: Row, expectedGeneration: number | undefined): Refused | Planned {
    if (row.state === "rotated") return refused("ARCHIVED");
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    return this.#busy(row.key) ?? this.#rotation(row, "EXPLICIT_RESET", {});
  }

  pin(row: Row, pinned: boolean, expectedGeneration: number | undefined): Refused | Planned {
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    const commit = () => {
      if (row.pinned === pinned) return;
      row.pinned = pinned;
      this.#change(row);
      this.#tell("UPDATED", row);
    };
    return { kind: "row", row, commit };
  }

  remove(row: Row, expectedGeneration: number | undefined): Refused | Planned {
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    const busy = row.state === "rotated" ? undefined : this.#busy(row.key);
    return busy ?? { kind: "row", row, commit: () => this.purge(row) };
  }

  /** Rows that a prune may take and those that it passes over, without regard to a limit. */
  prunable(
    candidates: readonly Row[],
    criteria: { readonly olderThanMs?: number; readonly maxSessions?: number },
  ): { readonly due: Map<Row, "IDLE" | "OVER_CAP">; readonly skipped: Map<Row, "RUNNING" | "PINNED"> } {
    const due = new Map<Row, "IDLE" | "OVER_CAP">();
    const skipped = new Map<Row, "RUNNING" | "PINNED">();
    for (const scope of new Set(candidates.map((row) => row.key.scope))) {
      const newestFirst = candidates
        .filter((row) => row.key.scope === scope)
        .sort((a, b) => b.activeAtMs - a.activeAtMs);
      for (const [index, row] of newestFirst.entries()) {
        const idle = criteria.olderThanMs !== undefined && row.activeAtMs < this.now() - criteria.olderThanMs;
        const overCap = criteria.maxSessions !== undefined && index >= criteria.maxSessions;
        if (!idle && !overCap) continue;
        if (row.state !== "rotated" && this.lane(row.key).length > 0) skipped.set(row, "RUNNING");
        else if (row.pinned) skipped.set(row, "PINNED");
        else due.set(row, idle ? "IDLE" : "OVER_CAP");
      }
    }
    return { due, skipped };
  }

  archive(row: Row): void {
    row.state = "pruned";
    this.#change(row);
    this.#tell("ARCHIVED", row);
  }

  purge(row: Row): void {
    this.rows = this.rows.filter((other) => other !== row);
    for (const [id, turn] of this.turns) if (turn.row === row) this.turns.delete(id);
    if (row.state !== "rotated") this.#tombstones.add(keyText(row.key));
    this.#tell("DELETED", row);
  }

  /** The first turn of a generation pays its announcement. */
  admitted(turn: Turn): void {
    const { row, turnId } = turn;
    if (row.owed !== undefined) {
      delete row.owed;
      this.#change(row);
      this.#tell("UPDATED", row);
    }
    this.turns.set(turnId, turn);
    this.#lanes.set(keyText(row.key), [...this.lane(row.key), turn]);
  }

  /** @param nativeId that the turn was given, if it runs in the broker */
  granted(turn: Turn, fence: bigint, nativeId?: string): void {
    const { row } = turn;
    turn.state = "running";
    turn.fence = fence;
    turn.renewedAtMs = this.time.monotonic();
    const minted = nativeId !== undefined && row.nativeId === "";
    if (minted) {
      row.nativeId = nativeId;
      row.native = "PROVISIONAL";
      this.nativeIds.add(nativeId);
    }
    row.turns += 1;
    if (minted || row.turns === 1) {
      this.#change(row);
      this.#tell("UPDATED", row);
    }
    this.used(row);
    row.writtenAtMs = row.activeAtMs;
  }

  /** A binding is believed once a turn with it has succeeded. */
  ended(turn: Turn, how: "succeeded" | "stopped", events?: unknown): void {
    const { row } = turn;
    if (turn.state === "running") {
      if (how === "succeeded" && row.native === "PROVISIONAL") {
        row.native = "BOUND";
        this.#change(row);
        this.#tell("UPDATED", row);
      }
      this.used(row);
      row.writtenAtMs = row.activeAtMs;
    }
    turn.state = "ended";
    turn.events = events;
    const left = this.lane(row.key).filter((other) => other !== turn);
    this.#lanes.set(keyText(row.key), left);
  }

  /** @param nativeId that the row is bound to, unless that is another's */
  imported(row: Row, nativeId: string, sees: Sees): void {
    this.#tombstones.delete(keyText(row.key));
    const isFree = !this.#nativeIdInUse(row, nativeId) && !this.#isForeign(row, nativeId, sees);
    if (nativeId !== "" && isFree) {
      row.nativeId = nativeId;
      row.native = "BOUND";
      this.nativeIds.add(nativeId);
    }
    this.#add(row);
    row.changed = 0;
  }

  /** The changes that are made meanwhile may be told in any order. */
  together(act: () => void): void {
    this.#group = [];
    act();
    if (this.#group.length > 0) this.changes.push(this.#group);
    this.#group = undefined;
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

  #reservePlain(key: KeyShape, options: ReserveOptions): Refused | Planned {
    const row = this.current(key);
    if (row === undefined) return this.#creation(key, options);
    const { expectedGeneration } = options;
    if (expectedGeneration !== undefined && expectedGeneration !== row.generation)
      return staleGeneration(row);
    const stale = row.state === "pruned" ? "PRUNED" : this.#stale(row, options.policy);
    if (stale !== undefined) return { ...this.#rotation(row, stale, options), outcome: "ROTATED" };
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
    const busy = this.#busy(key);
    if (busy !== undefined) return busy;
    if (former !== undefined) return this.#revival(former, row.generation + 1, options, row);
    const rotation = this.#rotation(row, undefined, options);
    rotation.row.sessionId = sessionId;
    return { ...rotation, outcome: "EXPLICIT" };
  }

  #creation(key: KeyShape, options: ReserveOptions): Planned {
    const nowMs = this.now();
    const row: Row = {
      key,
      sessionId: "",
      generation: 1,
      state: "live",
      nativeId: "",
      native: "UNBOUND",
      platform: [...new Set(options.aliases)],
      former: [],
      labels: { ...options.labels },
      workspace: options.workspace ?? "",
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
      this.#add(row);
    };
    return { kind: "row", outcome: "CREATED", ...(purged ? { reason: "PURGED" } : {}), row, commit };
  }

  /** The key's session as it is, with the announcement that is still owed. */
  #kept(row: Row, outcome: "EXISTING" | "EXPLICIT", options: ReserveOptions): Refused | Planned {
    const elsewhere = this.#elsewhere(row, options);
    if (elsewhere !== undefined) return elsewhere;
    const commit = () => {
      if (options.forTurn !== true) this.used(row);
      if (this.#merge(row, options.aliases ?? [], options.labels ?? {})) this.#tell("UPDATED", row);
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

  #rotation(row: Row, reason: Reason | undefined, options: ReserveOptions): Planned {
    const nowMs = this.now();
    const { owed: _owed, ...kept } = row;
    const next: Row = {
      ...kept,
      sessionId: "",
      generation: row.generation + 1,
      state: "live",
      nativeId: "",
      native: "UNBOUND",
      platform: [...row.platform],
      former: [],
      labels: { ...row.labels },
      // A new generation may work elsewhere.
      workspace: options.workspace || row.workspace,
      startedAtMs: nowMs,
      activeAtMs: nowMs,
      writtenAtMs: nowMs,
      turns: 0,
      previous: row.sessionId,
      ...(reason === undefined ? {} : { owed: reason }),
    };
    const commit = () => {
      this.#replace(row);
      this.#merge(next, options.aliases ?? [], options.labels ?? {});
      this.#add(next);
    };
    return { kind: "row", ...(reason === undefined ? {} : { reason }), row: next, commit };
  }

  /** An archived session becomes the key's again. */
  #revival(row: Row, generation: number, options: ReserveOptions, replaced?: Row): Refused | Planned {
    if (row.nativeId !== "" && this.#nativeIdInUse(row, row.nativeId)) return refused("NATIVE_ID_IN_USE");
    const elsewhere = this.#elsewhere(row, options);
    if (elsewhere !== undefined) return elsewhere;
    const commit = () => {
      row.platform.push(...(replaced?.platform ?? []));
      if (replaced !== undefined) {
        this.#replace(replaced);
        row.previous = replaced.sessionId;
      }
      this.#tombstones.delete(keyText(row.key));
      // A binding that the caller asked for is told by its own outcome.
      if (row.state === "rotated") delete row.owed;
      const isNew = row.state === "rotated";
      row.state = "live";
      if (isNew) row.startedAtMs = this.now();
      row.generation = generation;
      row.activeAtMs = this.now();
      row.writtenAtMs = this.now();
      this.#change(row);
      this.#merge(row, options.aliases ?? [], options.labels ?? {});
      // The key has another session than before.
      this.#tell(isNew ? "ROTATED" : "UPDATED", row);
    };
    return { kind: "row", outcome: "EXPLICIT", row, commit };
  }

  #replace(row: Row): void {
    row.state = "rotated";
    row.platform = [];
    this.#change(row);
  }

  #add(row: Row): void {
    this.rows.push(row);
    this.#change(row);
    this.#tell(row.generation > 1 ? "ROTATED" : "CREATED", row);
  }

  #merge(row: Row, aliases: readonly string[], labels: Readonly<Record<string, string>>): boolean {
    const added = [...new Set(aliases)].filter((id) => !row.platform.includes(id));
    const labelled = Object.entries(labels).some(([name, value]) => row.labels[name] !== value);
    if (added.length === 0 && !labelled) return false;
    row.platform.push(...added);
    row.labels = { ...row.labels, ...labels };
    this.#change(row);
    return true;
  }

  #rename(row: Row, nativeId: string): boolean {
    this.nativeIds.add(nativeId);
    if (row.nativeId === nativeId && row.native === "BOUND") return false;
    const isNew = row.nativeId !== "" && row.nativeId !== nativeId && !row.former.includes(row.nativeId);
    if (isNew) row.former.push(row.nativeId);
    row.nativeId = nativeId;
    row.native = "BOUND";
    this.#change(row);
    return true;
  }

  #change(row: Row): void {
    this.#changes += 1;
    // The order in which rows were imported says nothing about their age.
    row.changed = row.imported && row.turns === 0 ? 0 : this.#changes;
  }

  #tell(kind: ChangeKind, { key, sessionId }: Row): void {
    const change = { kind, key, sessionId };
    if (this.#group === undefined) this.changes.push([change]);
    else this.#group.push(change);
  }

  #busy(key: KeyShape): Refused | undefined {
    const [first] = this.lane(key);
    return first === undefined ? undefined : refused("SESSION_BUSY", { turn_id: first.turnId });
  }

  #elsewhere(row: Row, { workspace = "" }: ReserveOptions): Refused | undefined {
    if (workspace === "" || workspace === row.workspace) return undefined;
    return refused("WORKSPACE_MISMATCH", { workspace: row.workspace });
  }

  #overtaken(row: Row, request: Parameters<IdentityModel["bind"]>[1]): Refused | undefined {
    if (request.fence !== undefined) {
      const live = this.running(row.key)?.fence ?? 0n;
      return request.fence === live ? undefined : refused("STALE_FENCE", { fence: String(live) });
    }
    if (request.expectedGeneration !== row.generation) return staleGeneration(row);
    if (request.expectedNativeId !== row.nativeId) {
      return refused("NATIVE_ID_MISMATCH", { native_id: row.nativeId });
    }
    return this.#busy(row.key);
  }

  #takenAlias(key: KeyShape, aliases: readonly string[]): Refused | undefined {
    const taken = aliases.some((id) =>
      this.rows.some(
        (row) =>
          row.key.scope === key.scope &&
          row.key.provider === key.provider &&
          !sameKey(row.key, key) &&
          row.platform.includes(id),
      ),
    );
    return taken ? refused("ALIAS_TAKEN") : undefined;
  }

  /** A native id belongs to at most one live session of a provider and workspace. */
  #nativeIdInUse(row: Row, nativeId: string): boolean {
    return this.rows.some(
      (other) =>
        other !== row &&
        other.state === "live" &&
        other.nativeId === nativeId &&
        other.key.provider === row.key.provider &&
        other.workspace === row.workspace,
    );
  }

  /** Known outside the caller's scopes. */
  #isForeign(row: Row, nativeId: string, sees: Sees): boolean {
    return this.rows.some(
      ({ key, nativeId: bound, former }) =>
        key.provider === row.key.provider &&
        !sees(key.scope) &&
        (bound === nativeId || former.includes(nativeId)),
    );
  }

  #stale(row: Row, requested: Policy | undefined): "IDLE" | "DAILY" | undefined {
    // Nobody's work is cut off in the middle, and a clock that jumped tells no age.
    const believed = this.belief.look();
    if (!believed || this.lane(row.key).length > 0) return undefined;
    return ageReason(row, requested ?? row.policy ?? this.scopePolicy(row.key.scope), this.now());
  }
}
