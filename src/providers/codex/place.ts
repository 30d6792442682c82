/** A turn's place in an app server, until the turn has left it. */
import type { ProviderTurn } from "../../turns/provider.js";
import { settlesWithin } from "../process.js";
import { OpenError, openThread } from "./open.js";
import type { AppServers, Seat } from "./servers.js";
import type { Talk } from "./talk.js";
import type { Thread } from "./thread.js";

export interface PlaceSettings {
  readonly servers: AppServers;
  readonly interruptMs: number;
}

export class Place {
  /** Set once the agent may have been asked. */
  talk: Talk | undefined;
  /** What the process does for the session is not known. */
  #isOpening = false;
  #leaving: Promise<readonly number[]> | undefined;

  private constructor(
    readonly seat: Seat,
    private readonly settings: PlaceSettings,
  ) {}

  /** Undefined if the turn was stopped meanwhile. Throws what AppServers.acquire throws. */
  static async take(
    settings: PlaceSettings,
    turn: ProviderTurn,
    stopped: Promise<undefined>,
  ): Promise<Place | undefined> {
    const acquiring = settings.servers.acquire(turn);
    const seat = await Promise.race([acquiring, stopped]);
    if (seat !== undefined) return new Place(seat, settings);
    acquiring.then(
      (late) => settings.servers.giveBack(late),
      () => {},
    );
    return undefined;
  }

  /** The turn's conversation; undefined if the turn was stopped meanwhile. Throws OpenError and ServerGoneError. */
  async open(
    turn: ProviderTurn,
    model: string | undefined,
    stopped: Promise<undefined>,
  ): Promise<Thread | undefined> {
    const { process, recordNo } = this.seat;
    const loaded = process.threads.get(recordNo);
    if (loaded !== undefined) return loaded;
    this.#isOpening = true;
    const onUnsolicited = () => void this.settings.servers.drain(process);
    const opening = openThread(await process.ready, turn, model, onUnsolicited);
    try {
      const thread = await Promise.race([opening, stopped]);
      if (thread === undefined) return undefined;
      process.threads.set(recordNo, thread);
      this.#isOpening = false;
      return thread;
    } catch (error) {
      if (error instanceof OpenError) this.#isOpening = false;
      throw error;
    } finally {
      opening.catch(() => {});
    }
  }

  /** The process has forgotten the conversation. */
  forget(): void {
    const { process, recordNo } = this.seat;
    const thread = process.threads.get(recordNo);
    if (thread !== undefined) thread.server.forget(thread.id);
    process.threads.set(recordNo, undefined);
  }

  /**
   * Resolves, with the pids of what is left, when nothing of the turn runs any
   * more: at once if the agent lets it go, else when the process is gone.
   */
  leave(): Promise<readonly number[]> {
    this.#leaving ??= this.#leave();
    return this.#leaving;
  }

  async #leave(): Promise<readonly number[]> {
    const { seat, talk } = this;
    const { servers } = this.settings;
    await talk?.ended;
    talk?.dispose();
    const isOver = !this.#isOpening && talk?.end?.kind !== "stuck" && (await this.#endTools());
    if (!isOver) return await servers.giveUp(seat);
    servers.giveBack(seat);
    return [];
  }

  /**
   * Ends the commands that the turn has left running, which neither its end nor
   * an interrupt does. False if the agent does not do so.
   */
  async #endTools(): Promise<boolean> {
    const thread = this.seat.process.threads.get(this.seat.recordNo);
    if (thread === undefined || this.talk === undefined) return true;
    const ending = thread.server.call("thread/backgroundTerminals/clean", { threadId: thread.id });
    const succeeded = ending.then(
      () => true,
      () => false,
    );
    return (await settlesWithin(succeeded, this.settings.interruptMs)) && (await succeeded);
  }
}
