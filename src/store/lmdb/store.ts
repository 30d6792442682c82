/** The ports of sessions and turns over one LMDB environment: reads here, writes by the writer. */

import { ChangeRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import type { SessionKey } from "../../sessions/key.js";
import type { Refusal } from "../../sessions/refusal.js";
import type {
  Activity,
  Change,
  ChangeKind,
  IdQuery,
  ImportResult,
  ListFilter,
  Place,
  PruneCall,
  PruneReport,
  PruneRow,
  PruneSkip,
  Removed,
  ReserveCall,
  Reserved,
  Reset,
  SessionCall,
  SessionStore,
  SessionView,
  Where,
} from "../../sessions/session-store.js";
import type { KeptHistory } from "../../turns/history.js";
import type { Exchange } from "../../turns/provider.js";
import type { TurnRow } from "../../turns/turn.js";
import type {
  Admission,
  AdmitCall,
  EvictCall,
  Grant,
  JournalEntry,
  Linked,
  TurnArchive,
  TurnEndCall,
  TurnListCall,
  TurnPage,
  TurnStore,
} from "../../turns/turn-store.js";
import type { UsageCall, UsagePage } from "../../turns/usage.js";
import { type Stretch, walkActivity } from "./activity.js";
import { followLink } from "./chains.js";
import { decodeBatch, unseal, unsealMessage } from "./codec.js";
import type { CommandInput } from "./commands.js";
import { readExchange, readHistory, readLastAnswer } from "./history.js";
import { type PruneStepResult, pruneScopes } from "./prune-commands.js";
import { afterAll } from "./schema.js";
import type { Key, Tables } from "./tables.js";
import { listTurns } from "./turn-list.js";
import { listUsage } from "./usage.js";
import type { Writer } from "./writer.js";

/** Rows of a report that are named; the counts go on. */
const reportedRows = 1000;
const sweepBatch = 1000;
/** Smaller: what is deleted may be large. */
const evictBatch = 200;
/** Changes that are kept for those who watch: this many, and those of this long. */
const keptChanges = 100_000;
const keptChangesMs = 24 * 3_600_000;

/** Events that a reader is given at a time. */
const mostPageBytes = 256 * 1024;

export class LmdbStore implements SessionStore, TurnStore, TurnArchive {
  constructor(
    private readonly tables: Tables,
    private readonly writer: Writer,
  ) {}

  async byKey(key: SessionKey): Promise<SessionView | undefined> {
    const uncommitted = this.writer.uncommitted.byKey(key);
    if (uncommitted !== undefined) return uncommitted;
    this.tables.refresh();
    const row = this.tables.current(key);
    return row === undefined ? undefined : this.tables.view(row);
  }

  async byId(query: IdQuery, where: Where, limit: number): Promise<readonly SessionView[]> {
    if (this.writer.uncommitted.mayOwn(query)) await this.writer.settled();
    this.tables.refresh();
    return this.tables.byId(query, where, limit).map((row) => this.tables.view(row));
  }

  async list(filter: ListFilter, after: Place | undefined, limit: number): Promise<readonly SessionView[]> {
    await this.writer.settled();
    this.tables.refresh();
    const views: SessionView[] = [];
    for (const place of walkActivity(
      this.tables,
      this.#stretches(filter),
      filter.oldestFirst === true ? "oldest" : "newest",
      after,
      filter.idleSinceMs,
    )) {
      const row = this.tables.row(place.key, place.recordNo);
      if (row !== undefined) views.push(this.tables.view(row));
      if (views.length >= limit) break;
    }
    return views;
  }

  reserve(call: ReserveCall): Promise<Reserved> {
    return this.writer.run("reserve", call);
  }

  bind(call: CommandInput<"bind">): Promise<SessionView | Refusal> {
    return this.writer.run("bind", call);
  }

  reset(call: CommandInput<"reset">): Promise<Reset | Refusal> {
    return this.writer.run("reset", call);
  }

  pin(call: CommandInput<"pin">): Promise<SessionView | Refusal> {
    return this.writer.run("pin", call);
  }

  async remove(call: SessionCall): Promise<Removed | Refusal> {
    const removed = await this.writer.run("remove", call);
    if (removed.kind === "removed") await this.sweep(call.nowMs);
    return removed;
  }

  async prune(call: PruneCall, writeActivity: () => Promise<void>): Promise<PruneReport> {
    const report = {
      archived: 0,
      purged: 0,
      rows: [] as PruneRow[],
      skipped: [] as PruneSkip[],
      skippedTotal: 0,
    };
    let left = call.limit ?? Number.POSITIVE_INFINITY;
    await this.writer.settled();
    this.tables.refresh();
    for (const { scope, overCap } of pruneScopes(this.tables, call)) {
      let step: Pick<PruneStepResult, "after" | "overCap" | "done"> = { overCap, done: false };
      while (!step.done) {
        if (left <= 0) return { ...report, more: true };
        // Asked for together, they are done in this order and in one transaction.
        const written = writeActivity();
        const pruned: Promise<PruneStepResult> = this.writer.run("pruneStep", {
          ...step,
          call,
          scope,
          limit: left,
        });
        const [result] = await Promise.all([pruned, written]);
        left -= result.rows.length;
        count(report, result, call.purge);
        step = result;
      }
    }
    if (call.purge && !call.dryRun) await this.sweep(call.nowMs);
    return { ...report, more: false };
  }

  importRows(call: CommandInput<"importRows">): Promise<readonly ImportResult[]> {
    return this.writer.run("importRows", call);
  }

  async revision(): Promise<number> {
    await this.writer.settled();
    this.tables.refresh();
    return this.tables.counters().revision;
  }

  async changes(after: number, limit: number): Promise<readonly Change[] | "gone"> {
    await this.writer.settled();
    this.tables.refresh();
    if (after < this.tables.counters().changesGoneThrough) return "gone";
    const changes: Change[] = [];
    for (const { key: revision, value } of this.tables.numbered("changes", limit, after)) {
      const record = unsealMessage(ChangeRecordSchema, value, "changes");
      const key = { scope: record.scope, externalId: record.externalId, provider: record.provider };
      const row = this.tables.row(key, record.recordNo);
      changes.push({
        revision,
        kind: record.kind as ChangeKind,
        key,
        sessionId: record.sessionId,
        ...(row === undefined ? {} : { view: this.tables.view(row) }),
      });
    }
    return changes;
  }

  written(signal: AbortSignal): Promise<void> {
    return this.writer.written(signal);
  }

  async expire(nowMs: number): Promise<void> {
    while (!(await this.writer.run("expireReplays", { nowMs, limit: sweepBatch })));
    const before = (await this.revision()) - keptChanges;
    const call = { before, olderThanMs: nowMs - keptChangesMs, limit: sweepBatch };
    while (!(await this.writer.run("expireChanges", call)));
  }

  touch(activities: readonly Activity[]): Promise<void> {
    return this.writer.run("touch", activities);
  }

  /** Deletes in bounded steps what hangs on deleted rows; goes on where a crash stopped it. */
  async sweep(nowMs: number): Promise<void> {
    while (!(await this.writer.run("sweepGarbage", { nowMs, limit: sweepBatch })));
  }

  async evictEvents({ reading, stopping, ...call }: EvictCall): Promise<void> {
    const step = () => this.writer.run("evictEvents", { ...call, reading: reading(), limit: evictBatch });
    while (!stopping.aborted && !(await step()));
  }

  async byTurnId(turnId: string, where: Where): Promise<TurnRow | undefined> {
    this.tables.refresh();
    return this.tables.turnById(turnId, where);
  }

  async byTurnNo(turnNo: number): Promise<TurnRow | undefined> {
    this.tables.refresh();
    return this.tables.turn(turnNo);
  }

  async listTurns(call: TurnListCall): Promise<TurnPage> {
    this.tables.refresh();
    return listTurns(this.tables, call);
  }

  async session(turn: TurnRow): Promise<SessionView | undefined> {
    this.tables.refresh();
    const row = this.tables.row(turn.key, turn.recordNo);
    return row === undefined ? undefined : this.tables.view(row);
  }

  async requests(turnNo: number): Promise<readonly Uint8Array[]> {
    this.tables.refresh();
    const merges = [...this.tables.keysBelow("merges", [turnNo])].map((key) => Number(key[1]));
    // Text to steer with is given to the agent while it runs, and may come before this is read.
    const merged = merges.filter((number) => this.tables.turn(number)?.onConflict === "COLLECT");
    const sealed = [turnNo, ...merged].map((number) => this.tables.get("requests", number));
    return sealed.filter((each) => each !== undefined).map((each) => unseal(each, "requests"));
  }

  async events(
    turnNo: number,
    afterSequence: number,
    limit: number,
  ): Promise<readonly JournalEntry[] | "gone"> {
    this.tables.refresh();
    const start = this.#batchBefore(turnNo, afterSequence);
    const entries: JournalEntry[] = [];
    let pageBytes = 0;
    for (const { key, value } of this.tables.entriesBetween("events", start, [turnNo, afterAll])) {
      const first = Number(key[1]);
      for (const [index, event] of decodeBatch(value).entries()) {
        if (first + index > afterSequence) entries.push({ sequence: first + index, event });
      }
      pageBytes += value.length;
      if (entries.length >= limit || pageBytes >= mostPageBytes) break;
    }
    const [first] = entries;
    const whole =
      first === undefined ? this.#nothingAfter(turnNo, afterSequence) : first.sequence === afterSequence + 1;
    return whole ? entries : "gone";
  }

  async active(): Promise<readonly TurnRow[]> {
    this.tables.refresh();
    const rows: TurnRow[] = [];
    for (const { key } of this.tables.all("lanes")) {
      const row = this.tables.turn(Number((key as Key)[3]));
      if (row !== undefined) rows.push(row);
    }
    return rows.sort((a, b) => a.turnNo - b.turnNo);
  }

  async history(recordNo: number, maxBytes: number): Promise<KeptHistory> {
    this.tables.refresh();
    return readHistory(this.tables, recordNo, maxBytes);
  }

  async exchange(turn: Pick<TurnRow, "recordNo" | "turnNo">): Promise<Exchange | undefined> {
    this.tables.refresh();
    return readExchange(this.tables, turn);
  }

  async lastAnswer(recordNo: number): Promise<string | undefined> {
    this.tables.refresh();
    return readLastAnswer(this.tables, recordNo);
  }

  async followLink(...[place, link]: Parameters<TurnStore["followLink"]>): Promise<Linked | undefined> {
    this.tables.refresh();
    return followLink(this.tables, place, link);
  }

  async newestTurns(recordNo: number, limit: number): Promise<readonly TurnRow[]> {
    this.tables.refresh();
    const newest: TurnRow[] = [];
    const keys = this.tables.keysDown("sessionTurns", [recordNo, Number.MAX_SAFE_INTEGER], [recordNo]);
    for (const [, turnNo] of keys) {
      const turn = this.tables.turn(Number(turnNo));
      if (turn !== undefined) newest.push(turn);
      if (newest.length >= limit) break;
    }
    return newest;
  }

  admit(call: AdmitCall): Promise<Admission> {
    return this.writer.run("admit", call);
  }

  unmerge(call: CommandInput<"unmerge">): Promise<TurnRow | undefined> {
    return this.writer.run("unmerge", call);
  }

  cancelMerged(call: TurnEndCall): Promise<boolean> {
    return this.writer.run("cancelMerged", call);
  }

  grant(call: CommandInput<"grant">): Promise<Grant | undefined> {
    return this.writer.run("grant", call);
  }

  regrant(call: CommandInput<"regrant">): Promise<Grant | undefined> {
    return this.writer.run("regrant", call);
  }

  retry(call: CommandInput<"retry">): Promise<boolean> {
    return this.writer.run("retry", call);
  }

  bindNative(call: CommandInput<"bindNative">): Promise<boolean> {
    return this.writer.run("bindNative", call);
  }

  append(call: CommandInput<"append">): Promise<boolean> {
    return this.writer.run("append", call);
  }

  end(call: TurnEndCall): Promise<boolean> {
    return this.writer.run("end", call);
  }

  async listUsage(call: UsageCall): Promise<UsagePage> {
    this.tables.refresh();
    return listUsage(this.tables, call);
  }

  /** Live rows in the store, and those that are in its log. */
  liveSessions(): number {
    this.tables.refresh();
    let sessions = this.tables.counters().liveSessions;
    for (const { row } of this.writer.uncommitted.views()) {
      // The commit may have been, and nobody has been told.
      if (this.tables.current(row.key) === undefined) sessions += 1;
    }
    return sessions;
  }

  /** That no event follows because none was journaled, and not because it has been deleted. */
  #nothingAfter(turnNo: number, afterSequence: number): boolean {
    const turn = this.tables.turn(turnNo);
    if (turn === undefined || this.tables.get("garbage", turn.recordNo) !== undefined) return false;
    return turn.evictedThrough <= afterSequence;
  }

  /** First key of the batch that holds the event after a sequence, or of the next one. */
  #batchBefore(turnNo: number, afterSequence: number): Key {
    for (const key of this.tables.keysDown("events", [turnNo, afterSequence + 1], [turnNo])) return key;
    return [turnNo, 0];
  }

  #stretches(filter: ListFilter): Stretch[] {
    const stretches: Stretch[] = [];
    for (const scope of this.tables.scopesOf(filter.scopes)) {
      for (const [, provider] of [...this.tables.keysBelow("scopes", [scope])]) {
        if (filter.provider !== undefined && provider !== filter.provider) continue;
        if (filter.live) stretches.push([scope, String(provider), "l"]);
        if (filter.archived) stretches.push([scope, String(provider), "a"]);
      }
    }
    return stretches;
  }
}

function count(
  report: { archived: number; purged: number; rows: PruneRow[]; skipped: PruneSkip[]; skippedTotal: number },
  result: PruneStepResult,
  purge: boolean,
): void {
  if (purge) report.purged += result.rows.length;
  else report.archived += result.rows.length;
  report.skippedTotal += result.skipped.length;
  report.rows.push(...result.rows.slice(0, Math.max(0, reportedRows - report.rows.length)));
  report.skipped.push(...result.skipped.slice(0, Math.max(0, reportedRows - report.skipped.length)));
}
