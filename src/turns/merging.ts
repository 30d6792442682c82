/**
 * Turns whose text goes into another turn of their session: into one that
 * waits (COLLECT), or into the one that runs (STEER).
 */
import type { Clock } from "../clock.js";
import type { ActiveTurn } from "./active-turn.js";
import { type StopReason, stopped } from "./endings.js";
import type { TurnInputPart } from "./provider.js";
import { endWithoutRun } from "./restart.js";
import type { TurnRow } from "./turn.js";
import type { Admission, TurnStore } from "./turn-store.js";

export interface MergingDeps {
  readonly store: TurnStore;
  readonly clock: Clock;
  readonly collectDebounceMs: number;
  readonly inputOf: (encoded: Uint8Array) => readonly TurnInputPart[];
  /** The turn in this process. */
  readonly active: (turnNo: number) => ActiveTurn | undefined;
  /** Lets a turn wait that was merged before. */
  readonly wait: (row: TurnRow) => void;
  /** Lets a turn run that collected. */
  readonly release: (turn: ActiveTurn) => void;
  readonly draining: () => boolean;
  readonly log: (message: string, error: unknown) => void;
}

type Merged = Extract<Admission, { kind: "merged" }>;

const longestCollectMs = 5_000;
const storeRetryMs = 1_000;

export class Merging {
  constructor(private readonly deps: MergingDeps) {}

  /** Gives the text to the running turn's agent; it becomes a turn of its own if the agent takes no more. */
  async steer(merged: Merged, encoded: Uint8Array): Promise<Merged> {
    if (merged.turn.onConflict !== "STEER") return merged;
    const { turnNo } = merged.turn;
    const running = this.deps.active(merged.into.turnNo);
    if (await running?.steer(turnNo, this.deps.inputOf(encoded))) return merged;
    const waiting = await this.#unmerge(turnNo, encoded);
    return waiting === undefined ? merged : { ...merged, turn: waiting };
  }

  /** Lets a turn that collects wait a little more. */
  collectOn(turn: ActiveTurn | undefined): void {
    if (turn?.held !== true) return;
    const { clock, collectDebounceMs } = this.deps;
    const leftMs = turn.row.createdAtMs + longestCollectMs - clock.now();
    const waitMs = Math.max(0, Math.min(collectDebounceMs, leftMs));
    turn.setHold(clock.after(waitMs, () => this.deps.release(turn)));
  }

  /** The turn that a merged one's text went into, or the row itself if it waits on its own since. */
  async target(row: TurnRow): Promise<TurnRow> {
    const current = (await this.deps.store.byTurnNo(row.turnNo)) ?? row;
    if (current.mergedInto === undefined) return current;
    return (await this.deps.store.byTurnNo(current.mergedInto.turnNo)) ?? current;
  }

  /** Takes the text back while the other turn waits; a row if the turn waits on its own since. */
  async cancel(row: TurnRow, reason: StopReason): Promise<"REMOVED_FROM_QUEUE" | "DETACHED" | TurnRow> {
    const ending = endWithoutRun(row, stopped({ reason }, "", 1), this.deps.clock.now());
    if (await this.deps.store.cancelMerged(ending)) return "REMOVED_FROM_QUEUE";
    const current = await this.deps.store.byTurnNo(row.turnNo);
    return current === undefined || current.state === "MERGED" ? "DETACHED" : current;
  }

  /** Lets a merged turn wait on its own. What cannot be written is told, and tried again until it is. */
  async #unmerge(turnNo: number, request: Uint8Array): Promise<TurnRow | undefined> {
    try {
      const waiting = await this.deps.store.unmerge({ turnNo, request });
      if (waiting !== undefined) this.deps.wait(waiting);
      return waiting;
    } catch (error) {
      this.deps.clock.after(storeRetryMs, () => {
        if (this.deps.draining()) return;
        this.#unmerge(turnNo, request).catch((failure: unknown) => {
          this.deps.log("a turn that was to steer another cannot wait on its own; trying again", failure);
        });
      });
      throw error;
    }
  }
}
