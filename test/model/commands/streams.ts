/** Streams that stay open from one command to the next. */
import type { AcquireLaneResponse, LaneGranted } from "../../../gen/sessionbroker/v1/lane_pb.js";
import type { WatchSessionsResponse } from "../../../gen/sessionbroker/v1/session_pb.js";
import type { TurnEvent } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { BrokerClient } from "../../support/broker.js";
import type { InProcessBroker } from "../../support/in-process.js";
import type { CallerName } from "./setting.js";

/** Reads a stream as it comes, and lets others wait for what they need of it. */
export class Reading<T> {
  readonly items: T[] = [];
  readonly #stop = new AbortController();
  #wake: (() => void)[] = [];
  #over = false;
  #failure: unknown;
  /** Rejected if the stream fails. */
  readonly ended: Promise<void>;

  constructor(open: (signal: AbortSignal) => AsyncIterable<T>) {
    this.ended = this.#read(open(this.#stop.signal));
    this.ended.catch(() => {});
  }

  /** Something that is there, or comes; fails if the stream ends without it. */
  async until<F>(find: (items: readonly T[]) => F | undefined): Promise<F> {
    for (;;) {
      const found = find(this.items);
      if (found !== undefined) return found;
      if (this.#over) throw this.#failure ?? new Error("the stream ended without what was waited for");
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  leave(): void {
    this.#stop.abort();
  }

  async #read(stream: AsyncIterable<T>): Promise<void> {
    try {
      for await (const item of stream) {
        this.items.push(item);
        this.#tell();
      }
    } catch (failure) {
      this.#failure = failure;
      throw failure;
    } finally {
      this.#over = true;
      this.#tell();
    }
  }

  #tell(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** The caller that holds a lane. */
export class Holder {
  readonly #reading: Reading<AcquireLaneResponse>;

  constructor(open: (signal: AbortSignal) => AsyncIterable<AcquireLaneResponse>) {
    this.#reading = new Reading(open);
  }

  get ended(): Promise<void> {
    return this.#reading.ended;
  }

  reserved() {
    return this.#event("reserved");
  }

  granted(): Promise<LaneGranted> {
    return this.#event("granted");
  }

  async revoked(): Promise<void> {
    await this.#event("revoked");
  }

  #event<C extends NonNullable<AcquireLaneResponse["event"]["case"]>>(name: C) {
    type Found = Extract<AcquireLaneResponse["event"], { case: C }>["value"];
    return this.#reading.until((items) => {
      const found = items.find(({ event }) => event.case === name);
      return found?.event.value as Found | undefined;
    });
  }
}

/** What is open during one sequence. */
export class Streams {
  readonly holders = new Map<string, Holder>();
  readonly watchers: Watcher[] = [];
  #clients = new Map<string, BrokerClient>();

  clientOf(broker: InProcessBroker, token: string): BrokerClient {
    const client = this.#clients.get(token) ?? broker.clientOf(token);
    this.#clients.set(token, client);
    return client;
  }

  /** The broker has stopped, and all connections with it. */
  gone(): void {
    this.#clients = new Map();
    this.holders.clear();
    for (const watcher of this.watchers) watcher.reading = undefined;
  }
}

/** Somebody who follows the changes, from a revision that stands for so many of the model's. */
export interface Watcher {
  readonly filter: { readonly scope: string; readonly provider: string };
  readonly caller: CallerName;
  revision: string;
  groups: number;
  reading: Reading<WatchSessionsResponse> | undefined;
}

/** The events of a turn that are kept. */
export function keptEvents(items: readonly { event?: TurnEvent | undefined }[]): TurnEvent[] {
  return items.flatMap(({ event }) => (event !== undefined && event.sequence > 0 ? [event] : []));
}

/** All of them, to the end of the turn. */
export async function collect(
  stream: AsyncIterable<{ event?: TurnEvent | undefined }>,
): Promise<TurnEvent[]> {
  const items: { event?: TurnEvent | undefined }[] = [];
  for await (const item of stream) items.push(item);
  return keptEvents(items);
}
