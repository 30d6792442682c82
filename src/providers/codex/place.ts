/** A turn's place in an app server, until the turn has left it. */
import type { ProviderTurn } from "../../turns/provider.js";
import { settlesWithin } from "../process.js";
import { openThread } from "./open.js";
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
  /** While it is pending, it is not known what the process does for the session. */
  #opening: Promise<Thread> | undefined;
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
      (late) => void settings.servers.giveBack(late),
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
    const onUnsolicited = () => void this.settings.servers.drain(process);
    this.#opening = process.ready
      .then((server) => openThread(server, turn, model, onUnsolicited))
      .then((thread) => {
        process.threads.set(recordNo, thread);
        return thread;
      });
    return await Promise.race([this.#opening, stopped]);
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
    const isOver =
      (await this.#settles(this.#opening)) && talk?.end?.kind !== "stuck" && (await this.#endCommands());
    if (!isOver) return await servers.giveUp(seat);
    const thread = seat.process.threads.get(seat.recordNo);
    const left = talk === undefined ? [] : ((await thread?.server.endCommands(thread.id)) ?? []);
    return [...left, ...(await servers.giveBack(seat))];
  }

  /**
   * Has the agent end the commands that the turn has left running, which neither
   * its end nor an interrupt does. False if it does not.
   */
  async #endCommands(): Promise<boolean> {
    const thread = this.seat.process.threads.get(this.seat.recordNo);
    if (thread === undefined || this.talk === undefined) return true;
    const ending = thread.server.call("thread/backgroundTerminals/clean", { threadId: thread.id });
    const succeeded = ending.then(
      () => true,
      () => false,
    );
    return (await this.#settles(succeeded)) && (await succeeded);
  }

  async #settles(answer: Promise<unknown> | undefined): Promise<boolean> {
    if (answer === undefined) return true;
    const settled = answer.catch(() => {});
    return await settlesWithin(settled, this.settings.interruptMs);
  }
}
