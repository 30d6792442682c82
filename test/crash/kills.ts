/** When a broker is killed, decided by a seed. */
import type { Random } from "../simulation/scheduler.js";
import type { TestBroker } from "../support/broker.js";
import type { Gate } from "./clients.js";
import type { Ledger } from "./ledger.js";

/** SESSION_BROKER_CRASH_SEED takes the decisions of an earlier run again, as far as processes allow. */
export const crashSeed = Number(process.env.SESSION_BROKER_CRASH_SEED ?? Date.now() % 1_000_000);

/** Moments that a kill can follow at once: most of what can go wrong lies beside a write. */
const moments = ["call", "accepted", "started", "textDelta", "textDelta", "completed", "cancelled"];
/** A moment that does not come is not waited for. */
const mostMs = 1_500;

export class Killer {
  kills = 0;

  constructor(
    private readonly broker: TestBroker,
    private readonly gate: Gate,
    private readonly ledger: Ledger,
    private readonly random: Random,
  ) {}

  /** Kills the broker at some moment, and starts it again; now and then it is killed while it starts. */
  async round(): Promise<void> {
    const { broker, gate, random } = this;
    const next = random.chance(0.3)
      ? pause(random.below(700))
      : Promise.race([this.#nth(random.pick(moments), 1 + random.below(6)), pause(mostMs)]);
    // Killed in the same step of the event loop in which a client is shown the moment.
    await next;
    gate.shut();
    await broker.kill("SIGKILL");
    this.kills += 1;
    if (random.chance(0.35)) {
      const starting = broker.start().catch(() => {});
      await pause(random.below(1_000));
      await broker.kill("SIGKILL");
      await starting;
      this.kills += 1;
    }
    await broker.start();
    gate.open();
  }

  #nth(moment: string, count: number): Promise<void> {
    return new Promise((resolve) => {
      let left = count;
      this.ledger.onMoment = (name) => {
        if (name === moment && --left === 0) resolve();
      };
    });
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
