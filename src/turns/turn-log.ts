/**
 * The events of a turn that has not ended: numbered, on their way to the
 * journal, and at hand for readers.
 *
 * Readers pull. One that is slow costs nothing but its place: what is no longer
 * held here it reads from the journal. An event may be seen before it is on
 * disk, but only while its sequence lies in a block that the turn's row has
 * reserved on disk, so that a crash never gives the number to another event.
 */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type TurnEvent, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { Clock } from "../clock.js";
import type { JournalEntry } from "./turn-store.js";

export type EventPayload = NonNullable<MessageInitShape<typeof TurnEventSchema>["event"]>;

/** Writes entries and reserves sequences; false if the turn is no longer ours. */
export type AppendToJournal = (entries: readonly JournalEntry[], reserveThrough: number) => Promise<boolean>;

/** Sequences reserved at a time. */
export const reserveBlock = 256;
const journalEveryMs = 20;
const journalAtBytes = 64 * 1024;
/** Journaled events that are held for readers, if they fit. */
const heldEvents = 64;
export const defaultHeldBytes = 1024 * 1024;

export class TurnLog {
  /** Without gaps; the last is the newest. */
  readonly #held: TurnEvent[] = [];
  /** Bytes of the held events on disk, in the same order. */
  readonly #sizes: number[] = [];
  #heldBytes = 0;
  #pending: JournalEntry[] = [];
  #pendingBytes = 0;
  #nextSequence: number;
  #reservedThrough: number;
  #ended = false;
  #writing: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  readonly #waiters = new Set<() => void>();
  #position = 0;

  constructor(
    readonly turnId: string,
    private readonly clock: Clock,
    private readonly append: AppendToJournal,
    /** Told once if the journal cannot be written, or is no longer ours. */
    private readonly onFailure: (error: Error) => void,
    /** Sequences that were given out, or may have been, before. */
    givenOut = 1,
    /** Sequences reserved at a time; 0: an event is shown once it is on disk. */
    private readonly block = reserveBlock,
    /** Journaled events that are held for readers, in bytes. */
    private readonly mostHeldBytes = defaultHeldBytes,
  ) {
    this.#nextSequence = givenOut + 1;
    this.#reservedThrough = givenOut;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get lastSequence(): number {
    return this.#nextSequence - 1;
  }

  /** Sequences up to this one may have been seen by a reader. */
  get reservedThrough(): number {
    return this.#reservedThrough;
  }

  /** Turns before this one in its session; 0 once it runs. */
  get position(): number {
    return this.#position;
  }

  set position(value: number) {
    if (value === this.#position) return;
    this.#position = value;
    this.wake();
  }

  /** The turn's row has these sequences reserved on disk. */
  reserved(through: number): void {
    this.#reservedThrough = Math.max(this.#reservedThrough, through);
    this.wake();
  }

  add(payload: EventPayload): void {
    const event = this.#number(payload);
    const bytes = toBinary(TurnEventSchema, event);
    this.#pending.push({ sequence: event.sequence, event: bytes });
    this.#pendingBytes += bytes.length;
    this.#hold(event, bytes.length);
    if (this.#pendingBytes >= journalAtBytes) this.#write();
    else this.#cancelTimer ??= this.clock.after(journalEveryMs, () => this.#write());
  }

  /**
   * The terminal event, numbered but shown to nobody yet, with all that is not
   * journaled before it. Everything is on disk before `finish` shows it.
   */
  async conclude(payload: EventPayload): Promise<{ event: TurnEvent; entries: readonly JournalEntry[] }> {
    this.#cancelTimer?.();
    await this.#writing;
    const event = this.#number(payload);
    // Not given out before `finish`: a write that fails may be tried with another ending.
    this.#nextSequence = event.sequence;
    return {
      event,
      entries: [...this.#pending, { sequence: event.sequence, event: toBinary(TurnEventSchema, event) }],
    };
  }

  finish(event: TurnEvent): void {
    this.#pending = [];
    this.#nextSequence = event.sequence + 1;
    this.#reservedThrough = Math.max(this.#reservedThrough, event.sequence);
    this.#held.push(event);
    this.#ended = true;
    this.wake();
  }

  /** Another ending is on disk; readers find it there. */
  abandon(): void {
    this.#ended = true;
    this.#held.length = 0;
    this.wake();
  }

  /** Events after a sequence that are held here; undefined if the journal has to be asked. */
  after(sequence: number): readonly TurnEvent[] | undefined {
    const [first] = this.#held;
    if (sequence >= this.lastSequence) return [];
    if (first === undefined || sequence + 1 < first.sequence) return undefined;
    const visible = this.#held.slice(Math.max(0, sequence + 1 - first.sequence));
    return visible.filter((event) => event.sequence <= this.#reservedThrough);
  }

  /** Resolves once everything that was added is journaled, or cannot be. */
  async flush(): Promise<void> {
    this.#cancelTimer?.();
    this.#write();
    await this.#writing;
  }

  /** Lets readers look again. */
  wake(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }

  /** Resolves at the next change, or when the signal aborts. */
  async changed(signal: AbortSignal, timeoutMs: number): Promise<"changed" | "silent"> {
    if (signal.aborted) return "changed";
    return await new Promise((resolve) => {
      const done = (what: "changed" | "silent") => {
        cancelTimer();
        this.#waiters.delete(changed);
        signal.removeEventListener("abort", changed);
        resolve(what);
      };
      const changed = () => done("changed");
      const cancelTimer = this.clock.after(timeoutMs, () => done("silent"));
      signal.addEventListener("abort", changed);
      this.#waiters.add(changed);
    });
  }

  #number(payload: EventPayload): TurnEvent {
    return create(TurnEventSchema, {
      turnId: this.turnId,
      sequence: this.#nextSequence++,
      time: timestampFromMs(this.clock.now()),
      event: payload,
    });
  }

  #hold(event: TurnEvent, bytes: number): void {
    this.#held.push(event);
    this.#sizes.push(bytes);
    this.#heldBytes += bytes;
    this.wake();
  }

  #write(): void {
    this.#cancelTimer = undefined;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writeAll(): Promise<void> {
    while (this.#pending.length > 0) {
      const entries = this.#pending;
      this.#pending = [];
      this.#pendingBytes = 0;
      const last = entries.at(-1)?.sequence ?? 0;
      const reserveThrough = Math.max(this.#reservedThrough, last + this.block);
      try {
        if (!(await this.append(entries, reserveThrough))) throw new Error("the turn has been taken away");
      } catch (error) {
        this.#pending = [...entries, ...this.#pending];
        this.onFailure(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      this.reserved(reserveThrough);
      this.#letGo(last);
    }
  }

  /** Readers find in the journal what is let go; the newest event stays. */
  #letGo(journaledThrough: number): void {
    let spare = 0;
    while (spare < this.#held.length - 1) {
      const sequence = this.#held[spare]?.sequence ?? 0;
      const wanted = sequence > journaledThrough - heldEvents && this.#heldBytes <= this.mostHeldBytes;
      if (wanted || sequence > journaledThrough) break;
      this.#heldBytes -= this.#sizes[spare] ?? 0;
      spare += 1;
    }
    this.#held.splice(0, spare);
    this.#sizes.splice(0, spare);
  }
}
