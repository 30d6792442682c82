/**
 * The app servers, and which of them has which conversation.
 *
 *     (spare) ──first turn of a grant──▶ busy ◀──turn──▶ idle ──too long | no room──▶ (gone)
 *                                          │               │
 *                                          └─drain─┐   ┌───┘ drain
 *                                                  ▼   ▼
 *                                     draining ──no turn | 30 s──▶ (gone)
 *
 * A process serves one grant and a bounded number of conversations. It keeps
 * every one of them to itself until it ends (an idle conversation stays locked,
 * also one that was unsubscribed from), so that letting one go means ending the
 * process. One that drains takes no turns; whoever wants a conversation of it
 * waits for its end.
 */
import { randomUUID } from "node:crypto";
import type { ProviderTurn } from "../../turns/provider.js";
import type { WarmSettings } from "../kind.js";
import { SurvivorsError, WarmPool, type WarmProcess } from "../warm-pool.js";
import type { AppServer } from "./app-server.js";
import type { Thread } from "./thread.js";

export interface ServersOptions {
  /** @param mark value of SESSION_BROKER_CHILD */
  readonly start: (mark: string) => Promise<AppServer>;
  /** As in the configuration; part of the mark. */
  readonly id: string;
  readonly warm: WarmSettings;
  /** Conversations of one process. */
  readonly maxThreads: number;
  /** How long a process that is to end waits for its turns. */
  readonly drainMs: number;
}

/** A turn's place in a process. To be given back or given up, once. */
export interface Seat {
  readonly process: ServerProcess;
  readonly recordNo: number;
  /** Whether the process was running already. */
  readonly warm: boolean;
}

type Turn = Pick<ProviderTurn, "recordNo" | "grant" | "binding" | "childMark">;

export class AppServers {
  readonly #pool: WarmPool<ServerProcess>;
  readonly #processes = new Set<ServerProcess>();
  #spares: ServerProcess[] = [];
  /** `<store>/<life>`, once it is known. */
  #markPrefix: string | undefined;
  #lastNo = 0;
  #closed = false;

  constructor(private readonly options: ServersOptions) {
    this.#pool = new WarmPool(options.warm);
  }

  /** Starts the processes that are to be there before the first turn. */
  prepare(markPrefix: string): void {
    this.#markPrefix ??= markPrefix;
    while (!this.#closed && this.#spares.length < this.options.warm.ahead) {
      const spare = this.#start(this.#markPrefix);
      this.#spares.push(spare);
      void spare.gone.then(() => {
        this.#spares = this.#spares.filter((each) => each !== spare);
      });
    }
  }

  /**
   * A place for the turn, in the process that has its conversation if one has
   * it. Throws what starting a process throws, and SurvivorsError.
   */
  async acquire(turn: Turn): Promise<Seat> {
    let process = this.#holderOf(turn.recordNo);
    if (process !== undefined) forgetEmpty(process, turn);
    if (process !== undefined && !isOfUse(process, turn)) {
      const survivors = await this.release(turn.recordNo);
      if (survivors.length > 0) throw new SurvivorsError(survivors);
      process = undefined;
    }
    process ??= this.#withRoom(turn.grant) ?? this.#forGrant(turn);
    const { warm } = process;
    if (!process.threads.has(turn.recordNo)) process.threads.set(turn.recordNo, undefined);
    process.running++;
    if (process.idle) {
      process.idle = false;
      void this.#pool.take(process.no, "");
    }
    const seat = { process, recordNo: turn.recordNo, warm };
    try {
      await process.ready;
      return seat;
    } catch (error) {
      await this.giveBack(seat);
      throw error;
    }
  }

  /** The turn is over. If the process is not kept, resolves with the pids of what is left when it is gone. */
  async giveBack({ process, recordNo }: Seat): Promise<readonly number[]> {
    if (process.threads.get(recordNo) === undefined) process.threads.delete(recordNo);
    process.running--;
    if (process.running > 0) return [];
    process.idle = !process.draining && this.#pool.giveBack(process.no, process);
    return process.idle ? [] : await this.#pool.release(process.no);
  }

  /** The turn cannot be ended. Resolves with the pids of what is left when the process is gone. */
  giveUp({ process }: Seat): Promise<readonly number[]> {
    process.running--;
    return this.drain(process);
  }

  /** Resolves with the pids of what is left when the process is gone. */
  drain(process: ServerProcess): Promise<readonly number[]> {
    process.draining = true;
    const endNow = () => void this.#pool.release(process.no);
    if (process.running === 0) endNow();
    else process.drainTimer ??= setTimeout(endNow, this.options.drainMs).unref();
    return process.gone;
  }

  /** Lets the conversation of the session go. Resolves with the pids of what is left. */
  async release(recordNo: number): Promise<readonly number[]> {
    const process = this.#holderOf(recordNo);
    return process === undefined ? [] : await this.drain(process);
  }

  /** How many run no turn. */
  get idle(): number {
    return this.#pool.idle + this.#spares.length;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool.close();
    await Promise.all([...this.#processes].map((process) => process.end()));
  }

  #holderOf(recordNo: number): ServerProcess | undefined {
    return [...this.#processes].find(({ threads }) => threads.has(recordNo));
  }

  #withRoom(grant: string): ServerProcess | undefined {
    return [...this.#processes].find(
      (process) =>
        process.grant === grant && !process.draining && process.threads.size < this.options.maxThreads,
    );
  }

  /** A process that has no grant yet. */
  #forGrant({ grant, childMark }: Turn): ServerProcess {
    const prefix = childMark.split("/").slice(0, 2).join("/");
    const spare = this.#spares.find(({ draining }) => !draining);
    this.#spares = this.#spares.filter((each) => each !== spare);
    const process = spare ?? this.#start(prefix);
    process.grant = grant;
    this.#pool.add(process.no, "", process);
    this.prepare(prefix);
    return process;
  }

  #start(markPrefix: string): ServerProcess {
    // A session could have a shorter name, and its processes are ended by their mark.
    const mark = `${markPrefix}/${this.options.id}-${randomUUID()}`;
    const process = new ServerProcess(++this.#lastNo, this.options.start(mark));
    this.#processes.add(process);
    void process.gone.then(() => this.#processes.delete(process));
    return process;
  }
}

/** Drops a conversation that a turn has begun and left before its id was told: nobody can come back to it. */
function forgetEmpty({ threads }: ServerProcess, { recordNo, binding }: Turn): void {
  const thread = threads.get(recordNo);
  if (thread?.isEmpty !== true || thread.id === binding.nativeId) return;
  thread.server.forget(thread.id);
  threads.set(recordNo, undefined);
}

/** Whether the turn can go on in the process that has its session's conversation. */
function isOfUse(process: ServerProcess, { recordNo, grant, binding }: Turn): boolean {
  const thread = process.threads.get(recordNo);
  const isLoaded = thread === undefined || thread.id === binding.nativeId;
  return !process.draining && process.grant === grant && isLoaded;
}

/** A process from its start on. */
export class ServerProcess implements WarmProcess {
  grant: string | undefined;
  /** By session; undefined: not loaded yet. */
  readonly threads = new Map<number, Thread | undefined>();
  /** Turns. */
  running = 0;
  /** It has none, and the pool may end it. */
  idle = false;
  draining = false;
  drainTimer: NodeJS.Timeout | undefined;
  /** Whether it is ready for turns. */
  warm = false;
  readonly exit: Promise<unknown>;
  /** Pids of what is left. */
  readonly gone: Promise<readonly number[]>;

  constructor(
    readonly no: number,
    readonly ready: Promise<AppServer>,
  ) {
    this.exit = ready.then(
      (server) => server.exit,
      () => {},
    );
    this.gone = ready.then(
      async (server) => {
        this.warm = true;
        const { survivors } = await server.gone;
        this.draining = true;
        clearTimeout(this.drainTimer);
        return survivors;
      },
      () => {
        this.draining = true;
        return [];
      },
    );
    void this.exit.then(() => {
      this.draining = true;
    });
  }

  async end(): Promise<{ readonly survivors: readonly number[] }> {
    this.draining = true;
    clearTimeout(this.drainTimer);
    await this.ready.then(
      (server) => server.end(),
      () => {},
    );
    return { survivors: await this.gone };
  }
}
