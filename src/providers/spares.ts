/**
 * Processes that are started before there is a session for them, each in a
 * directory of its own, which becomes the directory of the session it is given
 * to.
 *
 *     (starting) ──▶ ready ──reserve──▶ reserved ──take──▶ (the session's)
 *                      └──exit──▶ (gone; its directory is removed)
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readlink, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { AheadPlace } from "../turns/provider.js";
import { giveTo, type RunAs } from "./run-as.js";
import type { WarmProcess } from "./warm-pool.js";

export interface Spare<P> {
  readonly process: P;
  /** Absolute path. */
  readonly directory: string;
  /** Of the conversation that it will open. */
  readonly nativeId: string;
}

export interface SparesOptions<P> {
  /** Ready at a time. */
  readonly count: number;
  /** Whose directories they are. Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  readonly start: (spare: Omit<Spare<P>, "process"> & { readonly mark: string }) => Promise<P>;
}

/** A process that ends sooner cannot be kept ready; no other is started before one is wanted. */
const shortestLifeMs = 10_000;
const refillMs = 1_000;

export class Spares<P extends WarmProcess> {
  readonly #ready: Spare<P>[] = [];
  readonly #reserved = new Map<number, Spare<P>>();
  #place: AheadPlace | undefined;
  #filling: Promise<void> | undefined;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: SparesOptions<P>) {}

  /** From now on processes are kept ready. */
  begin(place: AheadPlace): void {
    if (this.options.count === 0) return;
    this.#filling = removeUnused(place.directories).finally(() => {
      this.#filling = undefined;
      this.#place = place;
      this.#fill();
    });
  }

  /** The directory of a process that the session will get; undefined if none is ready. */
  reserve(recordNo: number): string | undefined {
    const spare = this.#ready.shift();
    this.#fillLater();
    if (spare === undefined) return undefined;
    this.#reserved.set(recordNo, spare);
    return spare.directory;
  }

  /** The process that was reserved for the session. */
  take(recordNo: number): Spare<P> | undefined {
    const spare = this.#reserved.get(recordNo);
    this.#reserved.delete(recordNo);
    return spare;
  }

  /** How many wait for a session. */
  get size(): number {
    return this.#ready.length + this.#reserved.size;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#filling;
    const spares = [...this.#ready.splice(0), ...this.#reserved.values()];
    await Promise.all(spares.map((spare) => this.#discard(spare)));
  }

  /** The turn that has just been given a process needs the machine more than one that may come. */
  #fillLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#fill();
    }, refillMs).unref();
  }

  #fill(): void {
    if (this.#place === undefined || this.#closed) return;
    this.#filling ??= this.#startAll(this.#place).finally(() => {
      this.#filling = undefined;
    });
  }

  async #startAll(place: AheadPlace): Promise<void> {
    while (this.#ready.length < this.options.count && !this.#closed) {
      const nativeId = randomUUID();
      const directory = join(place.directories, nativeId);
      try {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        giveTo(this.options.runAs, directory);
        const process = await this.options.start({
          directory,
          nativeId,
          mark: `${place.mark}/ahead-${nativeId}`,
        });
        this.#keep({ process, directory, nativeId });
      } catch {
        // The turn that starts one for itself tells why it cannot be started.
        await rmdir(directory).catch(() => {});
        return;
      }
    }
  }

  #keep(spare: Spare<P>): void {
    const bornMs = performance.now();
    this.#ready.push(spare);
    spare.process.exit.then(() => {
      const index = this.#ready.indexOf(spare);
      if (index < 0) return;
      this.#ready.splice(index, 1);
      void rmdir(spare.directory).catch(() => {});
      if (performance.now() - bornMs >= shortestLifeMs && !this.#closed) this.#fill();
    });
  }

  async #discard({ process, directory }: Spare<P>): Promise<void> {
    await process.end();
    await rmdir(directory).catch(() => {});
  }
}

/** Directories that an earlier life has made and given to no session. */
async function removeUnused(directories: string): Promise<void> {
  const names = await readdir(directories).catch(() => []);
  if (names.length === 0) return;
  const root = dirname(directories);
  const entries = await readdir(root, { withFileTypes: true });
  const links = entries.filter((entry) => entry.isSymbolicLink());
  const used = new Set(await Promise.all(links.map(({ name }) => readlink(join(root, name)))));
  for (const name of names) {
    const directory = join(directories, name);
    // One that holds anything stays.
    if (!used.has(directory)) await rmdir(directory).catch(() => {});
  }
}
